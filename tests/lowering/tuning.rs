//! Tuning: however a product may be cut, alone and in the whole, its results have the same bits; and what is never cut.

use std::collections::BTreeSet;
use std::sync::Arc;

use nnc::codegen::backends;
use nnc::driver::Entry;
use nnc::ir::graph::{Function, ResultRole, Role};
use nnc::ir::loops::{self, Place, Program};
use nnc::ir::tensor::Tensor;
use nnc::ir::types::DType;
use nnc::passes::tile::{self, Choice, Left, Outermost, Product, Registers, Right, TileShape, Tuning};
use nnc::passes::{GRAPH_PASSES, LOOP_PASSES, Limits, fuse, lower};

use crate::programs::agreement::same;
use crate::programs::{arguments_for, memory_of, run_loaded};
use crate::writer::Writer;

/// Layers, a recurrence, attention and convolutions, with their gradients and optimizers; few columns, few rows, and rests of both.
const MODELS: [(&str, &str); 5] = [
    (
        "dense",
        "model M {
            input x: f32[batch, 70]
            target t: f32[batch, 5]
            y = x |> dense(50) |> gelu |> dense(96) |> relu |> dense(5)
            output y
            loss error = mse(y, t)
        }
        train { batch 37; epochs 1; minimize error with adam(lr=0.01) }",
    ),
    (
        "one row",
        "model M {
            input x: f32[batch, 90]
            output y = x |> dense(130) |> relu |> dense(128)
        }",
    ),
    (
        "recurrence",
        "model M {
            input x: f32[batch, 9, 6]
            target t: f32[batch, 9, 24]
            y = x |> lstm(24, return_sequences=true)
            output y
            loss error = mse(y, t)
        }
        train { batch 3; epochs 1; minimize error with sgd(lr=0.01) }",
    ),
    (
        "attention",
        "model M {
            input x: f32[batch, 18, 32]
            target t: f32[batch, 18, 32]
            y = x |> multi_head_attention(4, 8)
            output y
            loss error = mse(y, t)
        }
        train { batch 2; epochs 1; minimize error with sgd(lr=0.01) }",
    ),
    (
        "convolution",
        "model M {
            input x: f32[batch, 9, 8, 6]
            target t: f32[batch, 4]
            y = x |> conv2d(33, 3) |> relu |> conv2d(8, 3, stride=2) |> flatten |> dense(4)
            output y
            loss error = mse(y, t)
        }
        train { batch 3; epochs 1; minimize error with sgd(lr=0.01) }",
    ),
];

/// A function after its passes, its loops before products are cut, and arguments for it.
struct Subject {
    name: String,
    program: Program,
    arguments: Vec<Tensor>,
}

impl Subject {
    fn new(name: &str, function: &Function) -> Subject {
        let apply = |function: Function, pass: &nnc::passes::GraphPass| pass.apply(&function).unwrap();
        let function = GRAPH_PASSES.iter().fold(function.clone(), apply);
        let program = lower::lower(&fuse::fuse(&function, &Limits::default())).unwrap();
        Subject { name: name.to_string(), program, arguments: arguments_for(&function) }
    }

    /// The training step of a model, or its outputs if it has none.
    fn of_model((name, source): (&str, &str)) -> Subject {
        let compiled = nnc::compile(name, source).unwrap_or_else(|e| panic!("{name}: {e}"));
        let sizes = compiled.sizes(compiled.nominal_rows()).unwrap();
        let function = compiled.function(Entry::TrainStep).or_else(|_| compiled.function(Entry::Infer)).unwrap();
        Subject::new(name, &function.specialize(&sizes).unwrap())
    }

    /// A product, with either operand transposed.
    fn product(dtype: DType, [rows, columns, depth]: [usize; 3], [left, right]: [bool; 2]) -> Subject {
        let mut writer = Writer::default();
        let a = writer.argument("a", Role::Input, dtype, &if left { [depth, rows] } else { [rows, depth] });
        let b = writer.argument("b", Role::Input, dtype, &if right { [columns, depth] } else { [depth, columns] });
        let (a_labels, b_labels) = (if left { [1, 0] } else { [0, 1] }, if right { [2, 1] } else { [1, 2] });
        let y = writer.b.contract((a, &a_labels), (b, &b_labels), &[0, 2]).unwrap();
        writer.result("y", ResultRole::Output, y);
        let name = format!("{dtype} {rows}x{columns}x{depth} transposed {left} {right}");
        Subject::new(&name, &writer.finish_raw())
    }

