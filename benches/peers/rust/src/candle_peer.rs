//! candle on the multilayer perceptrons: inference.

use std::hint::black_box;

use candle_core::{DType, Device, Tensor};
use candle_nn::{Linear, Module, ops};

use crate::{Answer, Dense, Peer, Task};

struct Candle {
    image: Tensor,
    layers: Vec<Linear>,
}

/// The network of a task with its weights and batch.
pub fn make(task: &Task) -> Answer<Box<dyn Peer>> {
    if task.is_training() {
        return Err("candle takes part in inference alone".into());
    }
    let device = Device::Cpu;
    let bytes = task.input("image")?;
    let image = Tensor::from_slice(bytes, (bytes.len() / 784, 784), &device)?;
    let mut layers = Vec::new();
    for Dense { weights, inputs, biases } in task.dense_layers()? {
        let outputs = biases.len();
        // A `Linear` holds outputs × inputs.
        let weights = Tensor::from_vec(weights, (inputs, outputs), &device)?.t()?.contiguous()?;
        layers.push(Linear::new(weights, Some(Tensor::from_vec(biases, outputs, &device)?)));
    }
    Ok(Box::new(Candle { image, layers }))
}

impl Candle {
    fn infer(&self) -> candle_core::Result<Tensor> {
        let mut x = (self.image.to_dtype(DType::F32)? / 255.0)?;
        let last = self.layers.len() - 1;
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x)?;
            if i < last {
                x = x.relu()?;
            }
        }
        ops::softmax_last_dim(&x)
    }
}

impl Peer for Candle {
    fn loss(&mut self) -> Answer<f64> {
        Err("candle takes part in inference alone".into())
    }

    fn output(&mut self) -> Answer<Vec<f32>> {
        Ok(self.infer()?.flatten_all()?.to_vec1()?)
    }

    fn step(&mut self) -> Answer<()> {
        black_box(self.infer()?);
        Ok(())
    }
}
