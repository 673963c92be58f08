"""The networks in PyTorch, made from weights with nnc's names and layouts.

Each function gives a module from the input's tensors, images already with channels first, to logits; the VAE gives its loss's three parts.
"""
import torch
from torch import nn
from torch.nn import functional


def tensor(array):
    return torch.from_numpy(array.copy())


def set_parameters(module, **arrays):
    for name, array in arrays.items():
        getattr(module, name).data = tensor(array)
    return module


def linear(weights, path):
    w = weights[path + ".w"]
    return set_parameters(nn.Linear(*w.shape), weight=w.T, bias=weights[path + ".b"])


def convolution(weights, path, stride=1, padding=0):
    w = weights[path + ".w"].transpose(3, 2, 0, 1)
    bias = path + ".b" in weights
    layer = nn.Conv2d(w.shape[1], w.shape[0], w.shape[2], stride=stride, padding=padding, bias=bias)
    return set_parameters(layer, weight=w, **({"bias": weights[path + ".b"]} if bias else {}))


def layer_norm(weights, path):
    gamma = weights[path + ".gamma"]
    return set_parameters(nn.LayerNorm(gamma.size, eps=1e-5), weight=gamma, bias=weights[path + ".beta"])


def batch_norm(weights, path):
    values = {ours: weights[f"{path}.{ours}"] for ours in ("gamma", "beta", "mean", "var")}
    layer = nn.BatchNorm2d(values["gamma"].size, eps=1e-5, momentum=0.1)
    set_parameters(layer, weight=values["gamma"], bias=values["beta"])
    return set_parameters(layer, running_mean=values["mean"], running_var=values["var"])


def embedding(weights, path):
    w = weights[path + ".w"]
    return set_parameters(nn.Embedding(*w.shape), weight=w)


class Pixels(nn.Module):
    """Bytes to numbers, as rows or as images with one channel."""

    def __init__(self, flat):
        super().__init__()
        self.flat = flat

    def forward(self, image):
        pixels = image.float() / 255
        return pixels.flatten(1) if self.flat else pixels.unsqueeze(1)


def dense_layers(weights, count, first=1):
    """Dense layers with relu between."""
    layers = [linear(weights, f"dense_{first}")]
    for i in range(first + 1, first + count):
        layers += [nn.ReLU(), linear(weights, f"dense_{i}")]
    return layers


def mlp_deep(weights):
    return nn.Sequential(Pixels(flat=True), *dense_layers(weights, 3))


def mlp_small(weights):
    return nn.Sequential(Pixels(flat=True), *dense_layers(weights, 2))


def autoencoder(weights):
    return nn.Sequential(Pixels(flat=True), *dense_layers(weights, 6))


class ChannelsLastFlatten(nn.Module):
    """Each image as a row in the order of nnc's, the channel running fastest."""

    def forward(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)


def convnet(weights):
    part = [layer for i in (1, 2) for layer in (convolution(weights, f"conv2d_{i}"), nn.ReLU(), nn.MaxPool2d(2))]
    return nn.Sequential(Pixels(flat=False), *part, ChannelsLastFlatten(), *dense_layers(weights, 2))


class CharLstm(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.embedding = embedding(weights, "embedding_1")
        w, u, b = (weights[f"lstm_1.{name}"] for name in "wub")
        self.lstm = nn.LSTM(w.shape[0], u.shape[0], batch_first=True)
        set_parameters(self.lstm, weight_ih_l0=w.T, weight_hh_l0=u.T, bias_ih_l0=b, bias_hh_l0=0 * b)
        # PyTorch has two biases, of which one is enough.
        self.lstm.bias_hh_l0.requires_grad = False
        self.dense = linear(weights, "dense_1")

    def forward(self, text):
        return self.dense(self.lstm(self.embedding(text))[0])


class Vae(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.pixels = Pixels(flat=True)
        self.hidden, self.mu, self.log_var = (linear(weights, f"dense_{i}") for i in (1, 2, 3))
        self.decoder = nn.Sequential(*dense_layers(weights, 2, first=4))

    def forward(self, image, noise):
        hidden = functional.relu(self.hidden(self.pixels(image)))
        mu, log_var = self.mu(hidden), self.log_var(hidden)
        return self.decoder(mu + torch.exp(0.5 * log_var) * noise), mu, log_var


class Block(nn.Module):
    """A transformer block, the three matrices of attention as one."""

    def __init__(self, weights, path):
        super().__init__()
        names = [f"{path}.self_attention.{name}" for name in ("query", "key", "value", "attention_output")]
        d = weights[names[0] + ".w"].shape[0]
        self.heads = weights[names[0] + ".w"].shape[1]
        qkv = [weights[name + ".w"].reshape(d, d).T for name in names[:3]]
        biases = [weights[name + ".b"].reshape(d) for name in names[:3]]
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.qkv.weight.data = torch.cat([tensor(x) for x in qkv])
        self.qkv.bias.data = torch.cat([tensor(x) for x in biases])
        set_parameters(self.out, weight=weights[names[3] + ".w"].reshape(d, d).T, bias=weights[names[3] + ".b"])
        self.first, self.second = (layer_norm(weights, f"{path}.{n}_norm") for n in ("self_attention", "feedforward"))
        self.wide, self.narrow = (linear(weights, f"{path}.{n}") for n in ("intermediate", "feedforward"))

    def forward(self, x):
        n, t, d = x.shape
        qkv = self.qkv(self.first(x)).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, d))
        return x + self.narrow(functional.gelu(self.wide(self.second(x))))


class Gpt(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.characters, self.places = embedding(weights, "embedding_1"), embedding(weights, "embedding_2")
        self.blocks = nn.Sequential(*[Block(weights, f"transformer_encoder_{i}") for i in range(1, 5)])
        self.norm, self.dense = layer_norm(weights, "layer_norm_1"), linear(weights, "dense_1")

    def forward(self, text):
        x = self.characters(text) + self.places.weight
        return self.dense(self.norm(self.blocks(x)))


def normalized(weights, path, padding, stride=1):
    return nn.Sequential(convolution(weights, path + ".conv2d_1", stride, padding), batch_norm(weights, path + ".batch_norm_1"))


class ResidualBlock(nn.Module):
    def __init__(self, weights, path, stride):
        super().__init__()
        self.first = normalized(weights, path + ".normalized_1", 1, stride)
        self.second = normalized(weights, path + ".normalized_2", 1)
        self.projection = normalized(weights, path + ".normalized_3", 0, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        y = self.second(functional.relu(self.first(x)))
        return functional.relu(self.projection(x) + y)


def stages(weights):
    blocks = [ResidualBlock(weights, f"stages_1.block_{i}", 2 if i in (3, 5, 7) else 1) for i in range(1, 9)]
    return [*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear(weights, "stages_1.dense_1")]


def resnet18_cifar(weights):
    return nn.Sequential(normalized(weights, "normalized_1", 1), nn.ReLU(), *stages(weights))


def resnet18(weights):
    stem = [normalized(weights, "normalized_1", 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, *stages(weights))


def vgg16(weights):
    layers, i = [], 0
    for count in (2, 2, 3, 3, 3):
        for _ in range(count):
            i += 1
            layers += [convolution(weights, f"conv2d_{i}", padding=1), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, ChannelsLastFlatten(), *dense_layers(weights, 3))


char_lstm, vae, gpt = CharLstm, Vae, Gpt
