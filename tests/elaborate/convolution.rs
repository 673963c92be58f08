//! Convolutions and pools of the language: numbers worked out by hand, shapes of all library layers, mistakes.

use super::*;

/// Outputs of expressions of `x: f32[1, n, 1]`, as lists.
fn lines(x: &[f64], expressions: &[(&str, &[f64])]) {
    let outputs_of: String = expressions.iter().enumerate().map(|(i, (e, _))| format!("output y{i} = {e}\n")).collect();
    let n = x.len();
    let source =
        format!("model M {{\ninput x: f32[1, {n}, 1]\nw = reshape(pow(10, f32(iota(3))), [3, 1, 1])\n{outputs_of}}}");
    let mut infer = checked(&source).entries.infer().expect("the model has outputs").clone();
    for pass in nnc::passes::GRAPH_PASSES {
        infer = pass.apply(&infer).unwrap();
    }
    for ((e, expected), found) in expressions.iter().zip(run(&infer, &[(&[1, n, 1], x)])) {
        println!("{e}");
        close(&found.data, expected);
    }
}

#[test]
fn convolutions_of_a_line() {
    lines(
        &[1.0, 2.0, 3.0, 4.0, 5.0],
        &[
            ("convolve(x, w)", &[321.0, 432.0, 543.0]),
            ("convolve(x, w, pad=same)", &[210.0, 321.0, 432.0, 543.0, 54.0]),
            ("convolve(x, w, pad=full)", &[100.0, 210.0, 321.0, 432.0, 543.0, 54.0, 5.0]),
            ("convolve(x, w, pad=1)", &[210.0, 321.0, 432.0, 543.0, 54.0]),
            ("convolve(x, w, pad=[[0, 1]])", &[321.0, 432.0, 543.0, 54.0]),
            ("convolve(x, w, pad=[-1])", &[432.0]),
            ("convolve(x, w, stride=2)", &[321.0, 543.0]),
            ("convolve(x, w, stride=2, pad=same)", &[210.0, 432.0, 54.0]),
            ("convolve(x[:, :4], w, stride=[2], pad=same)", &[321.0, 43.0]),
            ("convolve(x, w, dilation=2)", &[531.0]),
        ],
    );
    lines(
        &[1.0, 2.0, 3.0],
        &[
            ("convolve_transpose(x, w)", &[1.0, 12.0, 123.0, 230.0, 300.0]),
            ("convolve_transpose(x, w, stride=2)", &[1.0, 10.0, 102.0, 20.0, 203.0, 30.0, 300.0]),
            ("convolve_transpose(x, w, stride=2, pad=same)", &[1.0, 10.0, 102.0, 20.0, 203.0, 30.0]),
            ("convolve_transpose(x, w, stride=2, pad=full)", &[102.0, 20.0, 203.0]),
            (
                "convolve_transpose(x, w, stride=4)",
                &[1.0, 10.0, 100.0, 0.0, 2.0, 20.0, 200.0, 0.0, 3.0, 30.0, 300.0, 0.0],
            ),
            ("convolve_transpose(x, w, dilation=2)", &[1.0, 2.0, 13.0, 20.0, 130.0, 200.0, 300.0]),
        ],
    );
}

#[test]
fn pools_of_a_line() {
    lines(
        &[1.0, 3.0, 2.0, 5.0, 4.0],
        &[
            ("window_max(x, 2)", &[3.0, 5.0]),
            ("window_max(x, 2, pad=same)", &[3.0, 5.0, 4.0]),
            ("window_max(-x, 3, stride=1, pad=1)", &[-1.0, -1.0, -2.0, -2.0, -4.0]),
            ("window_min(x, 3, stride=1)", &[1.0, 2.0, 2.0]),
            ("window_sum(x, 2, dilation=3, stride=1)", &[6.0, 7.0]),
            ("window_mean(x, 3, stride=1, pad=same)", &[2.0, 2.0, 10.0 / 3.0, 11.0 / 3.0, 4.5]),
            ("windows(x, 2, stride=3)", &[1.0, 3.0, 5.0, 4.0]),
            // Zero has no gradient, and of equal elements the first gets all of it.
            ("grad(sum(window_max(0 * x, 2, stride=1)), x)", &[0.0, 0.0, 0.0, 0.0, 0.0]),
            ("grad(sum(window_max(floor(x / 9) + x - stop_gradient(x), 2)), x)", &[1.0, 0.0, 1.0, 0.0, 0.0]),
            ("grad(sum(window_max(x - stop_gradient(x), 3, stride=1)), x)", &[1.0, 1.0, 1.0, 0.0, 0.0]),
            ("grad(sum(window_mean(x, 2, pad=same)), x)", &[0.5, 0.5, 0.5, 0.5, 1.0]),
        ],
    );
}

