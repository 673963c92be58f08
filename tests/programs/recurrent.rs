//! Functions with scans, built by hand.

use std::sync::Arc;

use nnc::ir::dim::Dim;
use nnc::ir::graph::{Function, ResultRole, Role, ValueId};
use nnc::ir::ops::scan::Scan;
use nnc::ir::ops::slice::Slice;
use nnc::ir::scalar::{Monoid, ScalarFunction as F};
use nnc::ir::types::{DType, TensorType};

use crate::writer::Writer;

/// The parts of a tuple of next carries and yields.
type Round = (Vec<ValueId>, Vec<ValueId>);

/// Adds a scan of `(length, reverse)` whose body is written from the round's number, the carries, the elements and the captures.
pub fn scan(
    w: &mut Writer,
    (length, reverse): (usize, bool),
    carries: &[ValueId],
    sequences: &[ValueId],
    captures: &[ValueId],
    write: impl FnOnce(&mut Writer, ValueId, &[ValueId], &[ValueId], &[ValueId]) -> Round,
) -> Vec<ValueId> {
    let mut body = Writer::default();
    let round = body.argument("round", Role::Step, DType::I32, &[]);
    let mut declare = |prefix: &str, role: Role, values: &[ValueId], skip: usize| -> Vec<ValueId> {
        let one = |(i, v): (usize, &ValueId)| {
            let ty: &TensorType = w.b.type_of(*v);
            body.argument(&format!("{prefix}{i}"), role, ty.dtype, &ty.sizes().unwrap()[skip..])
        };
        values.iter().enumerate().map(one).collect()
    };
    let own = declare("carry", Role::State, carries, 0);
    let elements = declare("element", Role::Input, sequences, 1);
    let captured = declare("capture", Role::Input, captures, 0);
    let (next, yields) = write(&mut body, round, &own, &elements, &captured);
    for (i, value) in next.into_iter().enumerate() {
        body.result(&format!("carry{i}"), ResultRole::Update(1 + i as u32), value);
    }
    for (i, value) in yields.into_iter().enumerate() {
        body.result(&format!("yield{i}"), ResultRole::Output, value);
    }
    let op = Scan {
        body: Arc::new(body.finish_raw()),
        length: Dim::from(length),
        carries: carries.len() as u32,
        sequences: sequences.len() as u32,
        reverse,
        lean: false,
    };
    let operands: Vec<ValueId> = [carries, sequences, captures].concat();
    w.b.add(op, &operands).unwrap()
}

/// A net of one LSTM layer.
#[derive(Clone, Copy, Debug)]
pub struct Lstm {
    pub batch: usize,
    pub length: usize,
    pub inputs: usize,
    pub units: usize,
    /// Whether the input is `[batch, length, inputs]` and not `[length, batch, inputs]`.
    pub batch_first: bool,
    pub reverse: bool,
}

impl Lstm {
    /// The hidden states and the last cells.
    pub fn forward(self) -> Function {
        let mut w = Writer::default();
        let parameters = self.parameters(&mut w);
        let [h, c, hs] = self.layer(&mut w, &parameters);
        w.result("h", ResultRole::Output, h);
        w.result("c", ResultRole::Output, c);
        w.result("hs", ResultRole::Output, hs);
        w.finish()
    }

    /// One step of gradient descent on the product of the last hidden state and the last cell; on the square of all hidden states too, if
    /// `all`.
    pub fn train_step(self, all: bool) -> Function {
        let mut w = Writer::default();
        let parameters = self.parameters(&mut w);
        let [h, c, hs] = self.layer(&mut w, &parameters);
        let ends = w.map(F::Mul, &[h, c]);
        let mut loss = w.b.reduce(Monoid::Sum, ends, &[0, 1], false).unwrap();
        if all {
            let square = w.map(F::Mul, &[hs, hs]);
            let sum = w.b.reduce(Monoid::Sum, square, &[0, 1, 2], false).unwrap();
            loss = w.map(F::Add, &[sum, loss]);
        }
        w.result("loss", ResultRole::Loss, loss);
        let gradients = w.b.grad(loss, &parameters[1..]).unwrap();
        for (number, (value, gradient)) in parameters[1..].iter().zip(gradients).enumerate() {
            let rate = w.number(0.01, *value);
            let change = w.map(F::Mul, &[rate, gradient]);
            let next = w.map(F::Sub, &[*value, change]);
            let name = w.arguments[1 + number].name.clone();
            w.result(&name, ResultRole::Update(1 + number as u32), next);
        }
        w.finish()
    }

    /// The input, then `w`, `u` and `b`.
    fn parameters(self, w: &mut Writer) -> Vec<ValueId> {
        let Lstm { batch, length, inputs, units, .. } = self;
        let shape = if self.batch_first { [batch, length, inputs] } else { [length, batch, inputs] };
        let x = w.argument("x", Role::Input, DType::F32, &shape);
        let shapes = [("w", vec![inputs, 4 * units]), ("u", vec![units, 4 * units]), ("b", vec![4 * units])];
        let rest = shapes.map(|(name, shape)| w.argument(name, Role::Parameter, DType::F32, &shape));
        std::iter::once(x).chain(rest).collect()
    }

    /// The last hidden state, the last cell, and all hidden states.
    fn layer(self, w: &mut Writer, parameters: &[ValueId]) -> [ValueId; 3] {
        let x = if self.batch_first { w.b.transpose(parameters[0], &[1, 0, 2]).unwrap() } else { parameters[0] };
        let shape = [Dim::from(self.batch), Dim::from(self.units)];
        let zero = w.b.constant(0.0, DType::F32, &shape);
        let units = self.units;
        let out = scan(w, (self.length, self.reverse), &[zero, zero], &[x], &parameters[1..], |b, _, hc, x, p| {
            let from_input = b.product(x[0], p[0]);
            let from_state = b.product(hc[0], p[1]);
            let sum = b.map(F::Add, &[from_input, from_state]);
            let sum = b.map(F::Add, &[sum, p[2]]);
            let gate = |b: &mut Writer, number: usize| {
                let starts = vec![0i64.into(), (number * units).into()];
                b.b.emit(Slice { starts, sizes: shape.to_vec(), steps: vec![1, 1] }, &[sum])
            };
            let [i, f, g, o] = [0, 1, 2, 3].map(|n| gate(b, n));
            let [i, f, o] = [i, f, o].map(|v| b.map(F::Sigmoid, &[v]));
            let g = b.map(F::Tanh, &[g]);
            let kept = b.map(F::Mul, &[f, hc[1]]);
            let new = b.map(F::Mul, &[i, g]);
            let c = b.map(F::Add, &[kept, new]);
            let bounded = b.map(F::Tanh, &[c]);
            let h = b.map(F::Mul, &[o, bounded]);
            (vec![h, c], vec![h, hc[0], hc[1]])
        });
        [out[0], out[1], out[2]]
    }
}
