//! One function in all its forms: what the graph says, after each pass, as loops and as machine code.

use std::cell::OnceCell;
use std::sync::Arc;

use nnc::codegen::{Loaded, backends};
use nnc::ir::graph::{Function, ResultRole};
use nnc::ir::loops::{self, Place, Program};
use nnc::ir::tensor::Tensor;
use nnc::ir::types::DType;
use nnc::ir::{interpret, text, verify};
use nnc::passes::tile::{self, Product, Tuning};
use nnc::passes::{GRAPH_PASSES, LOOP_PASSES, Limits, fuse, lower};

use super::rounding::{self, Bounded};
use super::{bytes_of, memory_of, results_in, run_loaded, work};

/// Programs of more work are not interpreted, which takes a microsecond or so for each step.
const MOST_INTERPRETED: u64 = 300_000;

/// How much of what was compared had a bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct Coverage {
    /// Elements of results.
    pub elements: usize,
    /// Those with a bound at all.
    pub bounded: usize,
    /// Those whose bound is less than a thousandth of the number, or of 1.
    pub sharp: usize,
}

impl Coverage {
    /// Both together.
    pub fn plus(self, other: Coverage) -> Coverage {
        Coverage {
            elements: self.elements + other.elements,
            bounded: self.bounded + other.bounded,
            sharp: self.sharp + other.sharp,
        }
    }
}

thread_local! {
    static POOL: OnceCell<nn_rt::Pool> = const { OnceCell::new() };
}

/// The nodes of a large graph.
const LARGE: usize = 150;

/// Nor are graphs with more elements compiled again.
const MOST_ELEMENTS: usize = 100_000;

/// Checks a function, whose gradients need not be expanded, against its meaning.
///
/// The meaning is the graph with gradients expanded, evaluated in f64. Within rounding it is what the passes make of it, and what
/// the machine computes with and without passes. To the bit compiled code agrees with interpreted loops, with
/// itself on three threads, by every backend, without tiles, and with products cut otherwise. Every form is verified, and texts parse back.
///
/// Large graphs are compiled once only, with passes and tiles: all forms of them would take most of the time of the tests.
///
/// # Errors
/// What disagrees, as a sentence.
pub fn agree(function: &Function, arguments: &[Tensor]) -> Result<Coverage, String> {
    agree_in(function, arguments, function.graph.len() < LARGE)
}

/// As [`agree`], in all forms or compiled once only.
///
/// # Errors
/// As [`agree`].
pub fn agree_in(function: &Function, arguments: &[Tensor], all: bool) -> Result<Coverage, String> {
    let (optimized, bounds) = meaning(function, arguments, all)?;
    let elements = optimized.graph.nodes().flat_map(|(_, node)| &node.outputs).filter_map(|ty| ty.elements());
    let large = !all || elements.sum::<usize>() >= MOST_ELEMENTS;
    let coverage = machine(&optimized, arguments, &bounds, !large).map_err(|e| format!("compiled, {e}"))?;
    if large {
        return Ok(coverage);
    }
    let plain = unoptimized(function)?;
    let program = compile(&plain, true)?;
    let memory = run_loaded(&*load(&program)?, &program, memory_of(&program, arguments), None);
    near_results(&plain, &memory, &bounds).map_err(|e| format!("compiled without passes, {e}"))?;
    Ok(coverage)
}

/// The function after all passes, and the bounds of its results.
fn meaning(function: &Function, arguments: &[Tensor], texts: bool) -> Result<(Function, Vec<Bounded>), String> {
    well_formed(function, true).map_err(|e| format!("the function itself: {e}"))?;
    let autodiff = GRAPH_PASSES.iter().find(|p| p.name == "autodiff").expect("gradients are expanded by a pass");
    let meaning = autodiff.apply(function).map_err(|e| format!("autodiff: {e}"))?;
    well_formed(&meaning, texts).map_err(|e| format!("after autodiff: {e}"))?;
    let bounds = results_of(&meaning, rounding::evaluate(&meaning, arguments)?);
    let optimized = through_passes(function, arguments, &bounds, texts)?;
    Ok((optimized, bounds))
}

/// The function after the passes without which it cannot be lowered.
fn unoptimized(function: &Function) -> Result<Function, String> {
    const OPTIMIZING: [&str; 7] = ["attention", "accumulate", "simplify", "cse", "dce", "hoist", "recompute"];
    let needed = GRAPH_PASSES.iter().filter(|p| !OPTIMIZING.contains(&p.name));
    needed.into_iter().try_fold(function.clone(), |f, pass| pass.apply(&f).map_err(|e| format!("{}: {e}", pass.name)))
}