    fn products(&self, limits: &Limits) -> Vec<Product> {
        tile::products(&self.program, limits)
    }
}

/// The passes behind `tile`, each of which is verified.
fn finish(mut program: Program, name: String, limits: &Limits) -> Program {
    assert_eq!(loops::verify::program(&program), Ok(()), "{name} after tile");
    for pass in LOOP_PASSES.iter().filter(|pass| pass.name != "tile") {
        program = (pass.run)(program, limits).unwrap();
        assert_eq!(loops::verify::program(&program), Ok(()), "{name} after {}", pass.name);
    }
    Program { name, ..program }
}

/// Programs on the same memory leave the same bits, without threads and with some.
fn all_the_same(programs: &[Program], memory: &[Vec<u8>]) {
    let code = backends()[0].jit(programs).unwrap();
    let pool = nn_rt::Pool::new(3);
    let first = run_loaded(&*code, &programs[0], memory.to_vec(), None);
    for program in programs {
        for pool in [None, Some(&pool)] {
            let found = run_loaded(&*code, program, memory.to_vec(), pool);
            same(&program.name, program, &first, &found).unwrap_or_else(|e| panic!("{e}"));
        }
    }
}

/// Numbers for the arguments of a program whose meaning is not known.
fn numbers(program: &Program) -> Vec<Vec<u8>> {
    let mut memory = vec![Vec::new(); program.pointers as usize];
    for buffer in &program.buffers {
        let Place::Argument { index } = buffer.place else { continue };
        let number = |i: u64| (0.618_033_988_749_895 * (i + 1) as f64 + 0.31 * f64::from(index)).fract() - 0.5;
        memory[index as usize] = match buffer.dtype {
            DType::F32 => (0..buffer.elements).flat_map(|i| (number(i) as f32).to_le_bytes()).collect(),
            DType::F64 => (0..buffer.elements).flat_map(|i| number(i).to_le_bytes()).collect(),
            other => vec![1; buffer.elements as usize * other.bytes()],
        };
    }
    memory
}

/// Every product of a subject by itself, in all ways.
fn alone(subject: &Subject, limits: &Limits) -> usize {
    let mut count = 0;
    let mut known = BTreeSet::new();
    for product in subject.products(limits).into_iter().filter(|product| known.insert(product.key.clone())) {
        let cut = |choice: &Choice| tile::alone(&subject.program, product.number, *choice, limits).program;
        let name = |choice: &Choice| format!("{}, {}: {choice}", subject.name, product.key);
        let programs: Vec<Program> =
            product.choices.iter().map(|choice| finish(cut(choice), name(choice), limits)).collect();
        assert!(programs.iter().all(|p| p.pointers == programs[0].pointers), "{}", subject.name);
        all_the_same(&programs, &numbers(&programs[0]));
        count += programs.len();
    }
    count
}

/// The whole with the first choices of all products, with the second ones, and so on.
fn whole(subject: &Subject) {
    let products = subject.products(&Limits::default());
    let most = products.iter().map(|product| product.choices.len()).max().unwrap_or(0);
    let programs = (0..most).map(|number| {
        let mut tuning = Tuning::default();
        for Product { key, choices, .. } in &products {
            tuning.choices.insert(key.clone(), choices[number % choices.len()]);
        }
        let limits = Limits { tuning: Arc::new(tuning), ..Limits::default() };
        let program = tile::tile(subject.program.clone(), &limits);
        finish(program, format!("{}, choice {number}", subject.name), &limits)
    });
    let programs: Vec<Program> = programs.collect();
    assert!(programs.iter().skip(1).any(|p| p.kernels != programs[0].kernels), "{} is always the same", subject.name);
    all_the_same(&programs, &memory_of(&programs[0], &subject.arguments));
}

#[test]
fn models_have_the_same_bits_however_their_products_are_cut() {
    for model in MODELS {
        let subject = Subject::of_model(model);
        whole(&subject);
    }
}

