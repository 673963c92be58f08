//! Attention in blocks: the same numbers as whole, forward to the bit, and a fraction of the memory.

mod programs;

use nnc::codegen::backends;
use nnc::driver::{Entry, compile};
use nnc::ir::graph::{Function, ResultRole};
use nnc::ir::interpret;
use nnc::ir::loops::Program;
use nnc::ir::ops::Op;
use nnc::ir::tensor::Tensor;
use nnc::passes::{GRAPH_PASSES, Limits};
use programs::agreement::{self, agree};
use programs::*;

/// Attention with its gradients by all that it reads, and how many bytes its weights take.
struct Case {
    name: &'static str,
    rows: usize,
    source: &'static str,
    bytes: u64,
}

fn cases() -> Vec<Case> {
    let case = |name, rows, bytes, source| Case { name, rows, source, bytes };
    vec![
        case(
            "causal self-attention of odd sizes",
            3,
            3 * 2 * 19 * 19 * 4,
            "model M { input q: f32[batch, 2, 19, 3]; input k: f32[batch, 2, 19, 3]; input v: f32[batch, 2, 19, 5]; input c: f32[batch, 2, 19, 5]
               y = attention(q, k, v, causal=true); s = sum(y * c)
               output y; output dq = grad(s, q); output dk = grad(s, k); output dv = grad(s, v) }",
        ),
        case(
            "more keys than queries under a mask of keys",
            2,
            2 * 3 * 24 * 11 * 4,
            "model M { input q: f32[batch, 3, 24, 4]; input k: f32[batch, 3, 11, 4]; input v: f32[batch, 3, 11, 4]; input m: f32[batch, 1, 1, 11]; input c: f32[batch, 3, 24, 4]
               y = attention(q, k, v, mask=m > -0.5); s = sum(y * c)
               output y; output dq = grad(s, q); output dk = grad(s, k); output dv = grad(s, v) }",
        ),
        case(
            "a bias of places that is differentiated, and other layouts",
            2,
            2 * 3 * 17 * 17 * 4,
            "model M { input q: f32[batch, 17, 3, 4]; input k: f32[batch, 17, 3, 4]; input v: f32[batch, 17, 3, 2]; input b: f32[3, 17, 17]; input c: f32[batch, 17, 3, 2]
               y = einsum(\"bhts,bshe->bthe\", softmax(20 * tanh(einsum(\"bthd,bshd->bhts\", q, k) / 20) + b), v); s = sum(y * c)
               output y; output dq = grad(s, q); output dk = grad(s, k); output dv = grad(s, v); output db = grad(s, b) }",
        ),
        case(
            "heads in groups, and one tensor as queries, keys and values",
            1,
            2 * 3 * 10 * 10 * 4,
            "model M { input x: f32[batch, 2, 10, 4]; input c: f32[batch, 2, 3, 10, 4]
               g = x * tensor([1.0, 0.5, 2.0])[0] |> expand_dims(2)
               q = broadcast_to(g, [batch, 2, 3, 10, 4])
               y = einsum(\"bkgts,bkse->bkgte\", softmax(einsum(\"bkgtd,bksd->bkgts\", q, x)), x); s = sum(y * c)
               z = einsum(\"bhts,bhse->bhte\", softmax(einsum(\"bhtd,bhsd->bhts\", x, x)), x)
               output y; output z; output dx = grad(s + sum(z * z), x) }",
        ),
    ]
}

/// The function of a case in all sizes.
fn function(source: &str, entry: Entry, rows: usize) -> Function {
    let compiled = compile("test.nn", source).unwrap_or_else(|e| panic!("{e}"));
    let sizes = compiled.sizes(rows).unwrap();
    compiled.function(entry).unwrap_or_else(|e| panic!("{e}")).specialize(&sizes).unwrap()
}

fn pass(name: &str, function: &Function, memory: u64) -> Function {
    let pass = GRAPH_PASSES.iter().find(|p| p.name == name).unwrap();
    pass.apply_within(function, &Limits::within(memory)).unwrap()
}

/// With limits under which all weights fit, one head or a few, some of its queries, and the fewest that a block has.
fn limits(bytes: u64) -> [u64; 4] {
    [bytes * 16, bytes * 8, bytes * 2, 16 * 16]
}

fn has_loops(function: &Function) -> bool {
    function.graph.nodes().any(|(_, node)| matches!(node.op, Op::Scan(_)))
}

