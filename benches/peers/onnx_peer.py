"""ONNX Runtime (`onnxruntime`) and OpenVINO (`openvino`) on a workload's inference, both from the same ONNX graph."""
import numpy as np

import onnx_networks
import talk


class OnnxRuntime:
    def __init__(self, model, name, array, threads):
        import onnxruntime

        self.version = onnxruntime.__version__
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.given = {name: array}

    def call(self):
        return self.session.run(None, self.given)[0]


class OpenVino:
    def __init__(self, model, name, array, threads):
        import openvino

        self.version = openvino.__version__.split("-")[0]
        # On some processors OpenVINO would choose bf16 by itself.
        options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", options)
        self.request = compiled.create_infer_request()
        # The tensor shares the array's memory, and must not outlive it.
        self.array = array
        self.request.set_input_tensor(openvino.Tensor(self.array, shared_memory=True))

    def call(self):
        self.request.infer()
        return self.request.get_output_tensor().data


class Peer:
    """A runtime on a batch: `output` and `steps` as `talk` asks for."""

    def __init__(self, runtime):
        self.runtime = runtime

    def prepare(self):
        self.runtime.call()

    def output(self):
        return self.runtime.call()

    def steps(self, count):
        for _ in range(count):
            self.runtime.call()


def make(variant, workload, weights, inputs, threads):
    model, name = onnx_networks.model(workload, weights)
    array = inputs[name]
    if array.ndim == 4:
        array = array.transpose(0, 3, 1, 2)
    runtime = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}[variant]
    made = runtime(model, name, np.ascontiguousarray(array), threads)
    return made.version, Peer(made)


if __name__ == "__main__":
    talk.serve(make)
