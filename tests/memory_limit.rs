//! A limit on memory changes what a training step keeps and in which strips it runs, and no bit of what it computes.

use std::path::Path;

use nnc::driver::{Entry, Excess, JitOptions};
use nnc::{Session, Slice, compile, compile_file};

/// Two residual blocks with batch normalization, a strided convolution and a dense layer: convolutions by transforms and directly, sums over the batch, several readers.
const RESIDUAL: &str = "
layer normalized(x, filters, stride = 1) {
    return x |> conv2d(filters, 3, stride=stride, pad=1, bias=false) |> batch_norm
}
layer block(x, filters) {
    return relu(x + (x |> normalized(filters) |> relu |> normalized(filters)))
}
model M {
    input x: f32[batch, 16, 16, 8]
    target t: f32[batch, 4]
    h = x |> normalized(32) |> relu |> block(32) |> block(32) |> normalized(48, stride=2) |> relu
    y = h |> global_avg_pool2d |> dense(4)
    output y
    loss error = mse(y, t)
}
train { batch 8; epochs 1; minimize error with momentum(lr=0.05, momentum=0.9) }
";

/// Blocks of attention and dense layers, as in a language model.
const ATTENTION: &str = "
model M {
    input x: f32[batch, 64, 32]
    target t: f32[batch, 64, 32]
    y = x |> transformer_encoder(128, 2, activation=gelu, normalize_first=true) |> transformer_encoder(128, 2, activation=gelu, normalize_first=true)
    output y
    loss error = mse(y, t)
}
train { batch 8; epochs 1; minimize error with adam(lr=0.01) }
";

const ROWS: usize = 8;

fn numbers(count: usize, by: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * by).sin()).collect()
}

/// The parameters after three steps with a limit and so many threads, and the bytes of the workspace.
fn trained(source: &str, sizes: [usize; 2], memory: Option<u64>, threads: usize) -> (Vec<u8>, usize) {
    let mut compiled = compile("m.nn", source).unwrap();
    memory.into_iter().for_each(|limit| compiled.set_memory(limit));
    let mut session: Session = compiled.jit_with(JitOptions { threads }).unwrap();
    let [x, t] = sizes.map(|size| numbers(ROWS * size, 0.37));
    let fields: [(&str, Slice<'_>); 2] = [("x", x.as_slice().into()), ("t", t.as_slice().into())];
    for _ in 0..3 {
        session.train_step(&fields).unwrap();
    }
    (session.parameter_bytes().to_vec(), session.workspace_bytes(Entry::TrainStep, ROWS))
}

fn check(source: &str, sizes: [usize; 2], limits: &[u64], most: f64) {
    let (usual, whole) = trained(source, sizes, None, 1);
    let mut least = whole;
    for (number, limit) in limits.iter().enumerate() {
        let (bytes, workspace) = trained(source, sizes, Some(*limit), 1 + number % 3);
        assert!(bytes == usual, "other parameters with a limit of {limit}");
        least = least.min(workspace);
    }
    assert!((least as f64) < most * whole as f64, "{least} of {whole} bytes");
}

/// The bytes of the workspace with a limit, and whether they are said to be too many.
fn planned(source: &str, memory: Option<u64>) -> (u64, Option<Excess>) {
    let mut compiled = compile("m.nn", source).unwrap();
    memory.into_iter().for_each(|limit| compiled.set_memory(limit));
    let mut session: Session = compiled.jit_with(JitOptions { threads: 1 }).unwrap();
    session.prepare(Entry::TrainStep, ROWS).unwrap();
    (session.workspace_bytes(Entry::TrainStep, ROWS) as u64, session.excess(Entry::TrainStep, ROWS))
}

#[test]
fn a_limit_is_kept_to_or_said_to_be_exceeded() {
    for source in [RESIDUAL, ATTENTION] {
        let (whole, excess) = planned(source, None);
        assert_eq!(excess, None);
        let (least, excess) = planned(source, Some(1));
        assert_eq!(excess, Some(Excess { entry: Entry::TrainStep, rows: ROWS, bytes: least, limit: 1 }));
        for tenths in [5, 7, 9] {
            let limit = whole / 10 * tenths;
            let (bytes, excess) = planned(source, Some(limit));
            assert_eq!(excess.is_some(), bytes > limit, "{bytes} bytes, a limit of {limit}: {excess:?}");
            // What can be kept to with another limit can be kept to with this one, but for a few percent.
            assert!(bytes <= limit.max(least + least / 20), "{bytes} bytes, a limit of {limit}, at least {least}");
        }
    }
}

/// A model of the benchmarks, with a limit or without.
fn benchmark(file: &str, memory: Option<u64>) -> Session {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/models").join(file);
    let mut compiled = compile_file(&path).unwrap();
    memory.into_iter().for_each(|limit| compiled.set_memory(limit));
    compiled.jit_with(JitOptions { threads: 2 }).unwrap()
}

/// A transformer shares copies with what runs again: otherwise it would not keep to this.
#[test]
fn copies_are_shared_where_that_takes_less() {
    let mut session = benchmark("gpt.nn", Some(14_000_000));
    session.prepare(Entry::TrainStep, 16).unwrap();
    assert_eq!(session.excess(Entry::TrainStep, 16), None);
}

/// Without a limit a large step gives up half of the memory that makes it fast, and no bit. (What runs again here makes copies of its own.)
#[test]
fn a_large_step_makes_do_with_half() {
    let rows = 32;
    let (images, labels) = (numbers(rows * 32 * 32 * 3, 0.37), (0..rows as i32).map(|i| i % 10).collect::<Vec<i32>>());
    let fields: [(&str, Slice<'_>); 2] = [("image", images.as_slice().into()), ("label", labels.as_slice().into())];
    let [half, fast] = [None, Some(1 << 30)].map(|memory| {
        let mut session = benchmark("resnet18_cifar.nn", memory);
        session.train_step(&fields).unwrap();
        (session.parameter_bytes().to_vec(), session.workspace_bytes(Entry::TrainStep, rows))
    });
    assert!(half.0 == fast.0, "other parameters with half of the memory");
    assert!(half.1 < 48_000_000 && half.1 * 15 < fast.1 * 8, "{} of {} bytes", half.1, fast.1);
}

#[test]
fn residual_networks_train_alike() {
    check(RESIDUAL, [16 * 16 * 8, 4], &[1, 600_000, 1_500_000, 3_000_000], 0.9);
}

#[test]
fn transformers_train_alike() {
    // With less than this, attention would be cut into blocks, whose gradients are added up in another order.
    check(ATTENTION, [64 * 32; 2], &[5_000_000, 8_000_000], 1.0);
}
