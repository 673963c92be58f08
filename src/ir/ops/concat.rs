//! `concat`: tensors one after another along an axis.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::loops::Affine;

/// The operands one after another along `axis`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Concat {
    pub axis: usize,
}

impl OpDef for Concat {
    const DOC: OpDoc = OpDoc {
        name: "concat",
        summary: "tensors one after another along an axis",
        shapes: "x1[.., n1, ..], x2[.., n2, ..], .. -> [.., n1 + n2 + .., ..]",
        equation: "y = x1 followed by x2, ..",
        derivative: "dx1, dx2, .. = the slices of dy where they went",
        dtypes: "any, the same for all",
        error: "exact",
    };

    fn attributes(&self) -> Attributes {
        Attributes::new([("axis", Attribute::dim(self.axis))])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        Ok(Concat { axis: attributes.number("axis")? })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let Some(first) = inputs.first() else { return Err(TypeError::new("concat of no tensors")) };
        if self.axis >= first.rank() {
            return Err(TypeError::new(format!("axis {} of {first}", self.axis)).at([0]));
        }
        let mut total = Dim::from(0i64);
        for (i, other) in inputs.iter().enumerate() {
            let fits = other.rank() == first.rank()
                && (0..first.rank()).all(|a| a == self.axis || other.shape[a] == first.shape[a]);
            if !fits || other.dtype != first.dtype {
                return Err(TypeError::new(format!("{first} and {other} do not join along axis {}", self.axis))
                    .note("dtype and all other dims must agree")
                    .at([0, i]));
            }
            total = total.add(&other.shape[self.axis]).ok_or_else(|| TypeError::new("a size is too large"))?;
        }
        let mut ty = (*first).clone();
        ty.shape[self.axis] = total;
        Ok(vec![ty])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let mut out = Tensor::filled(outputs[0].clone(), 0.0);
        let row = run(&outputs[0], self.axis).1;
        let mut origin = 0;
        for x in inputs {
            let (outer, part) = run(&x.ty, self.axis);
            for o in 0..outer {
                let at = o * row + origin;
                out.data[at..at + part].copy_from_slice(&x.data[o * part..(o + 1) * part]);
            }
            origin += part;
        }
        vec![out]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        let gradient = cx.gradient();
        let shape = cx.builder.shape_of(gradient);
        let mut start = Dim::from(0i64);
        let mut gradients = Vec::new();
        for (i, x) in cx.inputs.iter().enumerate() {
            let size = cx.builder.shape_of(*x)[self.axis].clone();
            let slice = slice::Slice::along(&shape, self.axis, start.clone(), size.clone());
            gradients.push(cx.wanted[i].then(|| cx.builder.emit(slice, &[gradient])));
            start = start.add(&size).expect("the sum was a size when the node was typed");
        }
        Ok(gradients)
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Opaque
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        let (inputs, outputs) = cx.buffers();
        let (outer, row) = run(&cx.outputs[0], self.axis);
        let parts: Vec<usize> = cx.inputs.iter().map(|ty| run(ty, self.axis).1).collect();
        cx.block.for_each(outer as u64, |b, o| {
            let mut origin = 0;
            for (input, part) in inputs.iter().zip(&parts).filter(|(_, part)| **part > 0) {
                b.lanes(*part as u64, |b, at| {
                    let value = b.load(*input, Affine::scaled(o, *part as i64).plus(at, 1));
                    b.store(outputs[0], Affine::scaled(o, row as i64).plus(at, 1).offset(origin), value);
                });
                origin += *part as i64;
            }
        });
        Vec::new()
    }

