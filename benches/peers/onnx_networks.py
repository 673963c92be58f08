"""The networks for inference as ONNX graphs, made from weights with nnc's names and layouts; channels come first, as ONNX has them."""
import numpy as np
from onnx import TensorProto, helper, numpy_helper

TYPES = {"u8": TensorProto.UINT8, "i32": TensorProto.INT32, "f32": TensorProto.FLOAT}


class Graph:
    """A graph under construction: each method adds a node and gives its result's name."""

    def __init__(self, weights):
        self.weights = weights
        self.nodes, self.constants = [], {}

    def constant(self, name, array):
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def weight(self, path, change=lambda x: x):
        return self.constant(path, change(self.weights[path]))

    def node(self, kind, *inputs, outputs=1, **attributes):
        names = [f"{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0]

    def reshape(self, x, shape):
        return self.node("Reshape", x, self.constant(f"shape_{len(self.nodes)}", np.array(shape, np.int64)))

    def numbers(self, x, shape):
        x = self.node("Cast", x, to=TensorProto.FLOAT)
        return self.reshape(self.node("Div", x, self.constant("full", np.float32(255))), shape)

    def dense(self, x, path):
        return self.node("Gemm", x, self.weight(path + ".w"), self.weight(path + ".b"))

    def dense_layers(self, x, count):
        for i in range(1, count + 1):
            x = self.dense(x, f"dense_{i}")
            x = self.node("Relu", x) if i < count else x
        return x

    def convolution(self, x, path, stride=1, padding=0):
        parts = [x, self.weight(path + ".w", lambda w: w.transpose(3, 2, 0, 1))]
        if path + ".b" in self.weights:
            parts.append(self.weight(path + ".b"))
        return self.node("Conv", *parts, strides=[stride] * 2, pads=[padding] * 4)

    def max_pool(self, x, size=2, stride=2, padding=0):
        return self.node("MaxPool", x, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[padding] * 4)

    def flatten(self, x):
        """Each image as a row in the order of nnc's, the channel running fastest."""
        return self.node("Flatten", self.node("Transpose", x, perm=[0, 2, 3, 1]))

    def normalized(self, x, path, padding, stride=1):
        y = self.convolution(x, path + ".conv2d_1", stride, padding)
        parts = [self.weight(f"{path}.batch_norm_1.{name}") for name in ("gamma", "beta", "mean", "var")]
        return self.node("BatchNormalization", y, *parts, epsilon=1e-5)

    def stages(self, x):
        for i in range(1, 9):
            path, stride = f"stages_1.block_{i}", 2 if i in (3, 5, 7) else 1
            y = self.node("Relu", self.normalized(x, path + ".normalized_1", 1, stride))
            y = self.normalized(y, path + ".normalized_2", 1)
            if stride > 1:
                x = self.normalized(x, path + ".normalized_3", 0, stride)
            x = self.node("Relu", self.node("Add", x, y))
        return self.dense(self.node("Flatten", self.node("GlobalAveragePool", x)), "stages_1.dense_1")


def mlp(graph, x, rows, count):
    return graph.node("Softmax", graph.dense_layers(graph.numbers(x, [rows, 784]), count), axis=-1)


def mlp_deep(graph, x, rows):
    return mlp(graph, x, rows, 3)


def mlp_small(graph, x, rows):
    return mlp(graph, x, rows, 2)


def convnet(graph, x, rows):
    x = graph.numbers(x, [rows, 1, 28, 28])
    for i in (1, 2):
        x = graph.max_pool(graph.node("Relu", graph.convolution(x, f"conv2d_{i}")))
    return graph.node("Softmax", graph.dense_layers(graph.flatten(x), 2), axis=-1)


def char_lstm(graph, x, rows):
    def gates(array):
        """ONNX has the gates in the order input, output, forget, cell."""
        i, f, g, o = np.split(array, 4, axis=-1)
        return np.concatenate([i, o, f, g], axis=-1)

    w, u, b = (gates(graph.weights[f"lstm_1.{name}"]) for name in "wub")
    x = graph.node("Transpose", graph.node("Gather", graph.weight("embedding_1.w"), x), perm=[1, 0, 2])
    parts = [graph.constant("w", w.T[None]), graph.constant("r", u.T[None]), graph.constant("bias", np.concatenate([b, 0 * b])[None])]
    hs = graph.node("LSTM", x, *parts, outputs=3, hidden_size=u.shape[0])
    hs = graph.node("Transpose", hs, perm=[2, 0, 1, 3])
    hs = graph.reshape(hs, [rows * 64, u.shape[0]])
    return graph.reshape(graph.dense(hs, "dense_1"), [rows, 64, -1])


def resnet18(graph, x, rows):
    x = graph.node("Relu", graph.normalized(x, "normalized_1", 3, 2))
    return graph.stages(graph.max_pool(x, 3, 2, 1))


def vgg16(graph, x, rows):
    i = 0
    for count in (2, 2, 3, 3, 3):
        for _ in range(count):
            i += 1
            x = graph.node("Relu", graph.convolution(x, f"conv2d_{i}", padding=1))
        x = graph.max_pool(x)
    return graph.dense_layers(graph.flatten(x), 3)


def model(workload, weights):
    """The workload's network as an ONNX model, and its input's name."""
    graph = Graph(weights)
    name, dtype, shape, _ = workload.inputs[0]
    shape = (shape[2], *shape[:2]) if len(shape) == 3 else shape
    result = globals()[workload.network](graph, name, workload.rows)
    given = helper.make_tensor_value_info(name, TYPES[dtype], [workload.rows, *shape])
    made = helper.make_tensor_value_info(result, TensorProto.FLOAT, None)
    whole = helper.make_graph(graph.nodes, workload.network, [given], [made], list(graph.constants.values()))
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), name
