//! Scans as code: compiled loops against the definition, and what a loop costs.

#[path = "programs/mlp.rs"]
mod mlp;
mod programs;
#[path = "programs/recurrent.rs"]
mod recurrent;
#[path = "programs/writer.rs"]
mod writer;

use mlp::train_step;
use nnc::codegen::backends;
use nnc::ir::dim::Dim;
use nnc::ir::graph::{Function, ResultRole, Role};
use nnc::ir::loops::{Buffer, Place, Program, steps, text};
use nnc::ir::ops::slice::Slice;
use nnc::ir::scalar::{Monoid, ScalarFunction as F};
use nnc::ir::types::DType;
use programs::agreement::{agree, compile};
use programs::*;
use recurrent::{Lstm, scan};
use writer::Writer;

fn verified(function: &Function) {
    agree(function, &arguments_for(function)).unwrap_or_else(|e| panic!("{e}\n{function}"));
}

#[test]
fn recurrent_nets_of_many_shapes() {
    for (batch, length, inputs, units) in [(1, 1, 1, 1), (3, 5, 2, 4), (9, 3, 7, 16), (2, 0, 3, 2), (33, 4, 20, 24)] {
        for (batch_first, reverse) in [(false, false), (true, true)] {
            let net = Lstm { batch, length, inputs, units, batch_first, reverse };
            verified(&net.forward());
            verified(&net.train_step(true));
        }
    }
}

#[test]
fn carries_that_change_places() {
    // (a, b, c, d) becomes (b, a + x, d's element, w): swapped, from a sequence, from a capture; and e never changes.
    let mut w = Writer::default();
    let names = ["a", "b", "c", "d", "e"];
    let first: Vec<_> = names.iter().map(|n| w.argument(n, Role::State, DType::F32, &[5])).collect();
    let x = w.argument("x", Role::Input, DType::F32, &[6, 5]);
    let capture = w.argument("w", Role::Input, DType::F32, &[5]);
    let outputs = scan(&mut w, (6, false), &first, &[x], &[capture], |b, round, carries, elements, captures| {
        let sum = b.map(F::Add, &[carries[0], elements[0]]);
        let number = b.b.cast(round, DType::F32);
        let next = vec![carries[1], sum, elements[0], captures[0], carries[4]];
        // Old and new values, a constant, the number of the round, an element, and one value twice.
        let zero = b.b.constant(0.5, DType::F32, &[]);
        (next, vec![carries[0], sum, zero, number, elements[0], captures[0], sum, carries[3]])
    });
    for (number, value) in outputs.iter().enumerate() {
        w.result(&format!("y{number}"), ResultRole::Output, *value);
    }
    w.result("again", ResultRole::Output, outputs[1]);
    w.result("a", ResultRole::Update(0), outputs[0]);
    w.result("b", ResultRole::Update(1), outputs[3]);
    w.result("c", ResultRole::Update(2), outputs[2]);
    verified(&w.finish_raw());
}

#[test]
fn a_state_is_carried_in_its_place() {
    let mut w = Writer::default();
    let h = w.argument("h", Role::State, DType::F32, &[40]);
    let x = w.argument("x", Role::Input, DType::F32, &[3, 40]);
    let outputs = scan(&mut w, (3, false), &[h], &[x], &[h], |b, _, carries, elements, captures| {
        let sum = b.map(F::Add, &[carries[0], elements[0]]);
        let next = b.map(F::Mul, &[sum, captures[0]]);
        (vec![next], vec![])
    });
    w.result("h", ResultRole::Update(0), outputs[0]);
    let twice = w.map(F::Add, &[h, outputs[0]]);
    w.result("y", ResultRole::Output, twice);
    verified(&w.finish_raw());
}

#[test]
fn loops_in_loops() {
    // The inner loop runs backwards over the columns of the outer one's element, starts at the outer carry and captures it too.
    for (rows, columns) in [(4, 5), (1, 7), (3, 0), (0, 2)] {
        let mut w = Writer::default();
        let s = w.argument("s", Role::Input, DType::F32, &[6]);
        let x = w.argument("x", Role::Input, DType::F32, &[rows, 6, columns]);
        let matrix = w.argument("m", Role::Input, DType::F32, &[6, 6]);
        let outer = scan(&mut w, (rows, false), &[s], &[x], &[matrix], |b, round, carries, elements, captures| {
            let turned = b.b.transpose(elements[0], &[1, 0]).unwrap();
            let inner = [carries[0], captures[0]];
            let found =
                scan(b, (columns, true), &carries[..1], &[turned], &inner, |b, round, carries, elements, captures| {
                    let product = b.b.contract((carries[0], &[0]), (captures[1], &[0, 1]), &[1]).unwrap();
                    let sum = b.map(F::Add, &[product, elements[0]]);
                    let number = b.b.cast(round, DType::F32);
                    let shifted = b.map(F::Add, &[sum, number]);
                    let bounded = b.map(F::Tanh, &[shifted]);
                    let next = b.map(F::Sub, &[bounded, captures[0]]);
                    (vec![next], vec![sum, carries[0]])
                });
            let total = b.b.reduce(Monoid::Sum, found[1], &[0], false).unwrap();
            let number = b.b.cast(round, DType::F32);
            let next = b.map(F::Mul, &[found[0], total]);
            let bounded = b.map(F::Tanh, &[next]);
            let again = b.map(F::Add, &[bounded, number]);
            (vec![bounded], vec![found[1], found[2], again])
        });
        for (number, value) in outer.iter().enumerate() {
            w.result(&format!("y{number}"), ResultRole::Output, *value);
        }
        verified(&w.finish());
    }
}

