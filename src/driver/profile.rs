//! How long an entry point takes, as a whole and kernel by kernel.
//!
//! The kernels are those of the entry's own code. Here the host runs the program's steps and looks at the clock around each
//! call, so the parts can be compared with the whole, which is timed in the same turns.

use std::time::Instant;

use nn_rt::Pool;

use super::bytes::AlignedBytes;
use super::error::Error;
use super::loaded::{LoadedEntry, Run};
use super::session::Session;
use super::slice::Slice;
use super::{Entry, machine};
use crate::codegen::KernelFunction;
use crate::ir::loops::cost::{KernelCost, cost};
use crate::ir::loops::{Affine, Call, LoopVar, Place, Program, Section, Step, steps};

/// One call of a kernel in the program's text.
#[derive(Clone, Debug, PartialEq)]
pub struct CallProfile {
    pub kernel: String,
    /// How often one call of the entry runs it.
    pub rounds: u64,
    /// The work of one round.
    pub cost: KernelCost,
    /// Median over the turns of the seconds that all rounds of one call of the entry took.
    pub seconds: f64,
}

/// An entry point's time.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Seconds of whole calls, ascending.
    pub whole: Vec<f64>,
    /// In the order of the program.
    pub calls: Vec<CallProfile>,
    /// Of each turn, the time that its kernels took one by one as a part of the whole call beside them; ascending.
    pub accounted: Vec<f64>,
    /// The highest rate of multiply-adds that one thread reached beside the turns, in operations a second.
    pub peak: f64,
}

impl Profile {
    /// The median of whole calls in seconds.
    pub fn median(&self) -> f64 {
        quantile(&self.whole, 0.5)
    }

    /// The part of a call's time that its kernels account for: the median over the turns, since a machine is now faster, now slower.
    pub fn in_kernels(&self) -> f64 {
        quantile(&self.accounted, 0.5)
    }

    /// Operations of one call of the entry.
    pub fn flops(&self) -> u64 {
        self.calls.iter().fold(0, |sum, c| sum.saturating_add(c.cost.flops.saturating_mul(c.rounds)))
    }
}

