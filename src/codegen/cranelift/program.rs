//! The function of one program: the kernels' tables of pointers on the stack, and calls, in loops where steps repeat.
//!
//! A call outside of repeats fills a table that all of them share. A call in a repeat has a table of its own, of which a round stores only
//! the pointers that move with it; the others are stored before the outermost loop in which they stand still.

use std::collections::BTreeMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self as clif, BlockArg, InstBuilder, StackSlotData, StackSlotKind, types};
use cranelift_codegen::isa::TargetIsa;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataId, FuncId, Module};

use super::kernel::flags;
use crate::ir::loops::steps::calls;
use crate::ir::loops::{Affine, Call, LoopVar, Place, Program, Repeat, Section, Step};

/// Bytes of stack for tables of their own; calls beyond that share one table and fill it in every round.
const LARGEST_TABLES: u32 = 2048;

/// The functions and data that a program refers to.
pub(super) struct References {
    /// The function of each kernel.
    pub kernels: Vec<FuncId>,
    /// The data object of each constant buffer.
    pub constants: Vec<Option<DataId>>,
    /// `nn_rt_parallel`, if kernels may run on a pool.
    pub parallel: Option<FuncId>,
}

/// The signature of programs: pointers, workspace, pool.
pub(super) fn signature(isa: &dyn TargetIsa) -> clif::Signature {
    let mut signature = clif::Signature::new(isa.default_call_conv());
    signature.params.extend([clif::AbiParam::new(isa.pointer_type()); 3]);
    signature
}

/// The signature of `nn_rt_parallel`: pool, kernel, buffers, extent, grain.
pub(super) fn parallel_signature(isa: &dyn TargetIsa) -> clif::Signature {
    let mut signature = clif::Signature::new(isa.default_call_conv());
    signature.params.extend([clif::AbiParam::new(isa.pointer_type()); 3]);
    signature.params.extend([clif::AbiParam::new(types::I64); 2]);
    signature
}

/// Builds the function of a program.
pub(super) fn lower(program: &Program, references: &References, module: &mut dyn Module) -> clif::Function {
    let signature = signature(module.isa());
    let config = module.isa().frontend_config();
    let mut function = clif::Function::with_name_signature(clif::UserFuncName::default(), signature);
    let mut context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut function, &mut context);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    let [pointers, workspace, pool] = builder.block_params(entry)[..] else {
        unreachable!("a program has three parameters");
    };
    let pointer = module.isa().pointer_type();
    let tables = Tables::new(program, pointer.bytes());
    let slot = builder.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, tables.bytes, 3));
    let mut frame = Frame {
        builder,
        module,
        program,
        references,
        tables,
        slot,
        pointer,
        pointers,
        workspace,
        pool,
        scope: Vec::new(),
        written: 0,
    };
    frame.steps(&program.steps);
    frame.builder.ins().return_(&[]);
    frame.builder.seal_all_blocks();
    frame.builder.finalize(config);
    function
}

/// Where on the stack the tables of calls are.
struct Tables {
    /// By number of the call, in the order of the text; those that are not here share the table at 0.
    own: BTreeMap<usize, u32>,
    bytes: u32,
}

impl Tables {
    fn new(program: &Program, pointer: u32) -> Tables {
        let all = calls(&program.steps);
        let most = all.iter().map(|c| c.buffers.len()).max().unwrap_or(0) as u32;
        let mut tables = Tables { own: BTreeMap::new(), bytes: (most * pointer).max(pointer) };
        let limit = tables.bytes + LARGEST_TABLES;
        tables.add(&program.steps, false, &mut 0, (pointer, limit));
        tables
    }

    fn add(&mut self, steps: &[Step], repeated: bool, number: &mut usize, (pointer, limit): (u32, u32)) {
        for step in steps {
            match step {
                Step::Call(call) => {
                    let size = call.buffers.len() as u32 * pointer;
                    if repeated && self.bytes + size <= limit {
                        self.own.insert(*number, self.bytes);
                        self.bytes += size;
                    }
                    *number += 1;
                }
                Step::Repeat(repeat) => self.add(&repeat.steps, true, number, (pointer, limit)),
                Step::Index { .. } => {}
            }
        }
    }
}

struct Frame<'f, 'm> {
    builder: FunctionBuilder<'f>,
    module: &'m mut dyn Module,
    program: &'m Program,
    references: &'m References,
    tables: Tables,
    slot: clif::StackSlot,
    pointer: clif::Type,
    pointers: clif::Value,
    workspace: clif::Value,
    pool: clif::Value,
    /// The variables of the repeats around, as `i64`, outermost first.
    scope: Vec<(LoopVar, clif::Value)>,
    /// Calls written so far.
    written: usize,
}

