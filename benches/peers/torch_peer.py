"""PyTorch on a workload: eager, compiled by Inductor (`compile`), or with channels last in memory (`channels_last`, `compile_channels_last`)."""
import torch
import torch._inductor.config
from torch.nn import functional

import talk
import torch_networks

# Losses of the modules' results; the batch's other arrays come by name.
LOSSES = {
    "vae": lambda r, batch: 784 * functional.binary_cross_entropy_with_logits(r[0], batch["pixels"])
    - 0.5 * (1 + r[2] - r[1] ** 2 - r[2].exp()).sum(-1).mean(),
    "autoencoder": lambda r, batch: functional.binary_cross_entropy_with_logits(r, batch["pixels"]),
}
PROBABILITIES = ("mlp_deep", "mlp_small", "convnet")


def cross_entropy(logits, batch):
    truth = batch["label"] if "label" in batch else batch["next"]
    return functional.cross_entropy(logits.flatten(0, -2), truth.flatten())


def optimizer_of(kind, parameters):
    name, rate, *rest = kind
    optim = torch.optim
    if name == "adam":
        return optim.Adam(parameters, lr=rate, fused=True)
    if name == "adamw":
        return optim.AdamW(parameters, lr=rate, weight_decay=rest[0], fused=True)
    return optim.SGD(parameters, lr=rate, momentum=rest[0] if rest else 0, fused=True)


class Torch:
    """A module on a batch: `losses`, `output` and `steps` as `talk` asks for."""

    def __init__(self, workload, weights, inputs, compiled, last):
        self.workload = workload
        network = getattr(torch_networks, workload.network)(weights)
        self.batch = {name: torch.from_numpy(array) for name, array in inputs.items()}
        for name in ("text", "label", "next"):
            if name in self.batch:
                self.batch[name] = self.batch[name].long()
        if self.batch.get("image", torch.empty(0)).dim() == 4:
            self.batch["image"] = self.batch["image"].permute(0, 3, 1, 2).contiguous()
        if last:
            network = network.to(memory_format=torch.channels_last)
            if self.batch["image"].dim() == 4:
                self.batch["image"] = self.batch["image"].to(memory_format=torch.channels_last)
        training = workload.entry == "train"
        network.train(training)
        self.network = network
        if training:
            trained = [p for p in network.parameters() if p.requires_grad]
            self.optimizer = optimizer_of(workload.optimizer, trained)
        of = LOSSES.get(workload.network, cross_entropy)

        def loss(batch):
            if workload.network in LOSSES:
                batch = {**batch, "pixels": batch["image"].flatten(1).float() / 255}
            given = [batch[name] for name in ("image", "noise", "text") if name in batch]
            return of(network(*given), batch)

        def infer(batch):
            result = network(*[batch[name] for name in ("image", "text") if name in batch])
            return result.softmax(-1) if workload.network in PROBABILITIES else result

        self.function = loss if training else infer
        if compiled:
            # Lets weights be packed for the products at compile time.
            torch._inductor.config.freezing = not training
            self.function = torch.compile(self.function)
        self.call = self.train if training else self.infer

    def prepare(self):
        """Compiles, which the first call does; the optimizer takes no step."""
        if self.workload.entry == "infer":
            self.infer()
        else:
            self.function(self.batch).backward()

    def train(self):
        loss = self.function(self.batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def infer(self):
        with torch.inference_mode():
            return self.function(self.batch)

    def step_bytes(self):
        """Bytes of parameters, states, the batch, and the most that a step allocates beside them, gradients included."""
        self.train()
        self.optimizer.zero_grad()
        states = [value for state in self.optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
        kept = [*self.network.parameters(), *self.network.buffers(), *states, *self.batch.values()]
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            self.train()
        used = most = 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                used += event.nbytes()
                most = max(most, used)
        return most + sum(tensor.numel() * tensor.element_size() for tensor in kept)

    def losses(self, count):
        return [self.train().item() for _ in range(count)]

    def output(self):
        return self.infer().numpy()

    def steps(self, count):
        for _ in range(count):
            self.call()


def make(variant, workload, weights, inputs, threads):
    torch.set_num_threads(threads)
    return torch.__version__, Torch(workload, weights, inputs, "compile" in variant, "channels_last" in variant)


if __name__ == "__main__":
    talk.serve(make)
