//! burn on the multilayer perceptrons: training and inference, on its own backend for CPUs.

use std::hint::black_box;

use burn::backend::{Autodiff, Flex};
use burn::module::{AutodiffModule, Module, Param};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::{Linear, LinearConfig};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{Adam, AdamConfig, GradientsParams, Optimizer, Sgd, SgdConfig};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Int, Tensor, TensorData, activation};

use crate::{Answer, Dense, Peer, Task};

type Plain = Flex;
type Differentiated = Autodiff<Plain>;

#[derive(Module, Debug)]
struct Network<B: Backend> {
    layers: Vec<Linear<B>>,
}

impl<B: Backend> Network<B> {
    fn logits(&self, image: Tensor<B, 2, Int>) -> Tensor<B, 2> {
        let mut x = image.float().div_scalar(255.0);
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x);
            if i + 1 < self.layers.len() {
                x = activation::relu(x);
            }
        }
        x
    }
}

enum Rule<B: AutodiffBackend> {
    Adam(OptimizerAdaptor<Adam, Network<B>, B>),
    Sgd(OptimizerAdaptor<Sgd<B::InnerBackend>, Network<B>, B>),
}

struct Training {
    /// Taken out during a step.
    network: Option<Network<Differentiated>>,
    rule: Rule<Differentiated>,
    image: Tensor<Differentiated, 2, Int>,
    label: Tensor<Differentiated, 1, Int>,
    of: CrossEntropyLoss<Differentiated>,
}

struct Inference {
    network: Network<Plain>,
    image: Tensor<Plain, 2, Int>,
}

/// The network of a task with its weights and batch.
pub fn make(task: &Task) -> Answer<Box<dyn Peer>> {
    let device = Default::default();
    let bytes = task.input("image")?;
    let pixels = TensorData::new(bytes.to_vec(), [bytes.len() / 784, 784]);
    let network = network(task)?;
    if !task.is_training() {
        return Ok(Box::new(Inference {
            network: network.valid(),
            image: Tensor::from_data(pixels, (&device, DType::U8)),
        }));
    }
    let rule = match task.key.as_str() {
        "T1" => Rule::Adam(AdamConfig::new().with_epsilon(1e-8).init()),
        "T2" => Rule::Sgd(SgdConfig::new().init()),
        other => return Err(format!("burn takes no part in {other}").into()),
    };
    Ok(Box::new(Training {
        network: Some(network),
        rule,
        image: Tensor::from_data(pixels, (&device, DType::U8)),
        label: Tensor::from_data(task.labels()?.as_slice(), &device),
        of: CrossEntropyLossConfig::new().init(&device),
    }))
}

fn network(task: &Task) -> Answer<Network<Differentiated>> {
    let device = Default::default();
    let mut layers = Vec::new();
    for Dense { weights, inputs, biases } in task.dense_layers()? {
        let outputs = biases.len();
        let mut layer: Linear<Differentiated> = LinearConfig::new(inputs, outputs).init(&device);
        layer.weight = Param::from_data(TensorData::new(weights, [inputs, outputs]), &device);
        layer.bias = Some(Param::from_data(TensorData::new(biases, [outputs]), &device));
        layers.push(layer);
    }
    Ok(Network { layers })
}

impl Training {
    fn train(&mut self) -> Answer<Tensor<Differentiated, 1>> {
        let network = self.network.take().ok_or("a step before this one failed")?;
        let loss = self.of.forward(network.logits(self.image.clone()), self.label.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        self.network = Some(match &mut self.rule {
            Rule::Adam(adam) => adam.step(1e-3, network, gradients),
            Rule::Sgd(sgd) => sgd.step(0.1, network, gradients),
        });
        Ok(loss)
    }
}

impl Peer for Training {
    fn loss(&mut self) -> Answer<f64> {
        Ok(f64::from(self.train()?.into_scalar()))
    }

    fn output(&mut self) -> Answer<Vec<f32>> {
        Err("this is a training step".into())
    }

    fn step(&mut self) -> Answer<()> {
        black_box(self.train()?);
        Ok(())
    }
}

impl Inference {
    fn infer(&self) -> Tensor<Plain, 2> {
        activation::softmax(self.network.logits(self.image.clone()), 1)
    }
}

impl Peer for Inference {
    fn loss(&mut self) -> Answer<f64> {
        Err("this is an inference".into())
    }

    fn output(&mut self) -> Answer<Vec<f32>> {
        self.infer().into_data().to_vec().map_err(|error| format!("{error:?}").into())
    }

    fn step(&mut self) -> Answer<()> {
        black_box(self.infer());
        Ok(())
    }
}
