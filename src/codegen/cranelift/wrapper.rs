//! The C functions around programs.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self as clif, InstBuilder, StackSlotData, StackSlotKind, types};
use cranelift_codegen::isa::TargetIsa;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{FuncId, Module};

use super::kernel::flags;
use crate::codegen::{CodegenError, EntryWrapper, Prologue, Source, Variant, WrapperArgument};
use crate::ir::loops::Program;
use crate::ir::types::DType;

/// Return value when a pointer is null, the workspace only if a program needs one.
const NULL_POINTER: i64 = 1;
/// Return value when rows are left that no variant covers.
const ROWS_LEFT: i64 = 2;

struct Wrapper<'f, 'a> {
    builder: FunctionBuilder<'f>,
    module: &'a mut dyn Module,
    wrapper: &'a EntryWrapper,
    programs: &'a [Program],
    ids: &'a [FuncId],
    pointer: clif::Type,
    /// The C parameters; scalars replaced by pointers to copies.
    arguments: Vec<clif::Value>,
    /// Bytes of the copies and of scratch results, and the slot for a program's pointers.
    scratch: clif::StackSlot,
    table: clif::StackSlot,
}

/// Builds the function of a wrapper. `ids` are the functions of `programs`.
pub(super) fn lower(
    wrapper: &EntryWrapper,
    programs: &[Program],
    ids: &[FuncId],
    module: &mut dyn Module,
) -> Result<clif::Function, CodegenError> {
    check(wrapper, programs)?;
    let signature = signature(wrapper, module.isa());
    let config = module.isa().frontend_config();
    let pointer = module.isa().pointer_type();
    let mut function = clif::Function::with_name_signature(clif::UserFuncName::default(), signature);
    let mut context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut function, &mut context);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    let arguments = builder.block_params(entry).to_vec();
    let mut slot =
        |bytes: u32| builder.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes.max(8), 4));
    let pointers = wrapper.variants.iter().map(|v| v.pointers.len()).max().unwrap_or(0) as u32;
    let table = slot(pointers * pointer.bytes());
    let scratch = slot(8 * wrapper.arguments.len() as u32 + scratch_bytes(wrapper));
    let mut frame = Wrapper { builder, module, wrapper, programs, ids, pointer, arguments, scratch, table };
    frame.body();
    frame.builder.seal_all_blocks();
    frame.builder.finalize(config);
    Ok(function)
}

/// Builds a function without parameters that returns a number of pointer size.
pub(super) fn constant(value: u64, module: &dyn Module) -> clif::Function {
    let mut signature = clif::Signature::new(module.isa().default_call_conv());
    signature.returns.push(clif::AbiParam::new(module.isa().pointer_type()));
    let mut function = clif::Function::with_name_signature(clif::UserFuncName::default(), signature);
    let mut context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut function, &mut context);
    let entry = builder.create_block();
    builder.switch_to_block(entry);
    builder.seal_block(entry);
    let value = builder.ins().iconst(module.isa().pointer_type(), value as i64);
    builder.ins().return_(&[value]);
    builder.finalize(module.isa().frontend_config());
    function
}

/// All scratch of a call shares its bytes: what is read is zero, and what is written nobody reads.
fn scratch_bytes(wrapper: &EntryWrapper) -> u32 {
    let bytes = |s: &Source| if let Source::Scratch { bytes } = s { bytes.next_multiple_of(8) } else { 0 };
    wrapper.variants.iter().flat_map(|v| &v.pointers).map(bytes).max().unwrap_or(0)
}

fn check(wrapper: &EntryWrapper, programs: &[Program]) -> Result<(), CodegenError> {
    let fail = |message: &str| {
        Err(CodegenError::Internal { place: wrapper.symbol.clone(), message: format!("wrapper {message}") })
    };
    let counted = wrapper.arguments.contains(&WrapperArgument::Count);
    if !counted && wrapper.variants.len() != 1 {
        return fail("without a row count has not exactly one variant");
    }
    if scratch_bytes(wrapper) > 4096 {
        return fail("wants more than 4096 bytes of stack");
    }
    let pointer = |a: u32| matches!(wrapper.arguments.get(a as usize), Some(WrapperArgument::Pointer { .. }));
    let scalar = |a: u32| matches!(wrapper.arguments.get(a as usize), Some(WrapperArgument::Scalar { .. }));
    let fits = |step: &Prologue| match *step {
        Prologue::Increment { argument, offset } | Prologue::Set { argument, offset, .. } => {
            pointer(argument) && i32::try_from(offset).is_ok()
        }
        Prologue::Copy { from, to, offset } => scalar(from) && pointer(to) && i32::try_from(offset).is_ok(),
    };
    if !wrapper.prologue.iter().all(fits) {
        return fail("has a prologue that does not fit its arguments");
    }
    for variant in &wrapper.variants {
        let Some(program) = programs.iter().find(|p| p.name == variant.program) else {
            return fail("names a program that is not there");
        };
        if program.pointers as usize != variant.pointers.len() || (counted && variant.rows == 0) {
            return fail("has a variant that does not fit its program");
        }
        let known = |s: &Source| match s {
            Source::Argument { argument, .. } => matches!(
                wrapper.arguments.get(*argument as usize),
                Some(WrapperArgument::Pointer { .. } | WrapperArgument::Scalar { .. })
            ),
            Source::Scratch { .. } => true,
        };
        if !variant.pointers.iter().all(known) {
            return fail("takes a pointer from an argument that is none");
        }
    }
    Ok(())
}

