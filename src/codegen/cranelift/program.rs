//! The function of one program: for each call, the kernel's pointers on the stack and a call.

use cranelift_codegen::ir::{self as clif, InstBuilder, StackSlotData, StackSlotKind, types};
use cranelift_codegen::isa::TargetIsa;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataId, FuncId, Module};

use super::kernel::flags;
use crate::ir::loops::{Place, Program};

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

struct Frame<'f, 'm> {
    builder: FunctionBuilder<'f>,
    module: &'m mut dyn Module,
    pointer: clif::Type,
    pointers: clif::Value,
    workspace: clif::Value,
    pool: clif::Value,
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
    let mut frame = Frame { builder, module, pointer, pointers, workspace, pool };
    frame.calls(program, references);
    frame.builder.ins().return_(&[]);
    frame.builder.seal_all_blocks();
    frame.builder.finalize(config);
    function
}

impl Frame<'_, '_> {
    fn calls(&mut self, program: &Program, references: &References) {
        let most = program.calls.iter().map(|c| c.buffers.len()).max().unwrap_or(0) as u32;
        let bytes = self.pointer.bytes();
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, (most * bytes).max(bytes), 3);
        let slot = self.builder.create_sized_stack_slot(data);
        for call in &program.calls {
            for (i, buffer) in call.buffers.iter().enumerate() {
                let address = self.address(program, references, *buffer as usize);
                let table = self.builder.ins().stack_addr(self.pointer, slot, 0);
                self.builder.ins().store(flags(), address, table, i as i32 * bytes as i32);
            }
            let table = self.builder.ins().stack_addr(self.pointer, slot, 0);
            self.call(program, references, call.kernel as usize, table);
        }
    }

    fn address(&mut self, program: &Program, references: &References, buffer: usize) -> clif::Value {
        match &program.buffers[buffer].place {
            Place::Argument { index } => {
                let offset = *index as i32 * self.pointer.bytes() as i32;
                self.builder.ins().load(self.pointer, flags().with_readonly(), self.pointers, offset)
            }
            Place::Arena { offset } => {
                let offset = offset.expect("arena offsets were checked before") as i64;
                self.builder.ins().iadd_imm_s(self.workspace, offset)
            }
            Place::Constant { .. } => {
                let data = references.constants[buffer].expect("every constant was declared");
                let global = self.module.declare_data_in_func(data, self.builder.func);
                self.builder.ins().symbol_value(self.pointer, global)
            }
        }
    }

    fn call(&mut self, program: &Program, references: &References, kernel: usize, table: clif::Value) {
        let id = references.kernels[kernel];
        let function = self.module.declare_func_in_func(id, self.builder.func);
        let parallel = &program.kernels[kernel].parallel;
        let extent = self.builder.ins().iconst(types::I64, parallel.as_ref().map_or(1, |p| p.extent as i64));
        match (parallel, references.parallel) {
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
