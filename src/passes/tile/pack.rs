//! Kernels that pack a right operand into panels: `[loops around][panel][depth][width]`, padded with zeros.

use super::site::Site;
use crate::ir::loops::build::{BlockBuilder, KernelBuilder};
use crate::ir::loops::{Affine, Buffer, BufferId, BufferParameter, BufferUse, Kernel, LoopVar, Matrix};
use crate::ir::types::DType;
use crate::passes::lower::finish::Draft;

/// Elements of one packed matrix.
fn matrix_elements(site: &Site, width: u64) -> u64 {
    site.contract.columns.next_multiple_of(width) * site.contract.depth
}

/// Elements of the whole packed operand.
pub fn elements(site: &Site, width: u64) -> u64 {
    site.right_loops().iter().map(|l| l.1).product::<u64>() * matrix_elements(site, width)
}

/// The packed operand's buffer as a parameter.
pub fn parameter(buffer: &Buffer) -> BufferParameter {
    BufferParameter {
        name: buffer.name.clone(),
        dtype: buffer.dtype,
        elements: buffer.elements,
        usage: BufferUse::Read,
    }
}

/// The right operand as packed: its address is that of panel 0; panel `p` starts `p · depth · width` later.
pub fn packed_matrix(site: &Site, width: u64, parameter: u32) -> Matrix {
    let vars: Vec<(LoopVar, u64)> = site.right_loops();
    Matrix {
        buffer: BufferId(parameter),
        address: batch_address(&vars, matrix_elements(site, width) as i64),
        row_stride: width as i64,
        column_stride: 1,
    }
}

/// The row-major address of a matrix of `elements` elements for the loops around.
fn batch_address(vars: &[(LoopVar, u64)], elements: i64) -> Affine {
    let row_major = vars.iter().fold(Affine::default(), |sum, (v, extent)| sum.times(*extent as i64).plus(*v, 1));
    row_major.times(elements)
}

/// The kernels: one for the full panels, one for a last narrower one.
pub fn kernels(kernel: &Kernel, site: &Site, width: u64, source: u32, packed: u32, elements: u64) -> Vec<Draft> {
    let columns = site.contract.columns;
    let (full, rest) = (columns / width, columns % width);
    let mut drafts = Vec::new();
    for (first, panels, stored) in [(0, full, width), (full, 1, rest)] {
        if panels > 0 && stored > 0 {
            let dtype = kernel.buffers[site.contract.right.buffer.0 as usize].dtype;
            let panels = Panels { site, width, first, panels, stored, elements, dtype };
            drafts.push(Draft { kernel: panels.kernel(kernel), buffers: vec![source, packed] });
        }
    }
    drafts
}

/// Some panels of a packed operand, all with the same number of columns.
struct Panels<'s> {
    site: &'s Site,
    width: u64,
    first: u64,
    panels: u64,
    stored: u64,
    elements: u64,
    dtype: DType,
}

impl Panels<'_> {
    fn kernel(&self, from: &Kernel) -> Kernel {
        let parameter = &from.buffers[self.site.contract.right.buffer.0 as usize];
        let mut k = KernelBuilder::new();
        let source = k.buffer("source", parameter.dtype, parameter.elements, BufferUse::Read);
        let target = k.buffer("target", parameter.dtype, self.elements, BufferUse::Write);
        k.finish("pack", None, |b| self.loops(b, &mut Vec::new(), source, target))
    }

    /// The loops around, then the panels.
    fn loops(&self, b: &mut BlockBuilder<'_>, vars: &mut Vec<LoopVar>, source: BufferId, target: BufferId) {
        let around = self.site.right_loops();
        match around.get(vars.len()) {
            Some((_, extent)) => b.for_each(*extent, |b, var| {
                vars.push(var);
                self.loops(b, vars, source, target);
            }),
            None if self.panels == 1 => self.panel(b, vars, Affine::constant(self.first as i64), source, target),
            None => b.for_each(self.panels, |b, panel| {
                self.panel(b, vars, Affine::scaled(panel, 1).offset(self.first as i64), source, target);
            }),
        }
    }

    fn panel(&self, b: &mut BlockBuilder<'_>, vars: &[LoopVar], panel: Affine, source: BufferId, target: BufferId) {
        let right = &self.site.contract.right;
        let (depth, width) = (self.site.contract.depth, self.width as i64);
        let around: Vec<(LoopVar, u64)> =
            vars.iter().zip(self.site.right_loops()).map(|(v, (_, extent))| (*v, extent)).collect();
        let origin = vars
            .iter()
            .zip(self.site.right_loops())
            .fold(Affine::constant(right.address.constant), |sum, (var, (old, _))| {
                sum.plus(*var, right.address.coefficient(old))
            });
        let from = origin.sum(&panel.times(width * right.column_stride));
        let to = batch_address(&around, matrix_elements(self.site, self.width) as i64)
            .sum(&panel.times(width * depth as i64));
        b.for_each(depth, |b, k| {
            let (from, to) = (from.clone().plus(k, right.row_stride), to.clone().plus(k, width));
            b.lanes(self.stored, |b, j| {
                let value = b.load(source, from.clone().plus(j, right.column_stride));
                b.store(target, to.clone().plus(j, 1), value);
            });
            if self.stored < self.width {
                b.lanes(self.width - self.stored, |b, j| {
                    let zero = b.constant(self.dtype, 0.0);
                    b.store(target, to.clone().plus(j, 1).offset(self.stored as i64), zero);
                });
            }
        });
    }
}