#[test]
fn blocks_mean_what_the_whole_means() {
    for case in cases() {
        let whole = function(case.source, Entry::Infer, case.rows);
        let arguments = arguments_for(&whole);
        let wanted = interpret::run(&pass("autodiff", &whole, u64::MAX), &arguments).unwrap();
        for (number, memory) in limits(case.bytes).into_iter().enumerate() {
            let name = format!("{} within {memory}", case.name);
            let blocks = pass("attention", &whole, memory);
            assert_eq!(has_loops(&blocks), number > 0, "{name}");
            let found = interpret::run(&pass("autodiff", &blocks, u64::MAX), &arguments).unwrap();
            for (a, b) in wanted.iter().flat_map(|t| &t.data).zip(found.iter().flat_map(|t| &t.data)) {
                assert!((a - b).abs() <= 1e-5 * (1.0 + a.abs()), "{name}: {a} and {b}");
            }
            agree(&blocks, &arguments).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
}

/// The function through all passes, attention within a limit on memory of its own or left out.
fn program(function: &Function, memory: Option<u64>) -> Program {
    let through = |f: Function, name: &str| match (name, memory) {
        ("attention", None) => f,
        ("attention", Some(memory)) => pass(name, &f, memory),
        _ => pass(name, &f, Limits::default().memory),
    };
    let passed = GRAPH_PASSES.iter().fold(function.clone(), |f, p| through(f, p.name));
    agreement::compile(&passed, true).unwrap()
}

/// What is in memory after a run with some threads.
fn run(program: &Program, arguments: &[Tensor], threads: usize) -> Vec<Vec<u8>> {
    let code = backends()[0].jit(std::slice::from_ref(program)).unwrap();
    let pool = (threads > 1).then(|| nn_rt::Pool::new(threads));
    run_loaded(&*code, program, memory_of(program, arguments), pool.as_ref())
}

#[test]
fn results_are_the_same_bits() {
    for case in cases() {
        let function = function(case.source, Entry::Infer, case.rows);
        let arguments = arguments_for(&function);
        let forward = function.results.iter().filter(|r| !r.name.starts_with('d')).count();
        let results = |memory: Option<u64>| {
            let bytes = run(&program(&function, memory), &arguments, 1);
            bytes[function.arguments.len()..][..forward].to_vec()
        };
        let whole = results(None);
        for memory in limits(case.bytes) {
            assert_eq!(results(Some(memory)), whole, "{} within {memory}", case.name);
        }
    }
}

/// A block that drops attention's weights out, with 64 keys so that draws can be cut.
fn block(tokens: usize, options: &str) -> String {
    format!(
        "model M {{ input x: f32[batch, {tokens}, 8]; target t: f32[batch, {tokens}, 8]
           y = x |> transformer_encoder(16, 2, activation=gelu, causal=true{options}); output y; loss l = mse(y, t) }}
         train {{ minimize l with adam(lr=0.01); seed 3 }}"
    )
}

#[test]
fn dropped_weights_are_the_same_ones_and_threads_change_no_bit() {
    let function = function(&block(64, ", dropout=0.3"), Entry::TrainStep, 2);
    let arguments = arguments_for(&function);
    let whole = program(&function, None);
    let wanted = results_in(&function, &run(&whole, &arguments, 1));
    for memory in [16 * 64 * 64 * 4, 16 * 64 * 20 * 4] {
        assert!(has_loops(&pass("attention", &function, memory)));
        let blocks = program(&function, Some(memory));
        let bytes = run(&blocks, &arguments, 1);
        for ((result, a), b) in function.results.iter().zip(&wanted).zip(results_in(&function, &bytes)) {
            let bits = |numbers: &[f64]| numbers.iter().map(|n| n.to_bits()).collect::<Vec<_>>();
            if result.role == ResultRole::Loss {
                assert_eq!(bits(a), bits(&b), "{}", result.name);
            }
            let near = a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-4 * (1.0 + a.abs()));
            assert!(near, "{}: {a:?} and {b:?}", result.name);
        }
        for threads in [2, 3] {
            assert!(bytes == run(&blocks, &arguments, threads), "{threads} threads");
        }
    }
}

#[test]
fn weights_stay_whole_where_they_are_few_or_draws_cannot_be_cut() {
    let few = function(include_str!("../benches/models/gpt.nn"), Entry::TrainStep, 16);
    assert_eq!(pass("attention", &few, Limits::default().memory).to_string(), few.to_string());
    let odd = function(&block(63, ", dropout=0.3"), Entry::TrainStep, 2);
    assert!(!has_loops(&pass("attention", &odd, 16 * 64 * 20 * 4)));
}

#[test]
fn weights_that_somebody_else_reads_stay_whole() {
    let source = |more: &str| {
        format!(
            "model M {{ input q: f32[batch, 8, 4]; input k: f32[batch, 8, 4]
               p = softmax(einsum(\"btd,bsd->bts\", q, k)); y = einsum(\"bts,bsd->btd\", p, k); output y; {more} }}"
        )
    };
    let loops = |more: &str| has_loops(&pass("attention", &function(&source(more), Entry::Infer, 2), 256));
    assert!(loops(""));
    assert!(!loops("output p"));
    assert!(!loops("output o = grad(sum(y * y), p)"));
}

#[test]
fn a_long_sequence_takes_a_third_of_the_memory() {
    let function = function(&block(2048, ""), Entry::TrainStep, 2);
    let [whole, blocks] = [None, Some(Limits::default().memory)].map(|memory| program(&function, memory).arena_bytes);
    assert!(3 * blocks < whole, "{blocks} of {whole} bytes");
}
