//! From an entry point to a loop program: the list of stages, each verified, and observed by whoever wants to look.

use std::time::{Duration, Instant};

use crate::codegen::Target;
use crate::codegen::x86::{self, Vectors};
use crate::ir::dim::Sizes;
use crate::ir::graph::{Function, Role};
use crate::ir::loops::{self, Program};
use crate::ir::types::DType;
use crate::ir::verify;
use crate::passes::{self, GraphPass, Limits, LoopPass, fuse::Fused, tile::Registers};

use super::error::Error;

/// Sees the result of every stage.
pub trait Observer {
    /// Called after stage `name`, which took `time`. `text` prints the result. Returns whether to go on.
    fn stage(&mut self, name: &str, time: Duration, text: &dyn Fn() -> String) -> bool;
}

/// An observer that looks at nothing.
pub struct Quiet;

impl Observer for Quiet {
    fn stage(&mut self, _: &str, _: Duration, _: &dyn Fn() -> String) -> bool {
        true
    }
}

/// An entry point at concrete sizes: the function that describes its arguments and results, and its code as loops.
#[derive(Clone, Debug)]
pub struct Lowered {
    pub function: Function,
    pub program: Program,
    /// What is computed ahead of the calls, if the limits say so and there is anything.
    pub ahead: Option<Ahead>,
}

impl Lowered {
    /// Bytes of the workspace that a call takes, or what is computed ahead of it.
    pub fn workspace_bytes(&self) -> u64 {
        self.program.arena_bytes.max(self.ahead.as_ref().map_or(0, |ahead| ahead.program.arena_bytes))
    }
}

/// A program that runs when parameters have changed.
#[derive(Clone, Debug)]
pub struct Ahead {
    pub program: Program,
    /// The dtype and the elements of what it hands to the calls, as arguments behind all others of both programs.
    pub handed: Vec<(DType, u64)>,
}

/// The vector registers that tiles are for on a target. Where no wide code runs they are those of the default.
pub(super) fn registers(target: &Target) -> Registers {
    let known = |v: Vectors| Registers { bytes: v.bytes() as u64, sums: v.sums() as u64 };
    x86::vectors(target).map_or_else(Registers::default, known)
}

/// Runs the stages of one entry point.
pub(super) fn lower(
    function: &Function,
    sizes: &Sizes,
    limits: &Limits,
    observer: &mut dyn Observer,
) -> Result<Lowered, Error> {
    let mut clock = Clock { observer, last: Instant::now() };
    let prepared = before_aim(function, sizes, limits, &mut clock)?;
    behind_aim(&prepared, limits, &mut clock)
}

/// A function after the stages that do not ask what the others aim at: plans that aim at different amounts of memory ([`Limits::aim`], [`Limits::apart`]) share it.
pub(super) struct Prepared(Function);

/// Runs these stages.
pub(super) fn prepare(function: &Function, sizes: &Sizes, limits: &Limits) -> Result<Prepared, Error> {
    before_aim(function, sizes, limits, &mut Clock { observer: &mut Quiet, last: Instant::now() })
}

/// Runs the others, with limits that differ from those in what is aimed at alone.
pub(super) fn lower_prepared(prepared: &Prepared, limits: &Limits) -> Result<Lowered, Error> {
    behind_aim(prepared, limits, &mut Clock { observer: &mut Quiet, last: Instant::now() })
}

fn behind_aim(prepared: &Prepared, limits: &Limits, clock: &mut Clock<'_>) -> Result<Lowered, Error> {
    let (function, program) = to_loops(prepared, limits, clock)?;
    let program = tiled(program, limits, clock)?;
    let (program, ahead) = behind_tiles(program, limits, &|index| stays(&function, index), clock)?;
    Ok(Lowered { function, program, ahead })
}

/// The function after its passes, and its loops before products are cut.
pub(super) fn untiled(function: &Function, sizes: &Sizes, limits: &Limits) -> Result<(Function, Program), Error> {
    let mut clock = Clock { observer: &mut Quiet, last: Instant::now() };
    to_loops(&before_aim(function, sizes, limits, &mut clock)?, limits, &mut clock)
}

/// Cuts products of loops as they were before that, and goes on with them.
pub(super) fn finish_untiled(function: &Function, program: Program, limits: &Limits) -> Result<Loops, Error> {
    let mut clock = Clock { observer: &mut Quiet, last: Instant::now() };
    let program = tiled(program, limits, &mut clock)?;
    behind_tiles(program, limits, &|index| stays(function, index), &mut clock)
}

/// Goes on with loops whose products are cut; `stays` says which arguments change rarely.
pub(super) fn finish_tiled(program: Program, limits: &Limits, stays: &dyn Fn(u32) -> bool) -> Result<Loops, Error> {
    behind_tiles(program, limits, stays, &mut Clock { observer: &mut Quiet, last: Instant::now() })
}

/// Loops that are ready for a backend, and what is computed ahead of them.
pub(super) type Loops = (Program, Option<Ahead>);

