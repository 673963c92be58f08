//! Rows of a table's product instead of products of a table's rows: the same numbers, of which fewer are computed.

mod programs;

use nnc::codegen::backends;
use nnc::driver::{Entry, compile};
use nnc::ir::graph::Function;
use nnc::ir::interpret;
use nnc::ir::ops::Op;
use nnc::passes::{GRAPH_PASSES, Limits, dce};
use programs::agreement::{self, agree};
use programs::*;

/// A table of 9 rows of 40 and weights; `y` is the model's own.
fn model(body: &str) -> Function {
    let source = format!(
        "model M {{ input i: i32[batch, 8]; param e: f32[9, 40] = ones; param w: f32[40, 12] = ones; param v: f32[12, 33] = ones
           param b: f32[12] = ones
           {body}; s = sum(y * y) + sum(e) + sum(w) + sum(v) + sum(b)
           output y; output de = grad(s, e); output dw = grad(s, w); output dv = grad(s, v); output db = grad(s, b) }}"
    );
    let compiled = compile("test.nn", &source).unwrap_or_else(|e| panic!("{body}: {e}"));
    let sizes = compiled.sizes(3).unwrap();
    compiled.function(Entry::Infer).unwrap_or_else(|e| panic!("{e}")).specialize(&sizes).unwrap()
}

/// What is computed of 24 rows that are picked from the table, with how many products are left that have 24 rows.
const MODELS: [(&str, &str, usize); 14] = [
    ("a dense layer", "y = tanh(gather(e, i) @ w + b)", 0),
    ("a recurrence in time", "y = transpose(gather(e, i), [1, 0, 2]) @ w + b", 0),
    ("two layers", "y = relu(gather(e, i) @ w + b) @ v", 1),
    ("scaled and turned", "y = exp(transpose(2.0 * (gather(e, i) @ w) - 1.0, [2, 0, 1]))", 0),
    ("the table on the right", "y = einsum(\"dc,ntd->cnt\", w, gather(e, i))", 0),
    ("a table's columns", "y = einsum(\"dnt,dc->ntc\", gather(transpose(e, [1, 0]), i, axis=1), w)", 0),
    ("what is picked is used as well", "x = gather(e, i); y = concat([x @ w, x], axis=-1)", 0),
    ("numbers outside", "y = gather(e, 5 * i - 7) @ w", 0),
    ("what each row is added to differs", "y = gather(e, i) @ w + gather(e, i + 1)[:, :, :12]", 0),
    ("picks are exchanged", "y = einsum(\"ntd,dc->tnc\", gather(e, i), w)", 1),
    ("picks are summed over", "y = einsum(\"ntd,dc->nc\", gather(e, i), w)", 1),
    (
        "each pick has weights of its own",
        "y = einsum(\"ntd,dct->ntc\", gather(e, i), reshape(w, [40, 12, 1]) + zeros([8]))",
        1,
    ),
    ("few picks", "y = gather(e, i[:, :1]) @ w", 1),
    ("short sums", "y = gather(e, i)[:, :, :31] @ w[:31, :]", 1),
];

fn pass(name: &str, function: &Function) -> Function {
    let limits = Limits { ahead: name == "ahead", ..Limits::default() };
    let name = if limits.ahead { "project_tables" } else { name };
    GRAPH_PASSES.iter().find(|p| p.name == name).unwrap().apply_within(function, &limits).unwrap()
}

/// How many products are computed for each pick.
fn products(function: &Function) -> usize {
    let function = dce::PASS.apply(function).unwrap();
    let types = function.graph.nodes().filter(|(_, n)| matches!(n.op, Op::Contract(_))).map(|(_, n)| n.inputs.clone());
    let is_picked =
        |operands: &Vec<_>| operands.iter().any(|v| function.graph.type_of(*v).shape.contains(&3usize.into()));
    types.filter(is_picked).count()
}

#[test]
fn products_of_tables_mean_what_products_of_rows_mean() {
    for (name, body, left) in MODELS {
        let whole = model(body);
        let arguments = arguments_for(&whole);
        let moved = pass("project_tables", &whole);
        assert_eq!(products(&moved), left, "{name}:\n{moved}");
        let wanted = interpret::run(&pass("autodiff", &whole), &arguments).unwrap();
        let found = interpret::run(&pass("autodiff", &moved), &arguments).unwrap();
        for (a, b) in wanted.iter().flat_map(|t| &t.data).zip(found.iter().flat_map(|t| &t.data)) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + a.abs()), "{name}: {a} and {b}");
        }
        agree(&moved, &arguments).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn short_sums_are_the_same_bits() {
    for (name, body, _) in MODELS {
        let whole = model(body);
        let arguments = arguments_for(&whole);
        let results = |without: &str| {
            let passes = GRAPH_PASSES.iter().filter(|p| p.name != without);
            let passed = passes.fold(whole.clone(), |f, p| p.apply(&f).unwrap());
            let program = agreement::compile(&passed, true).unwrap();
            let code = backends()[0].jit(std::slice::from_ref(&program)).unwrap();
            let memory = run_loaded(&*code, &program, memory_of(&program, &arguments), None);
            memory[whole.arguments.len()].clone()
        };
        assert!(results("") == results("project_tables"), "{name}");
    }
}

/// What a gradient is taken by stays what the rest is computed of.
#[test]
fn gradients_by_picked_rows_and_their_products_are_found() {
    for source in
        ["x = gather(e, i); z = x @ w + b", "z = gather(e, i) @ w; x = z; z = z + b", "z = gather(e, i) @ w + b; x = z"]
    {
        let whole = model(&format!("{source}; y = grad(sum(z * z * z), x)"));
        let arguments = arguments_for(&whole);
        let moved = pass("project_tables", &whole);
        let [wanted, found] = [&whole, &moved].map(|f| interpret::run(&pass("autodiff", f), &arguments).unwrap());
        assert!(wanted[0].data.iter().any(|a| *a != 0.0), "{source}");
        for (a, b) in wanted.iter().flat_map(|t| &t.data).zip(found.iter().flat_map(|t| &t.data)) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + a.abs()), "{source}: {a} and {b}");
        }
    }
}

/// With weights that stay the same the table may have more rows than are picked.
#[test]
fn tables_of_weights_are_multiplied_ahead() {
    let few = model("y = gather(e, i[:, :1]) @ w + b");
    assert_eq!([products(&pass("project_tables", &few)), products(&pass("ahead", &few))], [1, 0]);
    let by_input = model("y = gather(e, i[:, :1]) @ (w * f32(i[0, 0])) + b");
    assert_eq!(products(&pass("ahead", &by_input)), 1);
    let table_by_input = model("y = gather(e * f32(i[0, 0]), i[:, :1]) @ w + b");
    assert_eq!(products(&pass("ahead", &table_by_input)), 1);
}