/// Verified, and its text, if asked for, parses back to the same.
fn well_formed(function: &Function, with_text: bool) -> Result<(), String> {
    verify::function(function).map_err(|e| e.to_string())?;
    if !with_text {
        return Ok(());
    }
    let printed = function.to_string();
    let parsed = text::parse(&printed).map_err(|e| format!("its text does not parse: {e}"))?;
    if parsed.to_string() != printed {
        return Err("its text parses to another function".into());
    }
    let same = parsed.graph.len() == function.graph.len()
        && parsed
            .graph
            .nodes()
            .zip(function.graph.nodes())
            .all(|((_, a), (_, b))| a.op == b.op && a.inputs == b.inputs);
    if same { Ok(()) } else { Err("its text parses to other ops".into()) }
}

/// The function after all graph passes. It still means the same, but for the rounding of the numbers that passes compute.
fn through_passes(
    function: &Function,
    arguments: &[Tensor],
    bounds: &[Bounded],
    texts: bool,
) -> Result<Function, String> {
    let mut optimized = function.clone();
    for pass in GRAPH_PASSES {
        // Tensors are small here: without a limit all of them would be kept.
        let aim = if pass.name == "recompute" { 0 } else { Limits::default().aim };
        let limits = Limits { aim, ..Limits::default() };
        optimized = pass.apply_within(&optimized, &limits).map_err(|e| format!("{}: {e}", pass.name))?;
        well_formed(&optimized, texts).map_err(|e| format!("after {}: {e}", pass.name))?;
    }
    let found = interpret::run(&optimized, arguments)?;
    for ((result, found), bound) in function.results.iter().zip(&found).zip(bounds) {
        if found.ty != bound.value.ty {
            return Err(format!("the passes make result `{}` {} instead of {}", result.name, found.ty, bound.value.ty));
        }
        near(&found.data, bound).map_err(|e| format!("after all passes result `{}` {e}", result.name))?;
    }
    Ok(optimized)
}

fn results_of(function: &Function, values: Vec<Vec<Bounded>>) -> Vec<Bounded> {
    function.results.iter().map(|r| values[r.value.node.0 as usize][r.value.output as usize].clone()).collect()
}

/// The program of a function, verified after each pass; with or without tiles.
pub fn compile(function: &Function, tiles: bool) -> Result<Program, String> {
    compile_within(function, tiles, &Limits::default())
}

/// As `compile`, within limits.
pub fn compile_within(function: &Function, tiles: bool, limits: &Limits) -> Result<Program, String> {
    let verified =
        |p: Program, after: &str| loops::verify::program(&p).map(|()| p).map_err(|e| format!("after {after}: {e}"));
    let mut program =
        verified(lower::lower(&fuse::fuse(function, limits)).map_err(|e| format!("lower: {e}"))?, "lower")?;
    for pass in LOOP_PASSES.iter().filter(|p| tiles || p.name != "tile") {
        let next = (pass.run)(program, limits).map_err(|e| format!("{}: {e}", pass.name))?;
        program = verified(next, pass.name)?;
    }
    Ok(program)
}

fn load(program: &Program) -> Result<Box<dyn Loaded>, String> {
    load_by(0, program)
}

/// The code of one of the backends.
fn load_by(backend: usize, program: &Program) -> Result<Box<dyn Loaded>, String> {
    backends()[backend].jit(std::slice::from_ref(program)).map_err(|e| format!("code generation: {e}"))
}

/// The text of loops says all of them.
fn parses_back(program: &Program) -> Result<(), String> {
    let printed = loops::text::program(program);
    let parsed = loops::text::parse_program(&printed).map_err(|e| format!("the text of its loops: {e}"))?;
    let same = loops::text::program(&parsed) == printed;
    if same { Ok(()) } else { Err("the text of its loops parses to other loops".into()) }
}

/// Runs the compiled function in all ways.
fn machine(function: &Function, arguments: &[Tensor], bounds: &[Bounded], all: bool) -> Result<Coverage, String> {
    let program = compile(function, true)?;
    if all {
        parses_back(&program)?;
    }
    let before = memory_of(&program, arguments);
    let code = load(&program)?;
    let memory = run_loaded(&*code, &program, before.clone(), None);
    let coverage = near_results(function, &memory, bounds)?;
    unchanged(function, arguments, &memory)?;
    if work(&program.steps, &program) < MOST_INTERPRETED {
        let mut interpreted = before.clone();
        loops::interpret::program(&program, &mut interpreted).map_err(|e| e.to_string())?;
        same("the loop interpreter", &program, &memory, &interpreted)?;
    }
    let threaded =
        POOL.with(|pool| run_loaded(&*code, &program, before.clone(), Some(pool.get_or_init(|| nn_rt::Pool::new(3)))));
    same("running on three threads", &program, &memory, &threaded)?;
    if !all {
        return Ok(coverage);
    }
    for (number, backend) in backends().iter().enumerate().skip(1) {
        let found = run_loaded(&*load_by(number, &program)?, &program, before.clone(), None);
        same(&format!("the backend {}", backend.name()), &program, &memory, &found)?;
    }
    let untiled = compile(function, false)?;
    if untiled.kernels != program.kernels {
        let found = run_loaded(&*load(&untiled)?, &untiled, before, None);
        same("leaving out tiles", &program, &memory, &found)?;
        let otherwise = compile_within(function, true, &cut_otherwise(function)?)?;
        let found = run_loaded(&*load(&otherwise)?, &otherwise, memory_of(&otherwise, arguments), None);
        same("cutting products otherwise and running in strips", &program, &memory, &found)?;
    }
    Ok(coverage)
}