impl Frame<'_, '_> {
    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Call(call) => self.call(call),
                Step::Repeat(repeat) => self.repeat(repeat),
                Step::Index { target, index } => {
                    let value = self.affine(index, 1);
                    let value = self.builder.ins().ireduce(types::I32, value);
                    let address = self.address(target);
                    self.builder.ins().store(flags(), value, address, 0);
                }
            }
        }
    }

    /// A loop at run time; whether it runs at all is known now.
    fn repeat(&mut self, repeat: &Repeat) {
        if repeat.count == 0 {
            self.written += calls(&repeat.steps).len();
            return;
        }
        self.store_still(repeat);
        let (first, step, end) = match repeat.reverse {
            false => (0, 1, repeat.count as i64),
            true => (repeat.count as i64 - 1, -1, -1),
        };
        let (head, exit) = (self.builder.create_block(), self.builder.create_block());
        let var = self.builder.append_block_param(head, types::I64);
        let first = self.builder.ins().iconst(types::I64, first);
        self.builder.ins().jump(head, &[BlockArg::Value(first)]);
        self.builder.switch_to_block(head);
        self.scope.push((repeat.var, var));
        self.steps(&repeat.steps);
        self.scope.pop();
        let next = self.builder.ins().iadd_imm_s(var, step);
        let more = self.builder.ins().icmp_imm_s(IntCC::NotEqual, next, end);
        self.builder.ins().brif(more, head, &[BlockArg::Value(next)], exit, &[]);
        self.builder.switch_to_block(exit);
    }

    /// Stores the pointers of the calls in a repeat that stand still in it and were not stored before a repeat around it.
    fn store_still(&mut self, repeat: &Repeat) {
        let inner = variables(repeat);
        for (at, call) in calls(&repeat.steps).into_iter().enumerate() {
            let Some(table) = self.tables.own.get(&(self.written + at)).copied() else { continue };
            for (i, section) in call.buffers.iter().enumerate() {
                let still = inner.iter().all(|v| section.offset.coefficient(*v) == 0);
                // What does not move with the repeat just around was stored before it.
                if still && (self.scope.is_empty() || self.moves(section)) {
                    let address = self.address(section);
                    self.store_pointer(table, i, address);
                }
            }
        }
    }

    /// Whether a section moves with the innermost repeat around.
    fn moves(&self, section: &Section) -> bool {
        self.scope.last().is_some_and(|(var, _)| section.offset.coefficient(*var) != 0)
    }

    fn store_pointer(&mut self, table: u32, number: usize, address: clif::Value) {
        let place = table as i32 + number as i32 * self.pointer.bytes() as i32;
        self.builder.ins().stack_store(self.pointer, address, self.slot, place);
    }

    fn call(&mut self, call: &Call) {
        let own = self.tables.own.get(&self.written).copied();
        self.written += 1;
        for (i, section) in call.buffers.iter().enumerate() {
            if own.is_none() || self.moves(section) {
                let address = self.address(section);
                self.store_pointer(own.unwrap_or(0), i, address);
            }
        }
        let table = self.builder.ins().stack_addr(self.pointer, self.slot, own.unwrap_or(0) as i32);
        self.run(call.kernel as usize, table);
    }

    /// The address of the first element of a section.
    fn address(&mut self, section: &Section) -> clif::Value {
        let buffer = &self.program.buffers[section.buffer as usize];
        let base = match &buffer.place {
            Place::Argument { index } => {
                let offset = *index as i32 * self.pointer.bytes() as i32;
                self.builder.ins().load(self.pointer, flags().with_readonly(), self.pointers, offset)
            }
            Place::Arena { offset } => {
                let offset = offset.expect("arena offsets were checked before") as i64;
                self.builder.ins().iadd_imm_s(self.workspace, offset)
            }
            Place::Constant { .. } => {
                let data = self.references.constants[section.buffer as usize].expect("every constant was declared");
                let global = self.module.declare_data_in_func(data, self.builder.func);
                self.builder.ins().symbol_value(self.pointer, global)
            }
        };
        if section.is_at_start() {
            return base;
        }
        let distance = self.affine(&section.offset, buffer.dtype.bytes() as i64);
        let distance = match self.pointer {
            types::I64 => distance,
            narrow => self.builder.ins().ireduce(narrow, distance),
        };
        self.builder.ins().iadd(base, distance)
    }

    /// `affine · scale` as an `i64`.
    fn affine(&mut self, affine: &Affine, scale: i64) -> clif::Value {
        let mut sum = None;
        for (var, value) in self.scope.clone() {
            let factor = affine.coefficient(var) * scale;
            if factor != 0 {
                let term = self.builder.ins().imul_imm_s(value, factor);
                sum = Some(sum.map_or(term, |sum| self.builder.ins().iadd(sum, term)));
            }
        }
        match sum {
            Some(sum) => self.builder.ins().iadd_imm_s(sum, affine.constant * scale),
            None => self.builder.ins().iconst(types::I64, affine.constant * scale),
        }
    }

    /// Runs a kernel: on the pool if it is parallel and there may be one.
    fn run(&mut self, kernel: usize, table: clif::Value) {
        let id = self.references.kernels[kernel];
        let function = self.module.declare_func_in_func(id, self.builder.func);
        let parallel = &self.program.kernels[kernel].parallel;
        let extent = self.builder.ins().iconst(types::I64, parallel.as_ref().map_or(1, |p| p.extent as i64));
        match (parallel, self.references.parallel) {
            (Some(p), Some(id)) if p.extent > p.grain => {
                let grain = self.builder.ins().iconst(types::I64, p.grain as i64);
                let kernel = self.builder.ins().func_addr(self.pointer, function);
                let run = self.module.declare_func_in_func(id, self.builder.func);
                self.builder.ins().call(run, &[self.pool, kernel, table, extent, grain]);
            }
            _ => {
                let begin = self.builder.ins().iconst(types::I64, 0);
                self.builder.ins().call(function, &[table, begin, extent]);
            }
        }
    }
}

/// The variables of a repeat and of those in it.
fn variables(repeat: &Repeat) -> Vec<LoopVar> {
    let inner = repeat.steps.iter().filter_map(|s| if let Step::Repeat(r) = s { Some(r) } else { None });
    std::iter::once(repeat.var).chain(inner.flat_map(variables)).collect()
}
