//! Kernels that pack an operand into panels, `[loops around][panel][depth][width]`, padded with zeros.
//!
//! A panel holds `width` columns of a right operand or rows of a left one, one depth step after another, as a tile reads them; rounds
//! follow each other, so that packed they are one long depth.

use super::site::Site;
use crate::ir::loops::build::{BlockBuilder, KernelBuilder};
use crate::ir::loops::sums::divisor;
use crate::ir::loops::{Affine, BufferId, BufferParameter, BufferUse, Kernel, LoopVar, Matrix, Section};
use crate::passes::lower::finish::Draft;

/// Rows of more elements are packed in bands of about [`BAND`] rows.
const LONG_ROW: u64 = 128;
const BAND: u64 = 8;

/// Operands of so many elements are packed in groups of so many panels: enough of each row to read it fast.
const VERY_LARGE: u64 = 1 << 20;
const FEW_PANELS: u64 = 4;

/// An operand of a product as it is packed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packing {
    /// The parameter that holds it.
    pub source: BufferId,
    address: Affine,
    /// The loops on which the operand depends.
    around: Vec<(LoopVar, u64)>,
    /// How many columns (rows), and how far one is from the next.
    lanes: u64,
    lane_stride: i64,
    /// The summed axes, outermost first, and the steps along them.
    depth: Vec<(u64, i64)>,
    width: u64,
}

impl Packing {
    /// The right operand in panels of `width` columns.
    pub fn of_right(site: &Site, width: u64) -> Packing {
        let (c, right) = (&site.contract, &site.contract.right);
        let mut depth: Vec<(u64, i64)> = c.rounds.iter().map(|r| (r.count, r.right_stride)).collect();
        depth.push((c.depth, right.row_stride));
        Packing::new(site, right, (c.columns, right.column_stride), depth, width)
    }

    /// The left operand in panels of `width` rows.
    pub fn of_left(site: &Site, width: u64) -> Packing {
        let (c, left) = (&site.contract, &site.contract.left);
        let mut depth: Vec<(u64, i64)> = c.rounds.iter().map(|r| (r.count, r.left_stride)).collect();
        depth.push((c.depth, left.column_stride));
        Packing::new(site, left, (c.rows, left.row_stride), depth, width)
    }

    /// All lines of the array in which the left operand's rows lie, `elements` in all, in panels of `width` rows. A line is as long as there are rows. `None`
    /// if some step leads into the middle of a line.
    pub fn of_lines(site: &Site, elements: u64, width: u64) -> Option<Packing> {
        let (c, left) = (&site.contract, &site.contract.left);
        let length = i64::try_from(c.rows).ok()?;
        let terms = left.address.terms.iter().map(|t| t.1);
        let rounds = c.rounds.iter().map(|r| r.left_stride);
        let mut steps = terms.chain(rounds).chain([left.address.constant, left.column_stride]);
        let lines = left.row_stride == 1 && elements.is_multiple_of(c.rows) && steps.all(|s| s >= 0 && s % length == 0);
        lines.then(|| Packing {
            source: left.buffer,
            address: Affine::default(),
            around: Vec::new(),
            lanes: c.rows,
            lane_stride: 1,
            depth: vec![(elements / c.rows, length)],
            width,
        })
    }

    fn new(
        site: &Site,
        matrix: &Matrix,
        (lanes, lane_stride): (u64, i64),
        depth: Vec<(u64, i64)>,
        width: u64,
    ) -> Packing {
        let moves = |var: LoopVar| matrix.address.coefficient(var) != 0;
        Packing {
            source: matrix.buffer,
            address: matrix.address.clone(),
            around: site.around.iter().filter(|a| moves(a.0)).map(|a| (a.0, a.1)).collect(),
            lanes,
            lane_stride,
            depth: together(depth),
            width,
        }
    }

    /// The packing with its loops numbered in order and no particular buffer, to be compared with another kernel's.
    pub fn canonical(&self) -> Packing {
        let number = |i: usize| LoopVar(i as u32);
        let terms = self.around.iter().enumerate().map(|(i, (v, _))| (number(i), self.address.coefficient(*v)));
        Packing {
            source: BufferId(0),
            address: Affine { constant: self.address.constant, terms: terms.collect() },
            around: self.around.iter().enumerate().map(|(i, (_, extent))| (number(i), *extent)).collect(),
            ..self.clone()
        }
    }

