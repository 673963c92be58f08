//! Programs in memory of their own, filled with plain numbers, to be timed beside each other.

use nn_rt::Pool;

use super::bytes::AlignedBytes;
use super::stages::{Ahead, Loops};
use crate::codegen::{CodegenError, EntryFunction, Loaded, backends};
use crate::ir::loops::{Place, Program};
use crate::ir::types::DType;

/// Programs compiled together. All work on the same arguments and in the same workspace, so each finds in the caches what the last one left there.
pub(super) struct Runner<'p> {
    contenders: Vec<Contender>,
    workspace: AlignedBytes,
    pool: Option<&'p Pool>,
    /// What the contenders' pointers lead to. Invariant: nothing else touches it.
    memory: Vec<AlignedBytes>,
    /// Owns the contenders' code.
    code: Box<dyn Loaded>,
}

/// A program's code, and its arguments: each has the bytes that its program declares.
struct Contender {
    entry: EntryFunction,
    pointers: Vec<*mut u8>,
}

impl<'p> Runner<'p> {
    /// Compiles programs that have the same arguments, but for those that each is handed by what is computed ahead of it. That is done here, once.
    ///
    /// # Errors
    /// If one cannot be compiled for this machine.
    pub(super) fn new(programs: &[Loops], pool: Option<&'p Pool>) -> Result<Runner<'p>, CodegenError> {
        let named = |program: &Program, name: String| Program { name, ..program.clone() };
        let calls = programs.iter().enumerate().map(|(number, (call, _))| named(call, format!("call_{number}")));
        let ahead = programs.iter().enumerate().filter_map(|(number, (_, ahead))| {
            let Ahead { program, .. } = ahead.as_ref()?;
            Some(named(program, format!("ahead_{number}")))
        });
        let all: Vec<Program> = calls.chain(ahead).collect();
        let code = backends()[0].jit(&all)?;
        let workspace = all.iter().map(|program| program.arena_bytes as usize).max().unwrap_or(0);
        let mut runner = Runner {
            contenders: Vec::new(),
            workspace: AlignedBytes::lasting(workspace),
            pool,
            memory: Vec::new(),
            code,
        };
        runner.place(programs);
        Ok(runner)
    }

    /// One call of a program, by its place among those compiled.
    pub(super) fn call(&mut self, number: usize) {
        let contender = &self.contenders[number];
        let pool = self.pool.map_or(std::ptr::null(), Pool::as_ptr);
        // SAFETY: the pointers are to memory that lives as long as this and has the bytes that the program declares of each argument, and so has the
        // workspace, which is 64-byte aligned. The pool outlives the call.
        unsafe { (contender.entry)(contender.pointers.as_ptr(), self.workspace.as_mut().as_mut_ptr(), pool) };
    }

    /// Gives every program its arguments, and computes what is ahead of it.
    fn place(&mut self, programs: &[Loops]) {
        let given = programs.iter().map(given).min().unwrap_or(0);
        let shared: Vec<*mut u8> = (0..given).map(|index| self.room(programs, index)).collect();
        for (number, loops) in programs.iter().enumerate() {
            let handed = (given..loops.0.pointers).map(|index| self.room(std::slice::from_ref(loops), index));
            let pointers: Vec<*mut u8> = shared.iter().copied().chain(handed.collect::<Vec<_>>()).collect();
            let entry = |part| self.code.entry(&format!("{part}_{number}")).expect("it was compiled under this name");
            if loops.1.is_some() {
                // It takes the same arguments as the call.
                self.contenders.push(Contender { entry: entry("ahead"), pointers: pointers.clone() });
                self.call(number);
                self.contenders.pop();
            }
            let entry = self.code.entry(&format!("call_{number}")).expect("it was compiled under this name");
            self.contenders.push(Contender { entry, pointers });
        }
    }

    /// Memory for an argument with room for what any of these programs declares, if one does.
    fn room(&mut self, programs: &[Loops], index: u32) -> *mut u8 {
        let buffers = programs.iter().flat_map(all_of).flat_map(|program| &program.buffers);
        let same = buffers.filter(|buffer| buffer.place == Place::Argument { index });
        let Some(largest) = same.max_by_key(|buffer| buffer.elements) else { return std::ptr::null_mut() };
        let mut bytes = AlignedBytes::lasting(largest.elements as usize * largest.dtype.bytes());
        fill(largest.dtype, bytes.as_mut());
        let pointer = bytes.as_mut().as_mut_ptr();
        self.memory.push(bytes);
        pointer
    }
}

/// The arguments that are not handed over.
fn given((program, ahead): &Loops) -> u32 {
    program.pointers - ahead.as_ref().map_or(0, |ahead| ahead.handed.len() as u32)
}

fn all_of((program, ahead): &Loops) -> impl Iterator<Item = &Program> {
    std::iter::once(program).chain(ahead.as_ref().map(|ahead| &ahead.program))
}

/// Sets an array to positive numbers that sums and powers of keep finite for a while, and whole numbers to 1: a step, a place, a class.
fn fill(dtype: DType, bytes: &mut [u8]) {
    for (number, element) in bytes.chunks_exact_mut(dtype.bytes()).enumerate() {
        let value = (number % 61 + 1) as f32 / 1024.0;
        match dtype {
            DType::F32 => element.copy_from_slice(&value.to_le_bytes()),
            DType::F64 => element.copy_from_slice(&f64::from(value).to_le_bytes()),
            DType::F16 => element.copy_from_slice(&half::f16::from_f32(value).to_le_bytes()),
            DType::BF16 => element.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
            _ => {
                element.fill(0);
                element[0] = 1;
            }
        }
    }
}
