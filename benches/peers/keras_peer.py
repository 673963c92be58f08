"""Keras on a workload: its layers and optimizers with TensorFlow behind them, a training step or an inference as one `tf.function`.

Dense and convolutional networks alone. XLA is JAX's part in the comparison; here TensorFlow's own kernels run.
"""
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import tensorflow as tf

import talk

PROBABILITIES = ("mlp_deep", "mlp_small", "convnet")
# The sizes of the dense layers of each network.
DENSE = {"mlp_deep": (512, 512, 10), "mlp_small": (32, 10), "convnet": (64, 10), "autoencoder": (128, 64, 32, 64, 128, 784)}


def network_of(workload, weights):
    """The layers, with their weights; they take bytes and give logits."""
    image = keras.Input((28, 28), batch_size=workload.rows, dtype="uint8")
    x = keras.ops.cast(image, "float32") / 255
    if workload.network == "convnet":
        x = x[..., None]
        for i in (1, 2):
            x = keras.layers.Conv2D(weights[f"conv2d_{i}.w"].shape[-1], 3, activation="relu", name=f"conv2d_{i}")(x)
            x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    for i, units in enumerate(DENSE[workload.network], start=1):
        is_last = i == len(DENSE[workload.network])
        x = keras.layers.Dense(units, activation=None if is_last else "relu", name=f"dense_{i}")(x)
    model = keras.Model(image, x)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([weights[f"{layer.name}.w"], weights[f"{layer.name}.b"]])
    return model


def optimizer_of(kind):
    name, rate = kind
    # Keras adds epsilon before the second moment's correction, which in the first steps makes it larger: this is about 1e-8 after it, as elsewhere.
    return keras.optimizers.Adam(rate, epsilon=5e-10) if name == "adam" else keras.optimizers.SGD(rate)


class Keras:
    """A network on a batch: `losses`, `output` and `steps` as `talk` asks for."""

    def __init__(self, workload, weights, inputs):
        if workload.network not in DENSE:
            raise RuntimeError("Keras takes part in dense and convolutional networks alone")
        model = network_of(workload, weights)
        self.training = workload.entry == "train"
        image = tf.constant(inputs["image"])
        if self.training:
            optimizer = optimizer_of(workload.optimizer)
            optimizer.build(model.trainable_variables)
            if workload.network == "autoencoder":
                truth = tf.reshape(tf.cast(image, tf.float32) / 255, (workload.rows, -1))
                loss_of = keras.losses.BinaryCrossentropy(from_logits=True)
            else:
                truth = tf.constant(inputs["label"])
                loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

        def train():
            with tf.GradientTape() as tape:
                loss = loss_of(truth, model(image, training=True))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            return loss

        def infer():
            logits = model(image, training=False)
            return tf.nn.softmax(logits) if workload.network in PROBABILITIES else logits

        self.function = tf.function(train if self.training else infer, jit_compile=False)

    def prepare(self):
        # Traced, not run: a step would change the weights.
        self.function = self.function.get_concrete_function()

    def losses(self, count):
        return [float(self.function()) for _ in range(count)]

    def output(self):
        return self.function().numpy()

    def steps(self, count):
        for _ in range(count):
            # Each call is waited for: that is what a caller who uses the result sees.
            self.function().numpy()


def make(variant, workload, weights, inputs, threads):
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return f"{keras.__version__} (TensorFlow {tf.__version__})", Keras(workload, weights, inputs)


if __name__ == "__main__":
    talk.serve(make)