/// Whether an argument changes rarely.
pub(super) fn stays(function: &Function, index: u32) -> bool {
    let argument = function.arguments.get(index as usize);
    argument.is_some_and(|a| matches!(a.role, Role::Parameter | Role::State))
}

fn to_loops(prepared: &Prepared, limits: &Limits, clock: &mut Clock<'_>) -> Result<(Function, Program), Error> {
    let (function, fused) = fuse(prepared, limits, clock)?;
    let program = passes::lower::lower(&fused).map_err(|e| Error::Unsupported(e.to_string()))?;
    clock.stage("lower", &|| loops::text::program(&program))?;
    Ok((function, program))
}

fn tiled(program: Program, limits: &Limits, clock: &mut Clock<'_>) -> Result<Program, Error> {
    let program = run(&passes::tile::PASS, program, limits)?;
    clock.stage(passes::tile::PASS.name, &|| loops::text::program(&program))?;
    Ok(program)
}

/// The passes behind `tile`. What depends on arguments that stay is cut off first, if the limits say so.
fn behind_tiles(
    mut program: Program,
    limits: &Limits,
    stays: &dyn Fn(u32) -> bool,
    clock: &mut Clock<'_>,
) -> Result<Loops, Error> {
    let mut ahead: Option<Ahead> = None;
    if let Some(split) = limits.ahead.then(|| passes::ahead::split(&program, stays)).flatten() {
        program = split.rest;
        ahead = Some(Ahead { program: split.ahead, handed: split.handed });
    }
    for pass in passes::LOOP_PASSES.iter().skip_while(|pass| pass.name != passes::tile::PASS.name).skip(1) {
        program = run(pass, program, limits)?;
        if let Some(ahead) = &mut ahead {
            ahead.program = run(pass, ahead.program.clone(), limits)?;
        }
        clock.stage(pass.name, &|| loops::text::program(&program))?;
    }
    Ok((program, ahead))
}

fn run(pass: &LoopPass, program: Program, limits: &Limits) -> Result<Program, Error> {
    let program = (pass.run)(program, limits).map_err(|e| Error::Unsupported(e.to_string()))?;
    debug_assert_eq!(loops::verify::program(&program), Ok(()), "after {}", pass.name);
    Ok(program)
}

/// For every two kernels of an entry point of which one reads what the other makes, why they are two.
pub(super) fn apart(
    function: &Function,
    sizes: &Sizes,
    limits: &Limits,
) -> Result<Vec<(String, String, &'static str)>, Error> {
    let mut clock = Clock { observer: &mut Quiet, last: Instant::now() };
    let prepared = before_aim(function, sizes, limits, &mut clock)?;
    Ok(passes::lower::apart(&fuse(&prepared, limits, &mut clock)?.1))
}

/// The stages on the tensor graph but for the last pass, `recompute`, the only one of them that asks what is aimed at.
fn before_aim(function: &Function, sizes: &Sizes, limits: &Limits, clock: &mut Clock<'_>) -> Result<Prepared, Error> {
    let mut function = function.specialize(sizes).map_err(Error::Sizes)?;
    clock.stage("specialize", &|| function.to_string())?;
    function = passes::segment::segment(&function, limits.memory);
    debug_assert_eq!(verify::function(&function), Ok(()), "after segment");
    clock.stage("segment", &|| function.to_string())?;
    let (_, passes) = passes::GRAPH_PASSES.split_last().expect("there are passes");
    for pass in passes {
        function = graph_pass(pass, &function, limits, clock)?;
    }
    Ok(Prepared(function))
}

fn graph_pass(
    pass: &GraphPass,
    function: &Function,
    limits: &Limits,
    clock: &mut Clock<'_>,
) -> Result<Function, Error> {
    let function = pass.apply_within(function, limits).map_err(|e| Error::Unsupported(e.to_string()))?;
    debug_assert_eq!(verify::function(&function), Ok(()), "after {}", pass.name);
    clock.stage(pass.name, &|| function.to_string())?;
    Ok(function)
}

/// The function after its last pass, and cut into groups.
fn fuse(prepared: &Prepared, limits: &Limits, clock: &mut Clock<'_>) -> Result<(Function, Fused), Error> {
    let last = passes::GRAPH_PASSES.last().expect("there are passes");
    let function = graph_pass(last, &prepared.0, limits, clock)?;
    let fused = passes::fuse::fuse(&function, limits);
    clock.stage("fuse", &|| fused.to_string())?;
    Ok((function, fused))
}

/// Tells the observer how long each stage took.
struct Clock<'a> {
    observer: &'a mut dyn Observer,
    last: Instant,
}

impl Clock<'_> {
    fn stage(&mut self, name: &str, text: &dyn Fn() -> String) -> Result<(), Error> {
        let go_on = self.observer.stage(name, self.last.elapsed(), text);
        self.last = Instant::now();
        if go_on { Ok(()) } else { Err(Error::Stopped(name.to_string())) }
    }
}
