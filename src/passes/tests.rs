//! What the tests of small graph passes share.

use super::GraphPass;
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