fn signature(wrapper: &EntryWrapper, isa: &dyn TargetIsa) -> clif::Signature {
    let mut signature = clif::Signature::new(isa.default_call_conv());
    for argument in &wrapper.arguments {
        let ty = match argument {
            WrapperArgument::Scalar { dtype } => c_type(*dtype),
            _ => isa.pointer_type(),
        };
        signature.params.push(clif::AbiParam::new(ty));
    }
    signature.returns.push(clif::AbiParam::new(types::I32));
    signature
}

/// The type of a C argument.
fn c_type(dtype: DType) -> clif::Type {
    match dtype.storage() {
        DType::F32 => types::F32,
        DType::F64 => types::F64,
        other => clif::Type::int(8 * other.bytes() as u16).expect("a dtype has 1, 2, 4 or 8 bytes"),
    }
}

impl Wrapper<'_, '_> {
    fn position(&self, wanted: WrapperArgument) -> Option<usize> {
        self.wrapper.arguments.iter().position(|a| *a == wanted)
    }

    fn program(&self, variant: &Variant) -> usize {
        let position = self.programs.iter().position(|p| p.name == variant.program);
        position.expect("the wrapper was checked")
    }

    fn body(&mut self) {
        self.copy_scalars();
        self.check_pointers();
        let wrapper = self.wrapper;
        wrapper.prologue.iter().for_each(|step| self.prologue(*step));
        match self.position(WrapperArgument::Count) {
            Some(count) => self.counted(count),
            None => {
                let none = vec![None; wrapper.arguments.len()];
                self.call(&wrapper.variants[0], &none);
                self.leave(0);
            }
        }
    }

    fn leave(&mut self, code: i64) {
        let code = self.builder.ins().iconst(types::I32, code);
        self.builder.ins().return_(&[code]);
    }

    fn prologue(&mut self, step: Prologue) {
        match step {
            Prologue::Increment { argument, offset } => {
                let block = self.arguments[argument as usize];
                let before = self.builder.ins().load(types::I32, flags(), block, offset as i32);
                let after = self.builder.ins().iadd_imm_s(before, 1);
                self.builder.ins().store(flags(), after, block, offset as i32);
            }
            Prologue::Set { argument, offset, value } => {
                let value = self.builder.ins().iconst(types::I32, i64::from(value));
                self.builder.ins().store(flags(), value, self.arguments[argument as usize], offset as i32);
            }
            Prologue::Copy { from, to, offset } => {
                let WrapperArgument::Scalar { dtype } = self.wrapper.arguments[from as usize] else {
                    unreachable!("the wrapper was checked");
                };
                let value = self.builder.ins().load(c_type(dtype), flags(), self.arguments[from as usize], 0);
                self.builder.ins().store(flags(), value, self.arguments[to as usize], offset as i32);
            }
        }
    }

    fn copy_scalars(&mut self) {
        for (i, argument) in self.wrapper.arguments.iter().enumerate() {
            if let WrapperArgument::Scalar { .. } = argument {
                let place = self.builder.ins().stack_addr(self.pointer, self.scratch, 8 * i as i32);
                self.builder.ins().store(flags(), self.arguments[i], place, 0);
                self.arguments[i] = place;
            }
        }
    }