    /// Steps of the depth, rounds included.
    pub fn steps(&self) -> u64 {
        self.depth.iter().map(|d| d.0).product()
    }

    /// Elements of one packed matrix.
    fn matrix_elements(&self) -> u64 {
        self.lanes.next_multiple_of(self.width) * self.steps()
    }

    /// Elements of the whole packed operand.
    pub fn elements(&self) -> u64 {
        self.around.iter().map(|l| l.1).product::<u64>() * self.matrix_elements()
    }

    /// Where the first panel of the packed matrix is; the panel of lane `l` starts `l · steps` later.
    pub fn packed_address(&self) -> Affine {
        self.batch_address(&self.around)
    }

    fn batch_address(&self, vars: &[(LoopVar, u64)]) -> Affine {
        let row_major = vars.iter().fold(Affine::default(), |sum, (v, extent)| sum.times(*extent as i64).plus(*v, 1));
        row_major.times(self.matrix_elements() as i64)
    }

    /// The kernels: one for the full panels, one for a last narrower one.
    pub fn kernels(&self, parameter: &BufferParameter, source: &Section, packed: u32) -> Vec<Draft> {
        let (full, rest) = (self.lanes / self.width, self.lanes % self.width);
        let covers = [(0, full, self.width), (full, 1, rest)];
        let some = covers.into_iter().filter(|(_, panels, stored)| *panels > 0 && *stored > 0);
        some.map(|(first, panels, stored)| {
            let panels = Panels { packing: self, parameter, first, panels, stored };
            Draft { kernel: panels.kernel(), buffers: vec![source.clone(), Section::whole(packed)] }
        })
        .collect()
    }
}

/// Axes that count through memory as one axis would are one.
fn together(axes: Vec<(u64, i64)>) -> Vec<(u64, i64)> {
    let mut out: Vec<(u64, i64)> = Vec::new();
    for (extent, stride) in axes {
        match out.last_mut() {
            Some(last) if last.1 == stride * extent as i64 => *last = (last.0 * extent, stride),
            _ => out.push((extent, stride)),
        }
    }
    out
}

/// Three loops in one another; one of a single round is none.
fn nest(b: &mut BlockBuilder<'_>, extents: [u64; 3], body: impl Fn(&mut BlockBuilder<'_>, [Affine; 3])) {
    let repeat = |b: &mut BlockBuilder<'_>, extent: u64, inside: &dyn Fn(&mut BlockBuilder<'_>, Affine)| match extent {
        1 => inside(b, Affine::default()),
        _ => b.for_each(extent, |b, var| inside(b, Affine::scaled(var, 1))),
    };
    repeat(b, extents[0], &|b, first| {
        repeat(b, extents[1], &|b, second| {
            repeat(b, extents[2], &|b, third| body(b, [first.clone(), second.clone(), third]));
        });
    });
}

/// Some panels, all with the same number of lanes that are not padding.
struct Panels<'p> {
    packing: &'p Packing,
    parameter: &'p BufferParameter,
    first: u64,
    panels: u64,
    stored: u64,
}

