//! The function of one kernel: its frame, its loops over scalars, and the state of lowering.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{self as clif, BlockArg, InstBuilder, MemFlagsData, types};
use cranelift_codegen::isa::TargetIsa;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use rustc_hash::FxHashMap;

use super::value::{Slot, constant_bits, pack_lanes, pack_type, scalar_type};
use crate::ir::loops::{Affine, Block, Instruction, Kernel, LoopVar, ParallelLoop, Value};
use crate::ir::types::DType;

/// What cannot be lowered.
#[derive(Debug)]
pub(super) struct Unsupported(pub String);

/// The result of lowering something.
pub(super) type Lowered<T = ()> = Result<T, Unsupported>;

/// Lowers one round of a loop from its variable and the carried registers; returns what to carry on.
pub(super) type Round<'a, S> = dyn FnMut(&mut S, Binding, &[clif::Value]) -> Lowered<Vec<clif::Value>> + 'a;

/// A loop variable while its loop is being lowered.
#[derive(Clone, Copy)]
pub(super) enum Binding {
    /// Unrolled: the number is known.
    Known(i64),
    /// An `i64` register.
    Register(clif::Value),
}

/// The state of lowering one kernel.
pub(super) struct Lowering<'f, 'k> {
    pub builder: FunctionBuilder<'f>,
    pub kernel: &'k Kernel,
    pub pointer: clif::Type,
    /// The base address of each buffer.
    pub buffers: Vec<clif::Value>,
    /// Variables in scope, outermost first.
    pub scope: Vec<(LoopVar, Binding)>,
    slots: Vec<Option<Slot>>,
    /// Values known when compiling.
    constants: FxHashMap<Value, f64>,
    /// The variable of the vector loop around, and how many of its rounds are done at once (1 outside).
    pub lanes: Option<LoopVar>,
    pub width: usize,
}

/// The signature of kernels on the machine: buffers, begin, end.
pub(super) fn signature(isa: &dyn TargetIsa) -> clif::Signature {
    let mut signature = clif::Signature::new(isa.default_call_conv());
    for ty in [isa.pointer_type(), types::I64, types::I64] {
        signature.params.push(clif::AbiParam::new(ty));
    }
    signature
}

/// Whether the kernel holds tiles, whose instructions are written in the order in which they shall run.
pub(super) fn is_hand_ordered(block: &Block) -> bool {
    block.instructions.iter().any(|i| match i {
        Instruction::Tile(_) => true,
        Instruction::For { body, .. } => is_hand_ordered(body),
        _ => false,
    })
}

/// Lowers a kernel to a Cranelift function.
pub(super) fn lower(kernel: &Kernel, isa: &dyn TargetIsa) -> Lowered<clif::Function> {
    let mut function = clif::Function::with_name_signature(clif::UserFuncName::default(), signature(isa));
    let mut context = FunctionBuilderContext::new();
    let builder = FunctionBuilder::new(&mut function, &mut context);
    let mut lowering = Lowering {
        builder,
        kernel,
        pointer: isa.pointer_type(),
        buffers: Vec::new(),
        scope: Vec::new(),
        slots: vec![None; kernel.values.len()],
        constants: FxHashMap::default(),
        lanes: None,
        width: 1,
    };
    lowering.function_body()?;
    lowering.builder.seal_all_blocks();
    lowering.builder.finalize(isa.frontend_config());
    Ok(function)
}

/// Loads and stores never trap; vectors may lie anywhere.
pub(super) fn flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