    /// Returns at once if there are no rows, or if a pointer that is needed is null.
    fn check_pointers(&mut self) {
        if let Some(count) = self.position(WrapperArgument::Count) {
            let none = self.builder.ins().icmp_imm_s(IntCC::Equal, self.arguments[count], 0);
            self.leave_if(none, 0);
        }
        let needs_workspace = self.wrapper.variants.iter().any(|v| self.programs[self.program(v)].arena_bytes > 0);
        for (i, argument) in self.wrapper.arguments.iter().enumerate() {
            let needed = match argument {
                WrapperArgument::Pointer { .. } => true,
                WrapperArgument::Workspace => needs_workspace,
                WrapperArgument::Scalar { .. } | WrapperArgument::Count | WrapperArgument::Pool => false,
            };
            if needed {
                let null = self.builder.ins().icmp_imm_s(IntCC::Equal, self.arguments[i], 0);
                self.leave_if(null, NULL_POINTER);
            }
        }
    }

    fn leave_if(&mut self, condition: clif::Value, code: i64) {
        let [leave, go_on] = [(); 2].map(|()| self.builder.create_block());
        self.builder.ins().brif(condition, leave, &[], go_on, &[]);
        self.builder.switch_to_block(leave);
        self.leave(code);
        self.builder.switch_to_block(go_on);
    }

    /// One loop for each variant while its rows fit.
    fn counted(&mut self, count: usize) {
        let wrapper = self.wrapper;
        let done = self.builder.declare_var(self.pointer);
        let zero = self.builder.ins().iconst(self.pointer, 0);
        self.builder.def_var(done, zero);
        let total = self.arguments[count];
        for variant in &wrapper.variants {
            let [head, inside, exit] = [(); 3].map(|()| self.builder.create_block());
            self.builder.ins().jump(head, &[]);
            self.builder.switch_to_block(head);
            let before = self.builder.use_var(done);
            let left = self.builder.ins().isub(total, before);
            let fits = self.builder.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, left, variant.rows as i64);
            self.builder.ins().brif(fits, inside, &[], exit, &[]);
            self.builder.switch_to_block(inside);
            let moves = self.moves(before);
            self.call(variant, &moves);
            let after = self.builder.ins().iadd_imm_s(before, variant.rows as i64);
            self.builder.def_var(done, after);
            self.builder.ins().jump(head, &[]);
            self.builder.switch_to_block(exit);
        }
        let [incomplete, complete] = [(); 2].map(|()| self.builder.create_block());
        let before = self.builder.use_var(done);
        let all = self.builder.ins().icmp(IntCC::Equal, before, total);
        self.builder.ins().brif(all, complete, &[], incomplete, &[]);
        self.builder.switch_to_block(incomplete);
        self.leave(ROWS_LEFT);
        self.builder.switch_to_block(complete);
        self.leave(0);
    }

    /// How far each argument has moved after some rows.
    fn moves(&mut self, rows: clif::Value) -> Vec<Option<clif::Value>> {
        let wrapper = self.wrapper;
        let step = |a: &WrapperArgument| match a {
            WrapperArgument::Pointer { row_bytes } if *row_bytes > 0 => Some(*row_bytes as i64),
            _ => None,
        };
        wrapper.arguments.iter().map(|a| step(a).map(|bytes| self.builder.ins().imul_imm_s(rows, bytes))).collect()
    }

    /// Fills the table of pointers and calls the program of a variant.
    fn call(&mut self, variant: &Variant, moves: &[Option<clif::Value>]) {
        for (i, source) in variant.pointers.iter().enumerate() {
            let address = match source {
                Source::Scratch { bytes } => {
                    let offset = 8 * self.wrapper.arguments.len() as i32;
                    let place = self.builder.ins().stack_addr(self.pointer, self.scratch, offset);
                    let zero = self.builder.ins().iconst(types::I64, 0);
                    for word in 0..bytes.div_ceil(8) as i32 {
                        self.builder.ins().store(flags(), zero, place, 8 * word);
                    }
                    place
                }
                Source::Argument { argument, offset } => {
                    let base = self.arguments[*argument as usize];
                    let base = match moves[*argument as usize] {
                        Some(distance) => self.builder.ins().iadd(base, distance),
                        None => base,
                    };
                    self.builder.ins().iadd_imm_s(base, *offset as i64)
                }
            };
            let table = self.builder.ins().stack_addr(self.pointer, self.table, 0);
            self.builder.ins().store(flags(), address, table, i as i32 * self.pointer.bytes() as i32);
        }
        let table = self.builder.ins().stack_addr(self.pointer, self.table, 0);
        let [workspace, pool] =
            [WrapperArgument::Workspace, WrapperArgument::Pool].map(|wanted| match self.position(wanted) {
                Some(at) => self.arguments[at],
                None => self.builder.ins().iconst(self.pointer, 0),
            });
        let id = self.ids[self.program(variant)];
        let function = self.module.declare_func_in_func(id, self.builder.func);
        self.builder.ins().call(function, &[table, workspace, pool]);
    }
}
