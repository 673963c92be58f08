//! What the tests of small passes share.

use super::GraphPass;
use crate::ir::loops::{Program, interpret, verify};
use crate::ir::text;

/// A function of two vectors x (`%0`) and y (`%1`) of three f32 with these further nodes and results, after a pass; without the
/// lines that every such function begins with.
pub(super) fn after(pass: &GraphPass, nodes: &str) -> String {
    let source = format!(
        "function f
           argument x: input f32[3]
           argument y: input f32[3]
           %0 = argument() index=0 dtype=f32 shape=[3] : f32[3]
           %1 = argument() index=1 dtype=f32 shape=[3] : f32[3]
           {nodes}"
    );
    let printed = pass.apply(&text::parse(&source).unwrap()).unwrap().to_string();
    printed.lines().skip(3).map(|line| line.trim_start().to_string() + "\n").collect()
}

/// Holds a program against the one that a pass makes of it: both write the same to argument 1 for the numbers from 0 on in argument 0, so many each.
pub(super) fn computes_the_same(before: &Program, after: &Program, elements: usize) {
    verify::program(after).unwrap();
    let results = [before, after].map(|program| {
        let x = (0..elements).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let mut arguments = [x, vec![0; 4 * elements]];
        interpret::program(program, &mut arguments).unwrap();
        arguments[1].clone()
    });
    assert_eq!(results[0], results[1]);
}