impl<'k> Lowering<'_, 'k> {
    fn function_body(&mut self) -> Lowered {
        let entry = self.builder.create_block();
        self.builder.append_block_params_for_function_params(entry);
        self.builder.switch_to_block(entry);
        let [table, begin, end] = self.builder.block_params(entry)[..] else {
            unreachable!("a kernel has three parameters");
        };
        let bytes = self.pointer.bytes() as i32;
        for i in 0..self.kernel.buffers.len() as i32 {
            let base = self.builder.ins().load(self.pointer, flags().with_readonly(), table, i * bytes);
            self.buffers.push(base);
        }
        let kernel = self.kernel;
        match &kernel.parallel {
            None => self.block(&kernel.body)?,
            Some(parallel) => self.range_loop(parallel, begin, end, &kernel.body)?,
        }
        self.builder.ins().return_(&[]);
        Ok(())
    }

    /// A loop over a range that is known at run time only and may be empty.
    fn range_loop(&mut self, parallel: &ParallelLoop, begin: clif::Value, end: clif::Value, body: &Block) -> Lowered {
        let (head, exit) = (self.builder.create_block(), self.builder.create_block());
        // Upwards it is the index of the round, backwards of the one before.
        let at = self.builder.append_block_param(head, types::I64);
        let first = if parallel.reverse { end } else { begin };
        let some = self.builder.ins().icmp(IntCC::UnsignedLessThan, begin, end);
        self.builder.ins().brif(some, head, &[BlockArg::Value(first)], exit, &[]);
        self.builder.switch_to_block(head);
        let next = self.builder.ins().iadd_imm_s(at, if parallel.reverse { -1 } else { 1 });
        let (index, rest) = if parallel.reverse { (next, (begin, next)) } else { (at, (next, end)) };
        self.scope.push((parallel.var, Binding::Register(index)));
        self.block(body)?;
        self.scope.pop();
        let more = self.builder.ins().icmp(IntCC::UnsignedLessThan, rest.0, rest.1);
        self.builder.ins().brif(more, head, &[BlockArg::Value(next)], exit, &[]);
        self.builder.switch_to_block(exit);
        Ok(())
    }

    /// `count` rounds from `start` by `step`, with registers carried from round to round; returns their last values.
    /// One round is written in line, without a loop.
    pub(super) fn counted_loop(
        &mut self,
        (start, step, count): (i64, i64, u64),
        initial: &[clif::Value],
        body: &mut Round<'_, Self>,
    ) -> Lowered<Vec<clif::Value>> {
        match count {
            0 => return Ok(initial.to_vec()),
            1 => return body(self, Binding::Known(start), initial),
            _ => {}
        }
        let (head, exit) = (self.builder.create_block(), self.builder.create_block());
        let index = self.builder.append_block_param(head, types::I64);
        let mut carried = Vec::with_capacity(initial.len());
        for value in initial {
            let ty = self.builder.func.dfg.value_type(*value);
            carried.push(self.builder.append_block_param(head, ty));
            self.builder.append_block_param(exit, ty);
        }
        let first = self.builder.ins().iconst(types::I64, start);
        let arguments: Vec<BlockArg> = [first].iter().chain(initial).map(|v| BlockArg::Value(*v)).collect();
        self.builder.ins().jump(head, &arguments);
        self.builder.switch_to_block(head);
        let next = body(self, Binding::Register(index), &carried)?;
        let index = self.builder.ins().iadd_imm_s(index, step);
        let end = start + step * count as i64;
        let more = self.builder.ins().icmp_imm_s(IntCC::SignedLessThan, index, end);
        let again: Vec<BlockArg> = [index].iter().chain(&next).map(|v| BlockArg::Value(*v)).collect();
        let leave: Vec<BlockArg> = next.iter().map(|v| BlockArg::Value(*v)).collect();
        self.builder.ins().brif(more, head, &again, exit, &leave);
        self.builder.switch_to_block(exit);
        Ok(self.builder.block_params(exit).to_vec())
    }

    /// Lowers instructions in order.
    pub(super) fn block(&mut self, block: &Block) -> Lowered {
        block.instructions.iter().try_for_each(|i| self.instruction(i))
    }

    /// The dtype of a value.
    pub(super) fn dtype(&self, value: Value) -> DType {
        self.kernel.values[value.0 as usize]
    }

    /// Says which registers hold a value.
    pub(super) fn bind(&mut self, value: Value, slot: Slot) {
        self.slots[value.0 as usize] = Some(slot);
    }

    /// The registers of a value.
    pub(super) fn slot(&self, value: Value) -> Slot {
        self.slots[value.0 as usize].clone().expect("the verifier saw that uses follow definitions")
    }

    /// Remembers a constant.
    pub(super) fn set_constant(&mut self, value: Value, number: f64) {
        self.constants.insert(value, number);
    }

    /// The number, if the value is a constant.
    pub(super) fn constant(&self, value: Value) -> Option<f64> {
        self.constants.get(&value).copied()
    }

    /// The register of a uniform value.
    pub(super) fn uniform(&self, value: Value) -> clif::Value {
        match self.slot(value) {
            Slot::Uniform(register) => register,
            Slot::Lanes(_) => unreachable!("lanes are used only where lanes are lowered"),
        }
    }

    /// The packs of a value at the present width; a uniform value is repeated in all lanes.
    pub(super) fn packs(&mut self, value: Value) -> Vec<clif::Value> {
        let dtype = self.dtype(value);
        let count = self.width / pack_lanes(dtype);
        let register = match self.slot(value) {
            Slot::Lanes(packs) => return packs,
            Slot::Uniform(register) => register,
        };
        let pack = match self.constant(value) {
            Some(number) => self.constant_pack(dtype, number),
            None => self.splat(dtype, register),
        };
        vec![pack; count]
    }

    /// A scalar in all lanes of one pack.
    pub(super) fn splat(&mut self, dtype: DType, register: clif::Value) -> clif::Value {
        let register = if dtype == DType::Bool { self.builder.ins().bmask(types::I32, register) } else { register };
        self.builder.ins().splat(pack_type(dtype), register)
    }

    /// A constant in all lanes of one pack.
    pub(super) fn constant_pack(&mut self, dtype: DType, number: f64) -> clif::Value {
        let bits = constant_bits(dtype, number);
        let bits = if dtype == DType::Bool { bits.wrapping_neg() } else { bits };
        let size = if pack_lanes(dtype) == 2 { 8 } else { 4 };
        let bytes: Vec<u8> = bits.to_le_bytes()[..size].repeat(16 / size);
        self.vector_constant(pack_type(dtype), bytes)
    }

    /// A constant vector from its 16 bytes, lane 0 first.
    pub(super) fn vector_constant(&mut self, ty: clif::Type, bytes: Vec<u8>) -> clif::Value {
        let handle = self.builder.func.dfg.constants.insert(clif::ConstantData::from(&bytes[..]));
        self.builder.ins().vconst(ty, handle)
    }

    /// A constant in a scalar register.
    pub(super) fn constant_scalar(&mut self, dtype: DType, number: f64) -> clif::Value {
        let bits = constant_bits(dtype, number);
        match scalar_type(dtype) {
            types::F32 => self.builder.ins().f32const(f32::from_bits(bits as u32)),
            types::F64 => self.builder.ins().f64const(f64::from_bits(bits)),
            types::I32 => self.builder.ins().iconst(types::I32, i64::from(bits as u32)),
            ty => self.builder.ins().iconst(ty, bits as i64),
        }
    }

    /// `affine · scale` as an `i64` register, without its constant part, which is returned beside it; no register if it is 0.
    ///
    /// Terms are added from the outermost variable inwards, so that all but the last addition can leave the inner loop.
    pub(super) fn affine(&mut self, affine: &Affine, scale: i64) -> (Option<clif::Value>, i64) {
        let mut constant = affine.constant * scale;
        let mut sum: Option<clif::Value> = None;
        for i in 0..self.scope.len() {
            let (var, binding) = self.scope[i];
            let factor = affine.coefficient(var) * scale;
            if factor == 0 {
                continue;
            }
            match binding {
                Binding::Known(number) => constant += number * factor,
                Binding::Register(register) => {
                    let term = self.multiply(register, factor);
                    sum = Some(match sum {
                        Some(sum) => self.builder.ins().iadd(sum, term),
                        None => term,
                    });
                }
            }
        }
        (sum, constant)
    }

    fn multiply(&mut self, register: clif::Value, factor: i64) -> clif::Value {
        if factor == 1 {
            register
        } else if factor > 0 && factor.count_ones() == 1 {
            self.builder.ins().ishl_imm_u(register, i64::from(factor.trailing_zeros()))
        } else {
            self.builder.ins().imul_imm_s(register, factor)
        }
    }
}
