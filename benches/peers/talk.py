"""A peer's side of the talk with `benches/run`; benches/step.rs is nnc's side.

`PEER.py VARIANT KEY WEIGHTS THREADS [NAME=FILE]...`. It says `ready MILLISECONDS WORKSPACE_BYTES VERSION` (the bytes are 0: unknown) or
`unavailable REASON`; then it answers `losses N`, `outputs FILE`, `steps N` and, if it can, `memory` as benches/step.rs does.
"""
import sys
import time

import numpy as np

import workloads


def weights_of(path):
    from safetensors.numpy import load_file

    return load_file(path)


def serve(make):
    """Runs a peer: `make(variant, workload, weights, inputs, threads)` gives its version and an object with `losses`, `output` and `steps`."""
    variant, key, weights, threads, *inputs = sys.argv[1:]
    workload = workloads.find(key)
    talk = sys.stdout
    # What libraries print must not be taken for an answer.
    sys.stdout = sys.stderr
    arrays = workloads.read_inputs(workload, dict(i.split("=", 1) for i in inputs))
    start = time.perf_counter()
    try:
        version, peer = make(variant, workload, weights_of(weights), arrays, int(threads))
        peer.prepare()
    except Exception as error:  # noqa: BLE001: whatever keeps a peer from running is its reason
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        print("unavailable", type(error).__name__, *lines[:1], file=talk, flush=True)
        raise
    print("ready", 1e3 * (time.perf_counter() - start), 0, version, file=talk, flush=True)
    for line in sys.stdin:
        word, *rest = line.split()
        argument = "".join(rest)
        if word == "losses":
            answer = "losses " + ",".join(repr(float(x)) for x in peer.losses(int(argument)))
        elif word == "outputs":
            array = np.ascontiguousarray(peer.output(), np.float32)
            array.tofile(argument)
            answer = f"outputs {array.size}"
        elif word == "steps":
            begin = time.perf_counter()
            peer.steps(int(argument))
            answer = f"seconds {time.perf_counter() - begin}"
        elif word == "memory":
            answer = f"bytes {peer.step_bytes() if hasattr(peer, 'step_bytes') else 0}"
        else:
            sys.exit(f"unknown request {line!r}")
        print(answer, file=talk, flush=True)