#[test]
fn products_have_the_same_bits_however_they_are_cut() {
    let wide = Limits { registers: Registers { bytes: 64, sums: 24 }, ..Limits::default() };
    let mut count = 0;
    for (number, sizes) in
        [[37, 70, 33], [3, 130, 90], [1, 257, 40], [64, 5, 40], [130, 19, 300]].into_iter().enumerate()
    {
        for transposed in [[false, false], [true, false], [false, true]] {
            count += alone(&Subject::product(DType::F32, sizes, transposed), &Limits::default());
        }
        if number < 2 {
            count += alone(&Subject::product(DType::F64, sizes, [true, false]), &Limits::default());
            count += alone(&Subject::product(DType::F32, sizes, [true, false]), &wide);
        }
    }
    for model in [MODELS[2], MODELS[3], MODELS[4]] {
        count += alone(&Subject::of_model(model), &Limits::default());
    }
    assert!(count > 200, "{count} ways");
}

fn choices(sizes: [usize; 3], transposed: [bool; 2]) -> Vec<Choice> {
    let subject = Subject::product(DType::F32, sizes, transposed);
    let mut products = subject.products(&Limits::default());
    assert_eq!(products.len(), 1);
    products.remove(0).choices
}

#[test]
fn few_choices_and_all_different() {
    for sizes in [[128, 512, 784], [3, 784, 32], [5, 33, 70], [512, 512, 128]] {
        for transposed in [[false, false], [true, false], [false, true]] {
            let all = choices(sizes, transposed);
            assert!((3..=12).contains(&all.len()), "{sizes:?} {transposed:?}: {all:?}");
            assert!(all.iter().enumerate().all(|(i, choice)| !all[..i].contains(choice)), "{all:?}");
        }
    }
}

#[test]
fn a_right_operand_is_read_in_place_only_where_its_columns_are_neighbours() {
    let in_place = |choice: &Choice| choice.right == Right::InPlace;
    assert!(choices([128, 512, 784], [false, false]).iter().any(in_place));
    assert!(!choices([128, 512, 784], [false, true]).iter().any(in_place));
}

#[test]
fn rows_spread_over_the_cache_are_read_in_place_by_products_of_moderate_size() {
    let in_place = |sizes, transposed| choices(sizes, transposed)[0].right == Right::InPlace;
    assert!(in_place([128, 500, 784], [false, false]));
    assert!(in_place([256, 500, 784], [true, false]));
    assert!(!in_place([257, 500, 784], [false, false]), "a copy is used often enough");
    assert!(!in_place([128, 512, 784], [false, false]), "rows meet in few sets");
    assert!(!in_place([128, 50, 784], [false, false]), "few panels");
    assert!(!in_place([128, 500, 784], [false, true]), "columns lie apart");
}

#[test]
fn tiles_fit_into_the_registers() {
    for sizes in [[128, 512, 784], [1, 784, 32], [64, 9, 70]] {
        for Choice { shape: TileShape { rows, columns }, left, .. } in choices(sizes, [true, false]) {
            assert!(rows >= 1 && rows * columns.div_ceil(8) <= 12, "{rows}×{columns}");
            assert!(!matches!(left, Left::Packed { rows } if rows == 0));
        }
    }
}

/// What is not among a product's choices is not done, whoever asks for it.
#[test]
fn unknown_choices_count_as_none() {
    let subject = Subject::product(DType::F32, [64, 64, 64], [false, false]);
    let product = subject.products(&Limits::default()).remove(0);
    let usual = tile::tile(subject.program.clone(), &Limits::default());
    let cut = |choice: Choice| {
        let choices = [(product.key.clone(), choice)].into();
        let limits = Limits { tuning: Arc::new(Tuning { threads: 0, choices }), ..Limits::default() };
        tile::tile(subject.program.clone(), &limits)
    };
    let strange = Choice {
        shape: TileShape { rows: 1000, columns: 8 },
        right: Right::InPlace,
        left: Left::InPlace,
        outermost: Outermost::Panels,
    };
    assert!(!product.choices.contains(&strange));
    assert_eq!(cut(strange), usual);
    assert_eq!(cut(product.choices[0]), usual);
    assert_ne!(cut(product.choices[1]), usual);
}
