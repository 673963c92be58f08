"""`benches/run`'s side of the talk with one contestant: a process that holds a batch and runs steps when asked."""
import os
import re
import subprocess
import sys

import numpy as np

import workloads

HERE = workloads.ROOT / "benches" / "peers"
# The program of the peers that are Rust libraries, which `benches/run` builds.
RUST = workloads.ROOT / "target" / "bench-peers" / "release" / "peers"

# Name, program, variant, and what it is for: training, inference, images, or one of the first two on dense layers alone, or on plain ones: dense and convolutional.
PEERS = (
    ("PyTorch eager", "torch_peer.py", "eager", ("train", "infer")),
    ("PyTorch channels last", "torch_peer.py", "channels_last", ("images",)),
    ("torch.compile", "torch_peer.py", "compile", ("train", "infer")),
    ("JAX", "jax_peer.py", "jit", ("train", "infer")),
    ("Keras", "keras_peer.py", "tensorflow", ("train plain", "infer plain")),
    ("ONNX Runtime", "onnx_peer.py", "onnxruntime", ("infer",)),
    ("OpenVINO", "onnx_peer.py", "openvino", ("infer",)),
    ("tract", RUST, "tract", ("infer",)),
    ("candle", RUST, "candle", ("infer dense",)),
    ("burn", RUST, "burn", ("train dense", "infer dense")),
)


class Unavailable(Exception):
    """A contestant that cannot run, and why."""


class Contestant:
    """A running process, which inherits the cores that `benches/run` is pinned to."""

    def __init__(self, name, command, log, environment=None):
        self.name = name
        self.command = [str(part) for part in command]
        self.log = open(log, "w")
        environment = {**os.environ, **(environment or {})}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log}
        self.process = subprocess.Popen(self.command, text=True, cwd=workloads.ROOT, env=environment, **pipes)

    def wait_until_ready(self):
        self.ready = self.read("ready").split()
        self.compile_ms = float(self.ready[0])

    def read(self, word):
        found, _, rest = self.process.stdout.readline().strip().partition(" ")
        if found == word:
            return rest
        if found == "unavailable":
            raise Unavailable(rest)
        raise Unavailable(f"it ended; see {os.path.relpath(self.log.name, workloads.ROOT)}")

    def ask(self, word, *arguments, answer=None):
        try:
            print(word, *arguments, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass
        return self.read(answer or word)

    def losses(self, count):
        """The losses of `count` further steps."""
        return np.array([float(x) for x in self.ask("losses", count).split(",")])

    def output(self, file):
        """The first output, through a file."""
        self.ask("outputs", file)
        return np.fromfile(file, np.float32)

    def steps(self, count):
        """Seconds a step, over `count` steps."""
        return float(self.ask("steps", count, answer="seconds")) / count

    def memory(self):
        """Bytes that a training step takes, all in all; 0 if nobody knows."""
        return int(self.ask("memory", answer="bytes"))

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


class Nnc(Contestant):
    """The bench program; it also has the clock, and says which parameters the model has."""

    def __init__(self, program, workload, inputs, threads, folder):
        settings = ["--", *workload.settings] if workload.settings else []
        given = [f"{name}={path}" for name, path in inputs.items()]
        command = [program, workload.model, workload.entry, "-", workload.rows, threads, *given, *settings]
        super().__init__("nnc", command, folder / "nnc.log")
        self.wait_until_ready()
        self.workspace, self.operations = (int(x) for x in self.ready[1:3])

    def parameters(self):
        """Path and shape of every parameter and state."""
        for text in self.ask("parameters").split():
            path, dtype, dims = text.split(":")
            if dtype != "f32":
                sys.exit(f"benches/run: {path} is {dtype}, and the comparison is of f32")
            yield path, tuple(int(dim) for dim in dims.split(",") if dim)

    def clock(self):
        """The core's clock in GHz."""
        return float(self.ask("clock", answer="ghz"))

    def in_kernels(self, turns):
        """The time of all kernels, one by one, as a part of the time of whole calls."""
        return float(self.ask("kernels", turns, answer="share"))

    def by_hand(self, weights):
        """The command line that starts the program with the same weights."""
        command = list(self.command)
        command[3] = str(weights)
        return " ".join(os.path.relpath(part, workloads.ROOT) if os.path.isabs(part) else part for part in command).replace(
            "=" + str(workloads.ROOT) + "/", "="
        )


def peers_of(workload):
    """The peers that take part in a workload."""
    kinds = {workload.entry} | ({"images"} if workload.images else set())
    if workload.network.startswith("mlp"):
        kinds.add(f"{workload.entry} dense")
    if workload.network.startswith("mlp") or workload.network in ("convnet", "autoencoder"):
        kinds.add(f"{workload.entry} plain")
    return [peer for peer in PEERS if kinds & set(peer[3]) and (peer[1] != RUST or RUST.exists())]


def start(peer, workload, weights, inputs, threads, folder):
    """Starts a peer's process; it gets ready while others do."""
    name, program, variant, _ = peer
    given = [f"{name}={path}" for name, path in inputs.items()]
    if variant == "tract":
        write_graph(workload, weights)
    command = [program] if program == RUST else [sys.executable, HERE / program]
    command += [variant, workload.key, weights, threads, *given]
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}
    return Contestant(name, command, folder / f"{re.sub('[^a-z]+', '-', name.lower())}.log", limits)


def write_graph(workload, weights):
    """Writes the graph of ONNX that the Python peers make for themselves beside the weights; without `onnx` there is none, and tract says so."""
    import talk

    file = weights.with_name("model.onnx")
    file.unlink(missing_ok=True)
    try:
        import onnx_networks
    except ImportError:
        return
    model, _ = onnx_networks.model(workload, talk.weights_of(weights))
    file.write_bytes(model.SerializeToString())
