"""JAX on a workload: one function under `jit` for the whole training step, with Optax and donated memory, or for inference.

XLA's thread pool has a thread for each core that the process may run on, which `benches/run` has chosen.
"""
import os

os.environ["JAX_PLATFORMS"] = "cpu"
if len(os.sched_getaffinity(0)) == 1:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"

import jax
import optax
from jax import numpy as jnp

import jax_networks
import talk

PROBABILITIES = ("mlp_deep", "mlp_small", "convnet")


def loss_of(workload, result, batch):
    if workload.network in ("vae", "autoencoder"):
        pixels = jax_networks.pixels(batch)
        logits = result[0] if workload.network == "vae" else result
        bce = (jax.nn.softplus(logits) - logits * pixels).mean()
        if workload.network == "autoencoder":
            return bce
        mu, log_var = result[1:]
        return 784 * bce - 0.5 * (1 + log_var - mu**2 - jnp.exp(log_var)).sum(-1).mean()
    truth = batch["label"] if "label" in batch else batch["next"]
    return optax.softmax_cross_entropy_with_integer_labels(result, truth).mean()


def optimizer_of(kind):
    name, rate, *rest = kind
    if name == "adam":
        return optax.adam(rate)
    if name == "adamw":
        return optax.adamw(rate, weight_decay=rest[0])
    return optax.sgd(rate, momentum=rest[0] if rest else None)


class Jax:
    """A network on a batch: `losses`, `output` and `steps` as `talk` asks for."""

    def __init__(self, workload, weights, inputs):
        network = getattr(jax_networks, workload.network)
        self.batch = {name: jnp.asarray(array) for name, array in inputs.items()}
        state_names = [name for name in weights if name.split(".")[-1] in ("mean", "var")]
        self.states = {name: jnp.asarray(weights[name]) for name in state_names}
        self.trained = {name: jnp.asarray(x) for name, x in weights.items() if name not in self.states}
        self.training = workload.entry == "train"
        if self.training:
            optimizer = optimizer_of(workload.optimizer)
            self.memory = optimizer.init(self.trained)

        def loss(trained, states, batch):
            new = dict(states)
            return loss_of(workload, network({**trained, **states, "new": new}, batch, True), batch), new

        def train(trained, states, memory, batch):
            (value, states), gradients = jax.value_and_grad(loss, has_aux=True)(trained, states, batch)
            updates, memory = optimizer.update(gradients, memory, trained)
            return value, optax.apply_updates(trained, updates), states, memory

        def infer(trained, states, batch):
            result = network({**trained, **states}, batch, False)
            return jax.nn.softmax(result) if workload.network in PROBABILITIES else result

        self.function = jax.jit(train, donate_argnums=(0, 1, 2)) if self.training else jax.jit(infer)

    def prepare(self):
        if self.training:
            given = (self.trained, self.states, self.memory, self.batch)
            self.function = self.function.lower(*given).compile()
        else:
            self.infer().block_until_ready()

    def train(self):
        value, self.trained, self.states, self.memory = self.function(self.trained, self.states, self.memory, self.batch)
        return value

    def infer(self):
        return self.function(self.trained, self.states, self.batch)

    def losses(self, count):
        return [float(self.train()) for _ in range(count)]

    def output(self):
        return jax.device_get(self.infer())

    def steps(self, count):
        for _ in range(count):
            # Each call is waited for: that is what a caller who uses the result sees.
            (self.train() if self.training else self.infer()).block_until_ready()


def make(variant, workload, weights, inputs, threads):
    return jax.__version__, Jax(workload, weights, inputs)


if __name__ == "__main__":
    talk.serve(make)