    fn primitives() -> Vec<Primitive> {
        const PARAMETERS: &[Parameter] =
            &[Parameter::required("tensors", "a list of tensors"), Parameter::optional("axis", "an int, 0 by default")];
        vec![
            Primitive {
                name: "concat",
                doc: "tensors one after another along an axis",
                parameters: PARAMETERS,
                rest: false,
                draws: false,
                build: concat,
            },
            Primitive {
                name: "stack",
                doc: "tensors of one shape side by side along a new axis",
                parameters: PARAMETERS,
                rest: false,
                draws: false,
                build: stack,
            },
            Primitive {
                name: "tile",
                doc: "x repeated so often along each axis, aligned at the last",
                parameters: const {
                    &[Parameter::required("x", "a tensor"), Parameter::required("repeats", "an int or a list of ints")]
                },
                rest: false,
                draws: false,
                build: tile,
            },
        ]
    }

    fn samples() -> Vec<Sample<Self>> {
        let sample = |axis: usize, shapes: &[&[usize]]| Sample {
            op: Concat { axis },
            inputs: shapes.iter().enumerate().map(|(i, s)| sample::signed(s, i)).collect(),
        };
        vec![
            sample(0, &[&[3], &[17]]),
            sample(1, &[&[2, 3], &[2, 1], &[2, 5]]),
            sample(0, &[&[2, 3], &[1, 3]]),
            sample(1, &[&[2, 3, 4], &[2, 2, 4]]),
            sample(0, &[&[0, 2], &[3, 2]]),
            sample(0, &[&[4]]),
            sample(0, &[&[1], &[1], &[0], &[1]]),
            sample(2, &[&[1, 3, 1], &[1, 3, 20]]),
            sample(0, &[&[0], &[0]]),
        ]
    }
}

/// The number of runs that lie together, and the elements of one, of a tensor joined along `axis`.
fn run(ty: &TensorType, axis: usize) -> (usize, usize) {
    let (outer, size, inner) = nest::around(&ty.sizes().expect("sizes are concrete here"), axis);
    (outer, size * inner)
}

/// The rank that an `axis` argument counts in; an error if there is no tensor.
fn rank_of(b: &GraphBuilder, tensors: &[ValueId]) -> Result<usize, TypeError> {
    let first =
        tensors.first().ok_or_else(|| TypeError::new("expected at least one tensor, found an empty list").at([0]))?;
    Ok(b.type_of(*first).rank())
}

fn concat(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let tensors = arguments.tensors(b, 0)?;
    let axis = arguments.axis_or(1, 0, rank_of(b, &tensors)?)?;
    Ok(vec![b.add_one(Concat { axis }, &tensors).map_err(|e| e.at([0]))?])
}

fn stack(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let tensors = arguments.tensors(b, 0)?;
    let axis = arguments.axis_or(1, 0, rank_of(b, &tensors)? + 1)?;
    let mut slabs = Vec::new();
    for tensor in tensors {
        let mut shape = b.shape_of(tensor);
        shape.insert(axis.min(shape.len()), Dim::from(1i64));
        slabs.push(b.reshape(tensor, &shape)?);
    }
    Ok(vec![b.add_one(Concat { axis }, &slabs).map_err(|e| e.at([0]))?])
}

fn tile(b: &mut GraphBuilder, arguments: &PrimitiveArguments) -> Result<Vec<ValueId>, TypeError> {
    let x = arguments.tensor(b, 0)?;
    let (mut shape, mut repeats) = (b.shape_of(x), arguments.shape(1)?);
    let rank = shape.len().max(repeats.len());
    for list in [&mut shape, &mut repeats] {
        list.splice(0..0, vec![Dim::from(1i64); rank - list.len()]);
    }
    // [a, b] repeated [r, s] times is [1, a, 1, b] stretched to [r, a, s, b] and merged.
    let spread: Vec<Dim> = repeats.iter().zip(&shape).flat_map(|(r, d)| [r.clone(), d.clone()]).collect();
    let merged: Option<Vec<Dim>> = repeats.iter().zip(&shape).map(|(r, d)| r.mul(d)).collect();
    let merged = merged.ok_or_else(|| TypeError::new("a size is too large").at([1]))?;
    let x = b.reshape(x, &shape)?;
    let stretched = b.broadcast_axes(x, &spread, (0..rank).map(|i| 2 * i + 1).collect())?;
    Ok(vec![b.reshape(stretched, &merged)?])
}
