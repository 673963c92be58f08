//! A training step of a fully connected net, built by hand: what the frontend would make of dense layers and Adam.

use nnc::ir::dim::Dim;
use nnc::ir::graph::{Function, ResultRole, Role, ValueId};
use nnc::ir::scalar::{Monoid, ScalarFunction as F};
use nnc::ir::types::DType;
use nnc::passes::GRAPH_PASSES;

use crate::writer::Writer;

impl Writer {
    /// A number beside `like`.
    pub fn number(&mut self, value: f64, like: ValueId) -> ValueId {
        let dtype = self.b.dtype_of(like);
        self.b.constant(value, dtype, &[])
    }

    /// The matrix product.
    pub fn product(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.b.contract((a, &[0, 1]), (b, &[1, 2]), &[0, 2]).unwrap()
    }

    /// The function after the passes on graphs.
    pub fn finish(self) -> Function {
        let function = self.finish_raw();
        GRAPH_PASSES.iter().fold(function, |f, pass| pass.apply(&f).unwrap())
    }
}

/// One step of Adam on the mean cross-entropy of a net with relu between its layers.
///
/// Arguments: image, label, step, then w, b of each layer, then m and v of each parameter.
pub fn train_step(batch: usize, sizes: &[usize]) -> Function {
    let mut w = Writer::default();
    let image = w.argument("image", Role::Input, DType::F32, &[batch, sizes[0]]);
    let classes = sizes[sizes.len() - 1];
    let label = w.argument("label", Role::Target, DType::I32, &[batch]);
    let step = w.argument("step", Role::Step, DType::I32, &[]);
    let mut parameters = Vec::new();
    for (i, pair) in sizes.windows(2).enumerate() {
        for (name, shape) in [("w", vec![pair[0], pair[1]]), ("b", vec![pair[1]])] {
            let path = format!("dense_{}.{name}", i + 1);
            parameters.push((path.clone(), w.argument(&path, Role::Parameter, DType::F32, &shape), shape));
        }
    }
    let mut h = image;
    for layer in 0..sizes.len() - 1 {
        let product = w.product(h, parameters[2 * layer].1);
        h = w.map(F::Add, &[product, parameters[2 * layer + 1].1]);
        if layer + 2 < sizes.len() {
            let zero = w.number(0.0, h);
            h = w.map(F::Max, &[h, zero]);
        }
    }
    let loss = cross_entropy(&mut w, h, label, batch, classes);
    w.result("ce", ResultRole::Loss, loss);
    let values: Vec<ValueId> = parameters.iter().map(|p| p.1).collect();
    let gradients = w.b.grad(loss, &values).unwrap();
    let step = w.b.cast(step, DType::F32);
    for ((path, value, shape), gradient) in parameters.into_iter().zip(gradients) {
        adam(&mut w, &path, value, &shape, gradient, step);
    }
    w.finish()
}

/// The mean over the rows of `-log_softmax(logits)[label]`.
fn cross_entropy(w: &mut Writer, logits: ValueId, label: ValueId, batch: usize, classes: usize) -> ValueId {
    let largest = w.b.reduce(Monoid::Max, logits, &[1], true).unwrap();
    let largest = w.b.stop_gradient(largest);
    let shifted = w.map(F::Sub, &[logits, largest]);
    let powers = w.map(F::Exp, &[shifted]);
    let total = w.b.reduce(Monoid::Sum, powers, &[1], true).unwrap();
    let log = w.map(F::Log, &[total]);
    let log_p = w.map(F::Sub, &[shifted, log]);
    let shape: Vec<Dim> = vec![batch.into(), classes.into()];
    let numbers = w.b.emit(nnc::ir::ops::iota::Iota { shape: shape.clone(), axis: 1 }, &[]);
    let wanted = w.b.broadcast_axes(label, &shape, vec![0]).unwrap();
    let hit = w.map(F::Equal, &[numbers, wanted]);
    let zero = w.number(0.0, log_p);
    let picked = w.map(F::Select, &[hit, log_p, zero]);
    let sum = w.b.reduce(Monoid::Sum, picked, &[0, 1], false).unwrap();
    let scale = w.number(-1.0 / batch as f64, sum);
    w.map(F::Mul, &[sum, scale])
}

fn adam(w: &mut Writer, path: &str, value: ValueId, shape: &[usize], gradient: ValueId, step: ValueId) {
    let mut state = |name: &str| {
        let index = w.arguments.len() as u32;
        (index, w.argument(&format!("adam.{name}/{path}"), Role::OptimizerState, DType::F32, shape))
    };
    let ((m_index, m), (v_index, v)) = (state("m"), state("v"));
    let blend = |w: &mut Writer, beta: f64, old: ValueId, new: ValueId| {
        let (keep, take) = (w.number(beta, old), w.number(1.0 - beta, old));
        let (a, b) = (w.map(F::Mul, &[old, keep]), w.map(F::Mul, &[new, take]));
        w.map(F::Add, &[a, b])
    };
    let rest = |w: &mut Writer, beta: f64| {
        let (one, base) = (w.number(1.0, step), w.number(beta, step));
        let power = w.map(F::Pow, &[base, step]);
        w.map(F::Sub, &[one, power])
    };
    let m = blend(w, 0.9, m, gradient);
    let square = w.map(F::Mul, &[gradient, gradient]);
    let v = blend(w, 0.999, v, square);
    let (m_rest, v_rest) = (rest(w, 0.9), rest(w, 0.999));
    let rate = w.number(1e-3, m_rest);
    let size = w.map(F::Div, &[rate, m_rest]);
    let v_root = w.map(F::Sqrt, &[v_rest]);
    let one = w.number(1.0, v_root);
    let scale = w.map(F::Div, &[one, v_root]);
    let root = w.map(F::Sqrt, &[v]);
    let scaled = w.map(F::Mul, &[root, scale]);
    let epsilon = w.number(1e-8, scaled);
    let below = w.map(F::Add, &[scaled, epsilon]);
    let above = w.map(F::Mul, &[m, size]);
    let change = w.map(F::Div, &[above, below]);
    let new = w.map(F::Sub, &[value, change]);
    let index = w.arguments.iter().position(|a| a.name == path).unwrap() as u32;
    w.result(path, ResultRole::Update(index), new);
    w.result(&format!("adam.m/{path}"), ResultRole::Update(m_index), m);
    w.result(&format!("adam.v/{path}"), ResultRole::Update(v_index), v);
}
