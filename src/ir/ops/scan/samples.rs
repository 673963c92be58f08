//! Loops for the tests that every op gets: their bodies are written in the graph's text form.

use std::sync::Arc;

use super::{DType, Dim, Scan};
use crate::ir::ops::{Sample, sample};
use crate::ir::tensor::Tensor;
use crate::ir::text;
use crate::ir::types::TensorType;

/// h' = tanh(h w + x), which is also yielded.
const RECURRENT: &str = "function round
  argument round: step i32[]
  argument h: state f32[2, 3]
  argument x: input f32[2, 3]
  argument w: input f32[3, 3]
  %0 = argument() index=1 dtype=f32 shape=[2, 3] : f32[2, 3]
  %1 = argument() index=2 dtype=f32 shape=[2, 3] : f32[2, 3]
  %2 = argument() index=3 dtype=f32 shape=[3, 3] : f32[3, 3]
  %3 = contract(%0, %2) left=[0, 1] right=[1, 2] result=[0, 2] : f32[2, 3]
  %4 = map(%3, %1) function=add : f32[2, 3]
  %5 = map(%4) function=tanh : f32[2, 3]
  result h: update 1 = %5
  result y: output = %5
  result h_before: output = %0";

/// A product that is carried, a count beside it, and two sequences; the first yield is the new carry, the second the count before.
const COUNTED: &str = "function round
  argument round: step i32[]
  argument p: state f32[]
  argument n: state i32[]
  argument x: input f32[]
  argument y: input f32[]
  %0 = argument() index=0 dtype=i32 shape=[] : i32[]
  %1 = argument() index=1 dtype=f32 shape=[] : f32[]
  %2 = argument() index=2 dtype=i32 shape=[] : i32[]
  %3 = argument() index=3 dtype=f32 shape=[] : f32[]
  %4 = argument() index=4 dtype=f32 shape=[] : f32[]
  %5 = map(%2, %0) function=add : i32[]
  %6 = cast(%5) dtype=f32 : f32[]
  %7 = map(%3, %6) function=mul : f32[]
  %8 = map(%7, %4) function=add : f32[]
  %9 = map(%1, %8) function=mul : f32[]
  %10 = map(%9) function=sin : f32[]
  result p: update 1 = %10
  result n: update 2 = %5
  result y: output = %10
  result n_before: output = %2";

/// A count without sequences and without yields: x' = w x - x^2.
const LOGISTIC: &str = "function round
  argument round: step i32[]
  argument x: state f32[4]
  argument w: input f32[4]
  %0 = argument() index=1 dtype=f32 shape=[4] : f32[4]
  %1 = argument() index=2 dtype=f32 shape=[4] : f32[4]
  %2 = map(%1, %0) function=mul : f32[4]
  %3 = map(%0, %0) function=mul : f32[4]
  %4 = map(%2, %3) function=sub : f32[4]
  result x: update 1 = %4";

/// No carry: each element times the capture.
const SCALED: &str = "function round
  argument round: step i32[]
  argument x: input f32[3]
  argument w: input f32[3]
  %0 = argument() index=1 dtype=f32 shape=[3] : f32[3]
  %1 = argument() index=2 dtype=f32 shape=[3] : f32[3]
  %2 = map(%0, %1) function=mul : f32[3]
  result y: output = %2";

/// A loop over columns inside one over rows, with a carry and a capture in both.
const NESTED: &str = "function rows
  argument round: step i32[]
  argument s: state f32[]
  argument row: input f32[3]
  argument w: input f32[]
  %0 = argument() index=1 dtype=f32 shape=[] : f32[]
  %1 = argument() index=2 dtype=f32 shape=[3] : f32[3]
  %2 = argument() index=3 dtype=f32 shape=[] : f32[]
  %3, %4, %5 = scan(%0, %1, %2) length=3 carries=1 sequences=1 reverse=true body={
    function columns
    argument round: step i32[]
    argument s: state f32[]
    argument x: input f32[]
    argument w: input f32[]
    %0 = argument() index=1 dtype=f32 shape=[] : f32[]
    %1 = argument() index=2 dtype=f32 shape=[] : f32[]
    %2 = argument() index=3 dtype=f32 shape=[] : f32[]
    %3 = map(%0, %2) function=mul : f32[]
    %4 = map(%3, %1) function=add : f32[]
    %5 = map(%4) function=tanh : f32[]
    result s: update 1 = %5
    result y: output = %3
    result s_before: output = %0
  } : f32[], f32[3], f32[3]
  result s: update 1 = %3
  result y: output = %4
  result s_before: output = %0";

fn scan(body: &str, length: usize, carries: u32, sequences: u32, reverse: bool) -> Scan {
    let body = text::parse(body).unwrap_or_else(|e| panic!("the body of a sample: {e}"));
    Scan { body: Arc::new(body), length: Dim::from(length), carries, sequences, reverse, lean: false }
}

/// See the module.
pub(super) fn samples() -> Vec<Sample<Scan>> {
    let recurrent = |length: usize, reverse: bool| Sample {
        op: scan(RECURRENT, length, 1, 1, reverse),
        inputs: vec![sample::signed(&[2, 3], 1), sample::signed(&[length, 2, 3], 2), sample::signed(&[3, 3], 3)],
    };
    let count = || Tensor::new(TensorType::scalar(DType::I32), vec![2.0]);
    let counted = |length: usize, reverse: bool| Sample {
        op: scan(COUNTED, length, 2, 2, reverse),
        inputs: vec![sample::positive(&[], 1), count(), sample::signed(&[length], 2), sample::signed(&[length], 3)],
    };
    let logistic = |length: usize| Sample {
        op: scan(LOGISTIC, length, 1, 0, false),
        inputs: vec![sample::signed(&[4], 4), sample::positive(&[4], 5)],
    };
    vec![
        recurrent(4, false),
        recurrent(3, true),
        recurrent(1, false),
        recurrent(0, false),
        counted(5, false),
        counted(3, true),
        logistic(3),
        logistic(0),
        Sample { op: scan(SCALED, 4, 0, 1, false), inputs: vec![sample::signed(&[4, 3], 6), sample::signed(&[3], 7)] },
        Sample {
            op: scan(NESTED, 2, 1, 1, false),
            inputs: vec![sample::signed(&[], 1), sample::signed(&[2, 3], 8), sample::signed(&[], 9)],
        },
    ]
}