/// Limits that say of each product that it is not to be cut as usual, if it can be cut in another way, and that leave no memory.
fn cut_otherwise(function: &Function) -> Result<Limits, String> {
    let limits = Limits { aim: 0, ..Limits::default() };
    let program = lower::lower(&fuse::fuse(function, &limits)).map_err(|e| format!("lower: {e}"))?;
    let mut tuning = Tuning::default();
    for Product { key, number, choices, .. } in tile::products(&program, &limits) {
        if let Some(choice) = choices.iter().skip(1).cycle().nth(number) {
            tuning.choices.insert(key, *choice);
        }
    }
    Ok(Limits { tuning: Arc::new(tuning), ..limits })
}

/// Whether two memories hold the same bits, any NaN being as good as another.
pub fn same(what: &str, program: &Program, one: &[Vec<u8>], other: &[Vec<u8>]) -> Result<(), String> {
    for buffer in &program.buffers {
        let Place::Argument { index } = buffer.place else { continue };
        let (a, b) = (&one[index as usize], &other[index as usize]);
        if let Some(i) = difference(buffer.dtype, a, b) {
            let element = |bytes: &[u8]| bytes.chunks(buffer.dtype.bytes()).nth(i).map(<[u8]>::to_vec);
            let (x, y) = (element(a), element(b));
            return Err(format!("{what} gives other bits: {x:02x?} became {y:02x?} at {i} of `{}`", buffer.name));
        }
    }
    Ok(())
}

/// The first element in which two buffers differ in other ways than by which NaN it is.
pub fn difference(dtype: DType, one: &[u8], other: &[u8]) -> Option<usize> {
    if one == other {
        return None;
    }
    let mut pairs = one.chunks_exact(dtype.bytes()).zip(other.chunks_exact(dtype.bytes()));
    pairs.position(|(x, y)| x != y && !(is_nan(dtype, x) && is_nan(dtype, y)))
}

fn is_nan(dtype: DType, bytes: &[u8]) -> bool {
    match *bytes {
        [a, b, c, d] if dtype == DType::F32 => f32::from_le_bytes([a, b, c, d]).is_nan(),
        [a, b] if dtype == DType::F16 => u16::from_le_bytes([a, b]) & 0x7fff > 0x7c00,
        [a, b] if dtype == DType::BF16 => u16::from_le_bytes([a, b]) & 0x7fff > 0x7f80,
        [..] if dtype == DType::F64 => <[u8; 8]>::try_from(bytes).is_ok_and(|bytes| f64::from_le_bytes(bytes).is_nan()),
        _ => false,
    }
}

/// Arguments that nothing updates keep their bytes.
fn unchanged(function: &Function, arguments: &[Tensor], after: &[Vec<u8>]) -> Result<(), String> {
    for (index, argument) in function.arguments.iter().enumerate() {
        let updated = function.results.iter().any(|r| r.role == ResultRole::Update(index as u32));
        if !updated && bytes_of(&arguments[index]) != after[index] {
            return Err(format!("argument `{}` was overwritten", argument.name));
        }
    }
    Ok(())
}

fn near_results(function: &Function, memory: &[Vec<u8>], bounds: &[Bounded]) -> Result<Coverage, String> {
    let mut coverage = Coverage::default();
    for ((result, found), bound) in function.results.iter().zip(results_in(function, memory)).zip(bounds) {
        near(&found, bound).map_err(|e| format!("result `{}` {e}", result.name))?;
        let sharp = bound.value.data.iter().zip(&bound.error).filter(|(v, e)| **e <= 1e-3 * v.abs().max(1.0));
        coverage = coverage.plus(Coverage {
            elements: found.len(),
            bounded: bound.error.iter().filter(|e| e.is_finite()).count(),
            sharp: sharp.count(),
        });
    }
    Ok(coverage)
}

/// Whether numbers are within their bounds, with room of a factor of two.
fn near(found: &[f64], bound: &Bounded) -> Result<(), String> {
    if found.len() != bound.value.data.len() {
        return Err(format!("has {} elements instead of {}", found.len(), bound.value.data.len()));
    }
    for (i, (a, (b, error))) in found.iter().zip(bound.value.data.iter().zip(&bound.error)).enumerate() {
        let within = a == b || *error == f64::INFINITY || (a - b).abs() <= 2.0 * error;
        if !within {
            return Err(format!("is {a} instead of {b} at {i}, where the bound is {error:e}"));
        }
    }
    Ok(())
}