/// A quantile of ascending numbers; NaN of none.
pub fn quantile(ascending: &[f64], share: f64) -> f64 {
    let last = ascending.len().saturating_sub(1);
    ascending.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

impl Session {
    /// Times `turns` calls of an entry, each beside one of its kernels one by one if `by_kernel`. A training step trains.
    ///
    /// # Errors
    /// As a call of the entry.
    pub fn profile(
        &mut self,
        entry: Entry,
        fields: &[(&str, Slice<'_>)],
        turns: usize,
        by_kernel: bool,
    ) -> Result<Profile, Error> {
        if entry == Entry::TrainStep {
            // All turns are the same step; before the first there is none, and optimizers would divide by 0.
            self.set_step(self.step() + 1);
        }
        self.with_call(entry, fields, |loaded, run| measure(loaded, run, turns, by_kernel))
    }
}

/// Looks at the machine's peak before each turn: the first ones find the core asleep.
const PROBES: usize = 8;

/// A call that takes no longer is made [`WARMING`] times before it is timed, since what the probe left in the caches, and the waking of threads that fell asleep meanwhile, is a part of
/// its time and none of its kernels'.
const SHORT: f64 = 1e-3;

/// With one call, 8 % of a dense net's inference on two threads was in none of its kernels; with three, 1 %.
const WARMING: usize = 4;

/// How often the clock is timed.
const LOOKS: usize = 201;

fn measure(loaded: &LoadedEntry, run: &Run<'_>, turns: usize, by_kernel: bool) -> Profile {
    let mut probe = machine::Probe::new();
    let mut host = Host::new(loaded, run);
    let (mut whole, mut accounted) = (Vec::with_capacity(turns), Vec::new());
    let mut samples: Vec<Vec<f64>> = vec![Vec::with_capacity(turns); host.times.len()];
    let mut peak = 0f64;
    host.whole();
    for _ in 0..turns {
        (0..PROBES).for_each(|_| peak = peak.max(probe.as_mut().map_or(f64::NAN, machine::Probe::rate)));
        if whole.last().is_some_and(|seconds| *seconds < SHORT) {
            (0..WARMING).for_each(|_| host.whole());
        }
        let start = Instant::now();
        host.whole();
        let seconds = (start.elapsed().as_secs_f64() - host.clock).max(0.0);
        whole.push(seconds);
        if by_kernel {
            host.times.fill(0.0);
            host.steps(&loaded.program.steps);
            accounted.push(host.times.iter().sum::<f64>() / seconds.max(f64::MIN_POSITIVE));
            samples.iter_mut().zip(&host.times).for_each(|(samples, time)| samples.push(*time));
        }
    }
    whole.sort_by(f64::total_cmp);
    accounted.sort_by(f64::total_cmp);
    let program = &loaded.program;
    let rounds = rounds_of(&program.steps, 1);
    let calls =
        steps::calls(&program.steps).into_iter().zip(rounds).zip(samples).map(|((call, rounds), mut samples)| {
            samples.sort_by(f64::total_cmp);
            let kernel = &program.kernels[call.kernel as usize];
            CallProfile { kernel: kernel.name.clone(), rounds, cost: cost(kernel), seconds: quantile(&samples, 0.5) }
        });
    Profile { whole, calls: if by_kernel { calls.collect() } else { Vec::new() }, accounted, peak }
}

/// How often each call runs, in the order of the text.
fn rounds_of(steps: &[Step], around: u64) -> Vec<u64> {
    let of_step = |step: &Step| match step {
        Step::Call(_) => vec![around],
        Step::Repeat(repeat) => rounds_of(&repeat.steps, around.saturating_mul(repeat.count)),
        Step::Index { .. } => Vec::new(),
    };
    steps.iter().flat_map(of_step).collect()
}

/// Seconds between two looks at the clock with nothing in between, in the median.
fn clock() -> f64 {
    let mut samples: Vec<f64> = (0..LOOKS)
        .map(|_| {
            let start = Instant::now();
            start.elapsed().as_secs_f64()
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    quantile(&samples, 0.5)
}

/// Runs a program's steps as its own code does, with a clock around each call.
struct Host<'a> {
    loaded: &'a LoadedEntry,
    run: &'a Run<'a>,
    kernels: Vec<KernelFunction>,
    constants: Vec<Option<AlignedBytes>>,
    variables: Vec<(LoopVar, i64)>,
    /// Seconds that two looks at the clock take by themselves, half of what the shortest kernels would seem to take with them.
    clock: f64,
    /// Seconds of each call in the order of the text, and the call that comes next.
    times: Vec<f64>,
    next: usize,
}

impl<'a> Host<'a> {
    fn new(loaded: &'a LoadedEntry, run: &'a Run<'a>) -> Self {
        let Program { name, kernels, buffers, steps, .. } = &loaded.program;
        let of_kernel = |number| loaded.code.kernel(name, number).expect("every kernel was compiled");
        let constant = |place: &Place| match place {
            Place::Constant { bytes } => Some(AlignedBytes::copy_of(bytes)),
            _ => None,
        };
        Host {
            loaded,
            run,
            kernels: (0..kernels.len()).map(of_kernel).collect(),
            constants: buffers.iter().map(|b| constant(&b.place)).collect(),
            variables: Vec::new(),
            clock: clock(),
            times: vec![0.0; steps::calls(steps).len()],
            next: 0,
        }
    }

    /// One call of the entry.
    fn whole(&mut self) {
        let entry = self.loaded.code.entry(&self.loaded.program.name).expect("the program was compiled under its name");
        let pool = self.run.pool.map_or(std::ptr::null(), Pool::as_ptr);
        // SAFETY: `Run` has what a call of this entry takes.
        unsafe { entry(self.run.pointers.as_ptr(), self.run.workspace, pool) };
    }

    fn steps(&mut self, steps: &[Step]) {
        self.next = 0;
        self.run_steps(steps);
    }

    fn run_steps(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Call(call) => self.call(call),
                Step::Repeat(repeat) => {
                    let first = self.next;
                    self.variables.push((repeat.var, 0));
                    for round in 0..repeat.count {
                        let round = if repeat.reverse { repeat.count - 1 - round } else { round };
                        self.variables.last_mut().expect("it was pushed above").1 = round as i64;
                        self.next = first;
                        self.run_steps(&repeat.steps);
                    }
                    self.variables.pop();
                    self.next = first + steps::calls(&repeat.steps).len();
                }
                Step::Index { target, index } => {
                    let value = self.number(index) as i32;
                    let place = self.address(target).cast::<i32>();
                    // SAFETY: the target is one element of an `i32` buffer, as the program's verifier saw.
                    unsafe { place.write(value) };
                }
            }
        }
    }

    fn call(&mut self, call: &Call) {
        let table: Vec<*mut u8> = call.buffers.iter().map(|section| self.address(section)).collect();
        let kernel = self.kernels[call.kernel as usize];
        let parallel = self.loaded.program.kernels[call.kernel as usize].parallel.as_ref();
        let start = Instant::now();
        match (parallel, self.run.pool) {
            // SAFETY: the table has the sections that the program gives the kernel, whose chunks may run on any threads.
            (Some(p), Some(pool)) if p.extent > p.grain => unsafe {
                pool.run(kernel, table.as_ptr(), p.extent, p.grain)
            },
            // SAFETY: as above.
            _ => unsafe { kernel(table.as_ptr(), 0, parallel.map_or(1, |p| p.extent)) },
        }
        self.times[self.next] += (start.elapsed().as_secs_f64() - self.clock).max(0.0);
        self.next += 1;
    }

    fn number(&self, affine: &Affine) -> i64 {
        let terms = self.variables.iter().map(|(var, value)| affine.coefficient(*var) * value);
        affine.constant + terms.sum::<i64>()
    }

    fn address(&self, section: &Section) -> *mut u8 {
        let buffer = &self.loaded.program.buffers[section.buffer as usize];
        let base = match &buffer.place {
            Place::Argument { index } => self.run.pointers[*index as usize],
            Place::Arena { offset } => {
                let offset = offset.expect("memory was planned before code was made") as usize;
                self.run.workspace.wrapping_add(offset)
            }
            Place::Constant { .. } => {
                let bytes = self.constants[section.buffer as usize].as_ref().expect("constants were copied");
                bytes.as_ref().as_ptr().cast_mut()
            }
        };
        base.wrapping_offset(self.number(&section.offset) as isize * buffer.dtype.bytes() as isize)
    }
}