impl Panels<'_> {
    fn kernel(&self) -> Kernel {
        let mut k = KernelBuilder::new();
        let source = k.buffer("source", self.parameter.dtype, self.parameter.elements, BufferUse::Read);
        let target = k.buffer("target", self.parameter.dtype, self.packing.elements(), BufferUse::Write);
        k.finish("pack", None, |b| self.loops(b, &mut Vec::new(), source, target))
    }

    /// The loops around, then the panels.
    fn loops(&self, b: &mut BlockBuilder<'_>, vars: &mut Vec<LoopVar>, source: BufferId, target: BufferId) {
        let first = Affine::constant(self.first as i64);
        match self.packing.around.get(vars.len()) {
            Some((_, extent)) => b.for_each(*extent, |b, var| {
                vars.push(var);
                self.loops(b, vars, source, target);
                vars.pop();
            }),
            None if self.panels == 1 => self.panel(b, vars, first, None, (source, target)),
            None => match self.band() {
                Some((bands, rows)) => {
                    let together = self.together();
                    nest(b, [self.panels / together, bands, together], |b, [outer, band, inner]| {
                        let panel = first.clone().sum(&outer.times(together as i64)).sum(&inner);
                        self.panel(b, vars, panel, Some((band, rows)), (source, target));
                    });
                }
                None => b.for_each(self.panels, |b, panel| {
                    self.panel(b, vars, first.clone().plus(panel, 1), None, (source, target));
                }),
            },
        }
    }

    /// Long rows are read in bands of some rows, from panel to panel, and not each panel from the first row to the last, which would have left the
    /// caches when the next panel reads the other half of its lines. The number of bands and the rows of each; where rows lie along several axes, a band is
    /// one round of the outermost.
    fn band(&self) -> Option<(u64, u64)> {
        let (_, last) = self.packing.depth.last()?;
        if self.packing.lane_stride != 1 || last.unsigned_abs() < LONG_ROW || !self.packing.around.is_empty() {
            return None;
        }
        let (rows, _) = self.packing.depth[0];
        let size = if self.packing.depth.len() > 1 { 1 } else { divisor(rows, BAND / 2, 2 * BAND)? };
        Some((rows / size, size))
    }

    /// How many panels are packed in each band before the next one. Of a very large operand only some, so that the product by the first ones can come before the next are packed.
    fn together(&self) -> u64 {
        let few = self.panels.is_multiple_of(FEW_PANELS) && self.packing.elements() >= VERY_LARGE;
        if few { FEW_PANELS } else { self.panels }
    }

    fn panel(
        &self,
        b: &mut BlockBuilder<'_>,
        vars: &[LoopVar],
        panel: Affine,
        band: Option<(Affine, u64)>,
        buffers: (BufferId, BufferId),
    ) {
        let p = self.packing;
        let width = p.width as i64;
        let around: Vec<(LoopVar, u64)> = vars.iter().zip(&p.around).map(|(v, (_, extent))| (*v, *extent)).collect();
        let origin = vars.iter().zip(&p.around).fold(Affine::constant(p.address.constant), |sum, (var, (old, _))| {
            sum.plus(*var, p.address.coefficient(*old))
        });
        let from = origin.sum(&panel.times(width * p.lane_stride));
        let to = p.batch_address(&around).sum(&panel.times(width * p.steps() as i64));
        let Some((band, rows)) = band else { return self.steps(b, &p.depth, (from, to), buffers) };
        let (outer, stride) = p.depth[0];
        let inside = (p.steps() / outer) as i64 * width;
        let from = from.sum(&band.times(stride * rows as i64));
        let to = to.sum(&band.times(inside * rows as i64));
        let depth: Vec<(u64, i64)> = std::iter::once((rows, stride)).chain(p.depth[1..].iter().copied()).collect();
        self.steps(b, &depth, (from, to), buffers);
    }

    /// The steps of the summed axes `depth`, the outermost first.
    fn steps(
        &self,
        b: &mut BlockBuilder<'_>,
        depth: &[(u64, i64)],
        (from, to): (Affine, Affine),
        buffers: (BufferId, BufferId),
    ) {
        let Some(((extent, stride), rest)) = depth.split_first() else { return self.lanes(b, from, to, buffers) };
        let inside = rest.iter().map(|d| d.0).product::<u64>() * self.packing.width;
        b.for_each(*extent, |b, k| {
            self.steps(b, rest, (from.plus(k, *stride), to.plus(k, inside as i64)), buffers);
        });
    }

    /// The lanes of one step and their padding.
    fn lanes(&self, b: &mut BlockBuilder<'_>, from: Affine, to: Affine, (source, target): (BufferId, BufferId)) {
        b.lanes(self.stored, |b, lane| {
            let value = b.load(source, from.clone().plus(lane, self.packing.lane_stride));
            b.store(target, to.clone().plus(lane, 1), value);
        });
        if self.stored < self.packing.width {
            b.lanes(self.packing.width - self.stored, |b, lane| {
                let zero = b.constant(self.parameter.dtype, 0.0);
                b.store(target, to.clone().plus(lane, 1).offset(self.stored as i64), zero);
            });
        }
    }
}