#[test]
fn library_layers_have_the_shapes_of_keras() {
    let model = checked(
        "
model M {
    input s: f32[batch, 20, 3]
    input x: f32[batch, 16, 12, 4]
    input v: f32[batch, 6, 5, 4, 2]
    output a = s |> conv1d(8, 5, stride=2, pad=same) |> max_pool1d(2) |> avg_pool1d(size=3, stride=1)
    output b = x |> conv2d(6, kernel=[3, 2], stride=[2, 1], groups=2) |> avg_pool2d(2)
    output c = v |> conv3d(3, 2) |> max_pool3d |> avg_pool3d(1)
    output d = x |> depthwise_conv2d(3, depth_multiplier=2) |> global_max_pool2d
    output e = x |> separable_conv2d(7, 3, pad=same) |> global_avg_pool2d(keepdims=true)
    output f = x |> conv_transpose2d(5, 3, stride=2, pad=same)
    output g = x |> upsample2d([2, 3]) |> max_pool2d(3, stride=2, pad=same)
    output h = x |> conv2d(6, 3, pad=full, dilation=2, bias=false)
}",
    );
    let infer = model.entries.infer().unwrap();
    let shapes: Vec<String> = infer.results.iter().map(|r| infer.graph.type_of(r.value).to_string()).collect();
    assert_eq!(
        shapes,
        [
            "f32[batch, 3, 8]",
            "f32[batch, 3, 5, 6]",
            "f32[batch, 2, 2, 1, 3]",
            "f32[batch, 8]",
            "f32[batch, 1, 1, 7]",
            "f32[batch, 32, 24, 5]",
            "f32[batch, 16, 18, 4]",
            "f32[batch, 20, 16, 6]",
        ]
    );
    let expected = [
        "conv1d_1.w",
        "conv2d_1.w",
        "conv3d_1.w",
        "depthwise_conv2d_1.w",
        "separable_conv2d_1.depthwise_conv2d_1.w",
        "separable_conv2d_1.conv2d_1.b",
        "conv_transpose2d_1.w",
    ];
    expected.iter().for_each(|path| assert!(paths(&model).contains(path), "{path} of {:?}", paths(&model)));
}

#[test]
fn upsampling() {
    let source = "model M {\ninput x: f32[1, 2]\ny = reshape(x, [1, 1, 2, 1])\noutput a = upsample2d(y)\noutput b = upsample2d(y, 2, interpolation=\"bilinear\")\n}";
    let found = outputs(source, &[(&[1, 2], &[1.0, 3.0])]);
    close(&found[0], &[1.0, 1.0, 3.0, 3.0, 1.0, 1.0, 3.0, 3.0]);
    close(&found[1], &[1.0, 1.5, 2.5, 3.0, 1.0, 1.5, 2.5, 3.0]);
    checked(&source.replace("f32", "f64"));
}

#[test]
fn the_lectures_network_has_its_parameters() {
    let model = checked(
        r#"
model Convnet(classes = 10) {
    input  image: u8[batch, 28, 28]
    target label: index(classes)[batch]

    logits = f32(image) / 255
        |> reshape([batch, 28, 28, 1])
        |> conv2d(32, kernel=3) |> relu |> max_pool2d(2)
        |> conv2d(32, kernel=3) |> relu |> max_pool2d(2)
        |> flatten
        |> dense(64) |> relu
        |> dense(classes)

    output probs    = softmax(logits)
    loss   ce       = cross_entropy(logits, label)
    metric accuracy = accuracy(logits, label)
}
data {
    train { image = idx("mnist/train-images-idx3-ubyte.gz")
            label = idx("mnist/train-labels-idx1-ubyte.gz") }
    test  { image = idx("mnist/t10k-images-idx3-ubyte.gz")
            label = idx("mnist/t10k-labels-idx1-ubyte.gz") }
}
train {
    epochs   12
    batch    128
    seed     7
    validate 0.1                       // hold out the last tenth of the training rows
    minimize ce with adam(lr=1e-3)
    stop     when val.ce has not improved for 3 epochs
    keep     best val.accuracy
}"#,
    );
    let sizes = model.parameters.iter().map(|p| p.ty.elements().expect("sizes are known"));
    assert_eq!(sizes.sum::<usize>(), 61_482);
}
