//! The functions inside a function: what passes do to the bodies of loops.

use std::sync::Arc;

use super::PassError;
use crate::ir::graph::Function;
use crate::ir::ops::Op;
use crate::ir::ops::scan::Scan;
use crate::ir::rewrite::Rewriter;

/// The function with each loop's body replaced by what `change` makes of it, under the same arguments and results.
///
/// # Errors
/// What `change` says.
pub fn map(
    function: &Function,
    mut change: impl FnMut(&Function) -> Result<Function, PassError>,
) -> Result<Function, PassError> {
    if !any(function, |_| true) {
        return Ok(function.clone());
    }
    let mut rewriter = Rewriter::new(function.graph.len());
    for (id, node) in function.graph.nodes() {
        let Op::Scan(scan) = &node.op else {
            rewriter.copy(id, node);
            continue;
        };
        let body = Arc::new(change(&scan.body)?);
        let values = rewriter
            .add(node, Op::Scan(Scan { body, ..scan.clone() }))
            .unwrap_or_else(|e| panic!("a pass changed what a loop's body takes or gives: {e}"));
        rewriter.set(id, values);
    }
    Ok(rewriter.finish(function))
}

/// Whether the body of some loop of the function itself is as `is` says.
pub fn any(function: &Function, is: impl Fn(&Function) -> bool) -> bool {
    function.graph.nodes().any(|(_, node)| matches!(&node.op, Op::Scan(scan) if is(&scan.body)))
}
