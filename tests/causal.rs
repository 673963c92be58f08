//! Attention under a causal mask in groups of queries: the same numbers with most of what is hidden left out.

mod programs;

use nnc::codegen::backends;
use nnc::driver::{Entry, compile};
use nnc::ir::graph::Function;
use nnc::ir::interpret;
use nnc::ir::ops::Op;
use nnc::passes::{GRAPH_PASSES, Limits};
use programs::agreement::{self, agree};
use programs::*;

/// Attention with its gradients by all that it reads, of `queries` and `keys`; `y` and what follows is the model's own.
fn model(queries: usize, keys: usize, body: &str) -> Function {
    let source = format!(
        "model M {{ input q: f32[batch, 2, {queries}, 3]; input k: f32[batch, 2, {keys}, 3]; input v: f32[batch, 2, {keys}, 4]; input c: f32[batch, 2, {queries}, 4]
           {body}; s = sum(y * c)
           output y; output dq = grad(s, q); output dk = grad(s, k); output dv = grad(s, v) }}"
    );
    function(&source, Entry::Infer, 1)
}

fn function(source: &str, entry: Entry, rows: usize) -> Function {
    let compiled = compile("test.nn", source).unwrap_or_else(|e| panic!("{e}"));
    let sizes = compiled.sizes(rows).unwrap();
    compiled.function(entry).unwrap_or_else(|e| panic!("{e}")).specialize(&sizes).unwrap()
}

/// The scores, and what `softmax` of them is multiplied by, in words that differ between the cases.
const SCORES: &str = "x = einsum(\"bhtd,bhsd->bhts\", q, k)";

fn hidden() -> Vec<(&'static str, Function, usize)> {
    let of = |queries: usize, keys: usize, text: &str| {
        model(queries, keys, &format!("{SCORES}; {text}; y = einsum(\"bhts,bhse->bhte\", softmax(x), v)"))
    };
    vec![
        ("the library's", model(130, 130, "y = attention(q, k, v, causal=true)"), 2),
        (
            "the library's under a mask of keys as well",
            model(192, 192, "y = attention(q, k, v, mask=iota(192) % 5 != 3, causal=true)"),
            3,
        ),
        (
            "more keys than queries",
            of(128, 150, "x = if iota(150) <= reshape(iota(128), [128, 1]) + 22 { x } else { log(0.0) }"),
            2,
        ),
        (
            "the other way around",
            of(256, 256, "x = if iota(256) > reshape(iota(256), [256, 1]) { log(0.0) } else { x }"),
            4,
        ),
        (
            "places that are counted otherwise",
            of(128, 128, "x = if reshape(iota(128), [128, 1]) + 1 > iota(128) { 0.5 * x } else { log(0.0) }"),
            2,
        ),
        (
            "a mask of two, and a scale behind it",
            of(
                128,
                128,
                "m = (iota(128) < reshape(iota(128), [128, 1]) + 9) and (k[0, 0, :, 0] > -9.0); x = (if m { x } else { log(0.0) }) / 3.0",
            ),
            2,
        ),
    ]
}

fn pass(name: &str, function: &Function) -> Function {
    GRAPH_PASSES.iter().find(|p| p.name == name).unwrap().apply(function).unwrap()
}

/// How many products there are.
fn products(function: &Function) -> usize {
    function.graph.nodes().filter(|(_, node)| matches!(node.op, Op::Contract(_))).count()
}

