"""The networks in JAX: functions of a dictionary of parameters, with nnc's names and layouts, and of a batch, to logits.

Networks with batch normalization take and give their running statistics among the parameters' names; `training` chooses which to use.
"""
import jax
from jax import lax, numpy as jnp


def dense(p, path, x):
    return x @ p[path + ".w"] + p[path + ".b"]


def dense_layers(p, x, count, first=1):
    x = dense(p, f"dense_{first}", x)
    for i in range(first + 1, first + count):
        x = dense(p, f"dense_{i}", jax.nn.relu(x))
    return x


def pixels(batch):
    image = batch["image"].astype(jnp.float32) / 255
    return image.reshape(image.shape[0], -1)


def convolution(p, path, x, stride=1, padding="VALID"):
    padding = [(padding, padding)] * 2 if isinstance(padding, int) else padding
    numbers = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, p[path + ".w"], (stride, stride), padding, dimension_numbers=numbers)
    return y + p[path + ".b"] if path + ".b" in p else y


def max_pool(x, size=2, stride=2, padding=0):
    edges = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), edges)


def layer_norm(p, path, x):
    deviation = x - x.mean(-1, keepdims=True)
    variance = (deviation * deviation).mean(-1, keepdims=True)
    return deviation * lax.rsqrt(variance + 1e-5) * p[path + ".gamma"] + p[path + ".beta"]


def batch_norm(p, path, x, training):
    mean, var = p[path + ".mean"], p[path + ".var"]
    if training:
        mean = x.mean((0, 1, 2))
        var = ((x - mean) ** 2).mean((0, 1, 2))
        for name, value in (("mean", mean), ("var", var)):
            old = p[f"{path}.{name}"]
            p["new"][f"{path}.{name}"] = 0.9 * old + 0.1 * lax.stop_gradient(value)
    return (x - mean) * (lax.rsqrt(var + 1e-5) * p[path + ".gamma"]) + p[path + ".beta"]


def mlp_deep(p, batch, training):
    return dense_layers(p, pixels(batch), 3)


def mlp_small(p, batch, training):
    return dense_layers(p, pixels(batch), 2)


def autoencoder(p, batch, training):
    return dense_layers(p, pixels(batch), 6)


def vae(p, batch, training):
    hidden = jax.nn.relu(dense(p, "dense_1", pixels(batch)))
    mu, log_var = dense(p, "dense_2", hidden), dense(p, "dense_3", hidden)
    return dense_layers(p, mu + jnp.exp(0.5 * log_var) * batch["noise"], 2, first=4), mu, log_var


def convnet(p, batch, training):
    x = batch["image"].astype(jnp.float32)[..., None] / 255
    for i in (1, 2):
        x = max_pool(jax.nn.relu(convolution(p, f"conv2d_{i}", x)))
    return dense_layers(p, x.reshape(x.shape[0], -1), 2)


def char_lstm(p, batch, training):
    x = p["embedding_1.w"][batch["text"]].swapaxes(0, 1)
    steps = x @ p["lstm_1.w"] + p["lstm_1.b"]
    start = jnp.zeros((x.shape[1], p["lstm_1.u"].shape[0]), x.dtype)

    def step(carry, z):
        h, c = carry
        i, f, g, o = jnp.split(z + h @ p["lstm_1.u"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    hs = lax.scan(step, (start, start), steps)[1]
    return dense(p, "dense_1", hs.swapaxes(0, 1))


def attention(p, path, x):
    q, k, v = (jnp.einsum("btn,nhk->bthk", x, p[f"{path}.{n}.w"]) + p[f"{path}.{n}.b"] for n in ("query", "key", "value"))
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    return jnp.einsum("bthk,hku->btu", y, p[path + ".attention_output.w"]) + p[path + ".attention_output.b"]


def gpt(p, batch, training):
    x = p["embedding_1.w"][batch["text"]] + p["embedding_2.w"]
    for i in range(1, 5):
        path = f"transformer_encoder_{i}"
        x = x + attention(p, path + ".self_attention", layer_norm(p, path + ".self_attention_norm", x))
        wide = jax.nn.gelu(dense(p, path + ".intermediate", layer_norm(p, path + ".feedforward_norm", x)), approximate=False)
        x = x + dense(p, path + ".feedforward", wide)
    return dense(p, "dense_1", layer_norm(p, "layer_norm_1", x))


def normalized(p, path, x, padding, training, stride=1):
    return batch_norm(p, path + ".batch_norm_1", convolution(p, path + ".conv2d_1", x, stride, padding), training)


def stages(p, x, training):
    for i in range(1, 9):
        path, stride = f"stages_1.block_{i}", 2 if i in (3, 5, 7) else 1
        y = jax.nn.relu(normalized(p, path + ".normalized_1", x, 1, training, stride))
        y = normalized(p, path + ".normalized_2", y, 1, training)
        if stride > 1:
            x = normalized(p, path + ".normalized_3", x, 0, training, stride)
        x = jax.nn.relu(x + y)
    return dense(p, "stages_1.dense_1", x.mean((1, 2)))


def resnet18_cifar(p, batch, training):
    return stages(p, jax.nn.relu(normalized(p, "normalized_1", batch["image"], 1, training)), training)


def resnet18(p, batch, training):
    x = jax.nn.relu(normalized(p, "normalized_1", batch["image"], 3, training, 2))
    return stages(p, max_pool(x, 3, 2, 1), training)


def vgg16(p, batch, training):
    x, i = batch["image"], 0
    for count in (2, 2, 3, 3, 3):
        for _ in range(count):
            i += 1
            x = jax.nn.relu(convolution(p, f"conv2d_{i}", x, padding=1))
        x = max_pool(x)
    return dense_layers(p, x.reshape(x.shape[0], -1), 3)
