"""What is measured: for each workload the model, its batch, its inputs and its optimizer, and the numbers that every contestant begins with.

The `.nn` file says the same about network and optimizer for nnc; the check before timing shows that both mean the same thing.
"""
import dataclasses
import pathlib

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]

IMAGES = ("image", "u8", (28, 28), 256)
LABELS = ("label", "i32", (), 10)
TEXT, NEXT = ("text", "i32", (64,), 96), ("next", "i32", (64,), 96)
LONG_TEXT, LONG_NEXT = ("text", "i32", (512,), 96), ("next", "i32", (512,), 96)
CIFAR = ("image", "f32", (32, 32, 3), None)
IMAGENET = ("image", "f32", (224, 224, 3), None)
NOISE = ("noise", "f32", (20,), None)


@dataclasses.dataclass(frozen=True)
class Workload:
    """One row of the table; `network` is a function's name in `torch_networks`, `jax_networks` and `onnx_networks`."""

    key: str
    title: str
    model: str
    network: str
    rows: int
    # Name, dtype, shape of a row, and for integers the number of values.
    inputs: tuple
    optimizer: tuple = ()
    settings: tuple = ()
    tolerance: float = 1e-5
    # Whether PyTorch also runs with its channels in the last dim.
    images: bool = False

    @property
    def entry(self):
        return "train" if self.optimizer else "infer"


MNIST_DEEP, MLP_SMALL = "models/mnist_mlp_deep.nn", "benches/models/mlp_small.nn"
CONVNET, CHAR_LSTM = "models/convnet.nn", "benches/models/char_lstm.nn"
ADAM = ("adam", 1e-3)

WORKLOADS = (
    Workload("T1", "MLP 784-512-512-10, Adam", MNIST_DEEP, "mlp_deep", 128, (IMAGES, LABELS), ADAM, ("rate=0",)),
    Workload("T2", "MLP 784-32-10, SGD", MLP_SMALL, "mlp_small", 128, (IMAGES, LABELS), ("sgd", 0.1)),
    Workload("T3", "convolutional network, Adam", CONVNET, "convnet", 128, (IMAGES, LABELS), ADAM, images=True),
    Workload("T4", "character LSTM 256, 64 steps, Adam", CHAR_LSTM, "char_lstm", 32, (TEXT, NEXT), ADAM),
    Workload("T5", "VAE 784-400-20, Adam", "benches/models/vae.nn", "vae", 128, (IMAGES, NOISE), ADAM),
    Workload("T6", "autoencoder 784-128-64-32, Adam", "benches/models/autoencoder.nn", "autoencoder", 256, (IMAGES,), ADAM),
    Workload("T7", "GPT, 4 layers of 128, AdamW", "benches/models/gpt.nn", "gpt", 16, (TEXT, NEXT), ("adamw", 1e-3, 0.01)),
    Workload("T7l", "GPT, 4 layers of 128, 512 characters, AdamW", "benches/models/gpt.nn", "gpt", 2, (LONG_TEXT, LONG_NEXT), ("adamw", 1e-3, 0.01), ("places=512",)),
    Workload("T8", "ResNet-18 at 32×32, momentum", "benches/models/resnet18_cifar.nn", "resnet18_cifar", 32, (CIFAR, LABELS), ("momentum", 3e-4, 0.9), tolerance=1e-4, images=True),
    Workload("T8f", "ResNet-18 at 32×32, momentum, memory as it is fast", "benches/models/resnet18_cifar.nn", "resnet18_cifar", 32, (CIFAR, LABELS), ("momentum", 3e-4, 0.9), ("--memory=1000000000",), tolerance=1e-4, images=True),
    Workload("I1", "MLP 784-32-10", MLP_SMALL, "mlp_small", 1, (IMAGES,), tolerance=1e-4),
    Workload("I2", "MLP 784-512-512-10", MNIST_DEEP, "mlp_deep", 1, (IMAGES,), settings=("rate=0",), tolerance=1e-4),
    Workload("I3", "convolutional network", CONVNET, "convnet", 1, (IMAGES,), tolerance=1e-4, images=True),
    Workload("I4", "ResNet-18 at 224×224", "benches/models/resnet18.nn", "resnet18", 1, (IMAGENET,), tolerance=1e-4, images=True),
    Workload("I5", "LSTM 256, 64 steps", CHAR_LSTM, "char_lstm", 1, (TEXT,), tolerance=1e-4),
    Workload("I6", "VGG16 at 224×224", "benches/models/vgg16.nn", "vgg16", 1, (IMAGENET,), tolerance=1e-4, images=True),
    Workload("I7", "MLP 784-512-512-10", MNIST_DEEP, "mlp_deep", 1024, (IMAGES,), settings=("rate=0",), tolerance=1e-4),
)

DTYPES = {"u8": np.uint8, "i32": np.int32, "f32": np.float32}


def find(key):
    return next(w for w in WORKLOADS if w.key == key)


def write_inputs(workload, folder):
    """Writes one batch as raw files; gives the path of each input by its name."""
    random = np.random.default_rng(2)
    paths = {}
    for name, dtype, shape, values in workload.inputs:
        shape = (workload.rows, *shape)
        array = random.standard_normal(shape) if values is None else random.integers(0, values, shape)
        paths[name] = folder / f"{name}.raw"
        paths[name].write_bytes(array.astype(DTYPES[dtype]).tobytes())
    return paths


def read_inputs(workload, paths):
    """The arrays of `write_inputs`."""
    arrays = {}
    for name, dtype, shape, _ in workload.inputs:
        arrays[name] = np.fromfile(paths[name], DTYPES[dtype]).reshape(workload.rows, *shape)
    return arrays


def first_value(random, path, shape):
    """A parameter's first value, by its name; nothing is 0, so that a parameter in the wrong place changes the result."""
    name = path.split(".")[-1]
    if name == "gamma":
        return 1 + 0.1 * random.standard_normal(shape, np.float32)
    if name == "var":
        return random.uniform(0.5, 1.5, shape)
    if name in ("b", "beta", "mean"):
        return 0.05 * random.standard_normal(shape, np.float32)
    if path.startswith("embedding"):
        return 0.5 * random.standard_normal(shape, np.float32)
    # Attention's matrices have heads in the last two dims or, on the way out, in the first two.
    split_result = path.split(".")[-2] in ("query", "key", "value")
    inputs = shape[0] if split_result else np.prod(shape[:-1])
    return (1.4 / inputs**0.5) * random.standard_normal(shape, np.float32)


def write_weights(parameters, path):
    """Writes first values for parameters given as (path, shape) into a safetensors file."""
    from safetensors.numpy import save_file

    random = np.random.default_rng(1)
    save_file({name: first_value(random, name, shape).astype(np.float32) for name, shape in sorted(parameters)}, path)