#[test]
fn groups_mean_what_the_whole_means() {
    for (name, whole, groups) in hidden() {
        let arguments = arguments_for(&whole);
        let parts = pass("attention", &whole);
        assert_eq!(products(&parts), groups * products(&whole), "{name}:\n{parts}");
        let wanted = interpret::run(&pass("autodiff", &whole), &arguments).unwrap();
        let found = interpret::run(&pass("autodiff", &parts), &arguments).unwrap();
        for (a, b) in wanted.iter().flat_map(|t| &t.data).zip(found.iter().flat_map(|t| &t.data)) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + a.abs()), "{name}: {a} and {b}");
        }
        agree(&parts, &arguments).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn short_sums_are_the_same_bits() {
    for (name, whole, _) in hidden() {
        let arguments = arguments_for(&whole);
        let results = |without: &str| {
            let limits = Limits::default();
            let passes = GRAPH_PASSES.iter().filter(|p| p.name != without);
            let passed = passes.fold(whole.clone(), |f, p| p.apply_within(&f, &limits).unwrap());
            let program = agreement::compile(&passed, true).unwrap();
            let code = backends()[0].jit(std::slice::from_ref(&program)).unwrap();
            let memory = run_loaded(&*code, &program, memory_of(&program, &arguments), None);
            memory[whole.arguments.len()].clone()
        };
        assert!(results("") == results("attention"), "{name}");
    }
}

#[test]
fn groups_are_cut_into_blocks_where_memory_is_short() {
    for (name, whole, groups) in hidden() {
        let arguments = arguments_for(&whole);
        let wanted = interpret::run(&pass("autodiff", &whole), &arguments).unwrap();
        let attention = GRAPH_PASSES.iter().find(|p| p.name == "attention").unwrap();
        // A sixteenth of it for the weights: blocks of a head or some of its queries.
        let blocks = attention.apply_within(&whole, &Limits::within(16 << 14)).unwrap();
        let loops = blocks.graph.nodes().filter(|(_, node)| matches!(node.op, Op::Scan(_))).count();
        assert!(loops >= groups, "{name}: {loops} loops");
        let found = interpret::run(&pass("autodiff", &blocks), &arguments).unwrap();
        for (a, b) in wanted.iter().flat_map(|t| &t.data).zip(found.iter().flat_map(|t| &t.data)) {
            assert!((a - b).abs() <= 1e-5 * (1.0 + a.abs()), "{name}: {a} and {b}");
        }
    }
}

#[test]
fn what_counts_is_not_left_out() {
    let of = |text: &str| model(128, 128, &format!("{SCORES}; {text}; y = einsum(\"bhts,bhse->bhte\", softmax(x), v)"));
    let cases = [
        // Scores could be as small.
        of("x = if iota(128) <= reshape(iota(128), [128, 1]) { x } else { -1e9 }"),
        of("x = x"),
        // Nothing behind the diagonal is hidden, or not all.
        of("x = if iota(128) >= reshape(iota(128), [128, 1]) { x } else { log(0.0) }"),
        of("x = if iota(128) <= 2 * reshape(iota(128), [128, 1]) { x } else { log(0.0) }"),
        of("x = if (iota(128) <= reshape(iota(128), [128, 1])) or (k[0, 0, :, 0] > 9.0) { x } else { log(0.0) }"),
        of(
            "x = (if iota(128) <= reshape(iota(128), [128, 1]) { x } else { log(0.0) }) + expand_dims(k[:, :, :, 0], 2)",
        ),
        // A softmax that is moved counts everywhere.
        model(
            128,
            128,
            &format!(
                "{SCORES}; x = if iota(128) <= reshape(iota(128), [128, 1]) {{ x }} else {{ log(0.0) }}; y = einsum(\"bhts,bhse->bhte\", softmax(x) + 0.01, v)"
            ),
        ),
        // Too few.
        model(64, 64, "y = attention(q, k, v, causal=true)"),
        model(130, 130, "y = attention(q, k, v)"),
    ];
    for whole in cases {
        assert_eq!(pass("attention", &whole).to_string(), whole.to_string());
    }
}

#[test]
fn weights_that_are_dropped_out_stay_whole() {
    let source = "model M { input x: f32[batch, 128, 8]; target t: f32[batch, 128, 8]
        y = x |> transformer_encoder(16, 2, causal=true, dropout=0.1); output y; loss l = mse(y, t) }
        train { minimize l with sgd(lr=0.01) }";
    let whole = function(source, Entry::TrainStep, 2);
    assert_eq!(pass("attention", &whole).to_string(), whole.to_string());
    let inference = function(source, Entry::Infer, 2);
    assert!(products(&pass("attention", &inference)) > products(&inference));
}