#[test]
fn sequences_and_captures_stand_in_memory_in_any_way() {
    let mut w = Writer::default();
    let x = w.argument("x", Role::Input, DType::F32, &[7, 9, 4]);
    let v = w.argument("v", Role::Input, DType::F32, &[9, 8]);
    let h = w.argument("h", Role::Input, DType::F32, &[9, 4]);
    // Every other row backwards, of a transposed array; a transposed and reversed capture; one broadcast.
    let slice = |w: &mut Writer, value, starts: &[i64], sizes: &[i64], steps: &[i64]| {
        let dims = |n: &[i64]| n.iter().map(|n| Dim::from(*n)).collect();
        w.b.emit(Slice { starts: dims(starts), sizes: dims(sizes), steps: steps.to_vec() }, &[value])
    };
    let turned = w.b.transpose(x, &[2, 1, 0]).unwrap();
    let sequence = slice(&mut w, turned, &[3, 8, 6], &[2, 9, 4], &[-2, -1, -2]);
    let capture = w.b.transpose(v, &[1, 0]).unwrap();
    let capture = slice(&mut w, capture, &[7, 0], &[4, 9], &[-2, 1]);
    let row = slice(&mut w, h, &[2, 0], &[1, 4], &[1, 1]);
    let row = w.b.reshape(row, &[4i64.into()]).unwrap();
    let wide = w.b.broadcast(row, &[9i64.into(), 4i64.into()]).unwrap();
    let outputs = scan(&mut w, (2, true), &[h], &[sequence], &[capture, wide], |b, _, carries, elements, captures| {
        let product = b.product(carries[0], captures[0]);
        let back = b.product(product, elements[0]);
        let sum = b.map(F::Add, &[back, captures[1]]);
        let next = b.map(F::Tanh, &[sum]);
        let split = b.b.reshape(elements[0], &[3i64.into(), 3i64.into(), 2i64.into(), 2i64.into()]).unwrap();
        let flat = b.b.reshape(captures[0], &[36i64.into()]).unwrap();
        (vec![next], vec![elements[0], split, flat, captures[1]])
    });
    for (number, value) in outputs.iter().enumerate() {
        w.result(&format!("y{number}"), ResultRole::Output, *value);
    }
    verified(&w.finish());
}

#[test]
fn a_sequence_along_the_second_axis_is_not_copied() {
    let net = Lstm { batch: 16, length: 12, inputs: 8, units: 16, batch_first: true, reverse: false };
    let program = compile(&net.forward(), true).unwrap();
    let copied = |b: &Buffer| matches!(b.place, Place::Arena { .. }) && b.elements == 16 * 12 * 8;
    assert!(!program.buffers.iter().any(copied), "{}", text::program(&program));
}

/// Bytes of machine code.
fn code_bytes(program: &Program) -> usize {
    backends()[0].jit(std::slice::from_ref(program)).unwrap().code_bytes()
}

#[test]
fn code_does_not_depend_on_the_number_of_rounds() {
    let of = |length: usize| {
        let net = Lstm { batch: 4, length, inputs: 8, units: 16, batch_first: false, reverse: false };
        [net.forward(), net.train_step(false)].map(|f| compile(&f, true).unwrap())
    };
    for (short, long) in of(1000).into_iter().zip(of(100_000)) {
        // Of products over all rounds the edges may differ: a kernel, no more.
        assert!(steps::calls(&short.steps).len().abs_diff(steps::calls(&long.steps).len()) <= 1);
        let (few, many) = (code_bytes(&short), code_bytes(&long));
        assert!(few.abs_diff(many) <= few / 8, "{few} bytes of code for 1000 rounds, {many} for 100000");
    }
}

/// A stack of dense layers of one size with relu between them.
fn stack(layers: usize) -> Function {
    let mut w = Writer::default();
    let mut h = w.argument("x", Role::Input, DType::F32, &[32, 64]);
    for layer in 0..layers {
        let matrix = w.argument(&format!("w{layer}"), Role::Parameter, DType::F32, &[64, 64]);
        let bias = w.argument(&format!("b{layer}"), Role::Parameter, DType::F32, &[64]);
        let product = w.product(h, matrix);
        let sum = w.map(F::Add, &[product, bias]);
        let zero = w.number(0.0, sum);
        h = w.map(F::Max, &[sum, zero]);
    }
    w.result("y", ResultRole::Output, h);
    w.finish()
}

#[test]
fn identical_layers_add_calls_and_no_kernels() {
    let size = |function: &Function| {
        let program = compile(function, true).unwrap();
        (program.kernels.len(), steps::calls(&program.steps).len())
    };
    for (name, of) in [
        ("inference", &(|layers| size(&stack(layers))) as &dyn Fn(usize) -> (usize, usize)),
        ("training", &|layers| size(&train_step(32, &vec![64; layers + 1]))),
    ] {
        let [few, some, many] = [4, 8, 16].map(of);
        assert_eq!((few.0, some.0), (some.0, many.0), "{name}");
        let each = (some.1 - few.1) / 4;
        assert_eq!((some.1, many.1), (few.1 + 4 * each, few.1 + 12 * each), "{name}");
    }
}
