//! tract on the workloads of inference, from the same graphs of ONNX as ONNX Runtime and OpenVINO.

use std::hint::black_box;
use std::sync::Arc;

use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

use crate::{Answer, Peer, Task};

struct Tract {
    plan: Arc<TypedSimplePlan>,
    input: TValue,
}

/// The optimized graph of a task with its batch.
pub fn make(task: &Task) -> Answer<Box<dyn Peer>> {
    if task.threads > 1 {
        set_default_executor(Executor::multithread(task.threads));
    }
    let model = tract_onnx::onnx().model_for_path(task.weights.with_file_name("model.onnx"))?;
    let fact = model.input_fact(0)?.clone();
    let shape = fact.shape.as_concrete_finite()?.ok_or("the graph's input has no sizes")?;
    let dtype = fact.datum_type.concretize().ok_or("the graph's input has no type")?;
    let [bytes] = task.inputs.values().map(Vec::as_slice).collect::<Vec<_>>()[..] else {
        return Err("an inference has one input".into());
    };
    let bytes = if shape.len() == 4 { channels_first(bytes, &shape) } else { bytes.to_vec() };
    let (words, _) = bytes.as_chunks::<4>();
    let input = match dtype {
        DatumType::U8 => Tensor::from_shape(&shape, &bytes)?,
        DatumType::I32 => {
            Tensor::from_shape(&shape, &words.iter().map(|w| i32::from_le_bytes(*w)).collect::<Vec<_>>())?
        }
        DatumType::F32 => {
            Tensor::from_shape(&shape, &words.iter().map(|w| f32::from_le_bytes(*w)).collect::<Vec<_>>())?
        }
        other => return Err(format!("the graph's input is {other:?}").into()),
    };
    let plan = model.into_optimized()?.into_runnable()?;
    Ok(Box::new(Tract { plan, input: input.into_tvalue() }))
}

/// The bytes of `f32` images with channels last, in the shape of ones with channels first.
fn channels_first(bytes: &[u8], shape: &[usize]) -> Vec<u8> {
    let (channels, places) = (shape[1], shape[2] * shape[3]);
    let (words, _) = bytes.as_chunks::<4>();
    let images = words.chunks(channels * places);
    let planes =
        images.flat_map(|image| (0..channels).map(move |channel| image.iter().skip(channel).step_by(channels)));
    planes.flatten().flatten().copied().collect()
}

impl Peer for Tract {
    fn loss(&mut self) -> Answer<f64> {
        Err("tract has no training".into())
    }

    fn output(&mut self) -> Answer<Vec<f32>> {
        let outputs = self.plan.run(tvec!(self.input.clone()))?;
        let plain = outputs[0].to_plain_array_view::<f32>()?;
        Ok(plain.iter().copied().collect())
    }

    fn step(&mut self) -> Answer<()> {
        black_box(self.plan.run(tvec!(self.input.clone()))?);
        Ok(())
    }
}
