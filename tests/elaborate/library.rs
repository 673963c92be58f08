//! The library: numbers of activations, losses, initializers, optimizers and schedules.

use super::*;

/// Outputs of expressions of `x: f32[6]`.
fn elementwise(expressions: &[(&str, [f64; 6])]) {
    const X: [f64; 6] = [-2.0, -1.0, 0.0, 0.5, 1.0, 40.0];
    let lines: String = expressions.iter().enumerate().map(|(i, (e, _))| format!("output y{i} = {e}\n")).collect();
    let found = outputs(&format!("model M {{\ninput x: f32[6]\n{lines}}}"), &[(&[6], &X)]);
    for ((e, expected), found) in expressions.iter().zip(found) {
        println!("{e}");
        close(&found, expected);
    }
}

#[test]
fn activations() {
    let e = std::f64::consts::E;
    let s = |x: f64| 1.0 / (1.0 + (-x).exp());
    let sp = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let x = [-2.0, -1.0, 0.0, 0.5, 1.0, 40.0f64];
    let phi = [0.022750131948, 0.158655253931, 0.5, 0.691462461274, 0.841344746069, 1.0];
    elementwise(&[
        ("identity(x)", x),
        ("step(x)", [0.0, 0.0, 1.0, 1.0, 1.0, 1.0]),
        ("relu(x)", x.map(|x| x.max(0.0))),
        ("leaky_relu(x, negative_slope=0.1)", [-0.2, -0.1, 0.0, 0.5, 1.0, 40.0]),
        ("elu(x)", [e.powi(-2) - 1.0, 1.0 / e - 1.0, 0.0, 0.5, 1.0, 40.0]),
        ("softplus(x)", x.map(sp)),
        ("softsign(x)", x.map(|x| x / (1.0 + x.abs()))),
        ("silu(x)", x.map(|x| x * s(x))),
        ("mish(x)", x.map(|x| x * sp(x).tanh())),
        ("hard_sigmoid(x)", [1.0 / 6.0, 2.0 / 6.0, 0.5, 3.5 / 6.0, 4.0 / 6.0, 1.0]),
        ("arctan(x)", x.map(f64::atan)),
        ("gelu(x)", [0, 1, 2, 3, 4, 5].map(|i| x[i] * phi[i])),
        ("selu(x)", x.map(|x| 1.0507009873554805 * if x > 0.0 { x } else { 1.6732632423543772 * x.exp_m1() })),
        ("clip(x, -1, 1)", [-1.0, -1.0, 0.0, 0.5, 1.0, 1.0]),
        ("exp(log_softmax(x)) - softmax(x)", [0.0; 6]),
    ]);
}

#[test]
fn losses_and_metrics() {
    const SOURCE: &str = "
model M {
    input logits: f32[batch, 2]
    input class: index(2)[batch]
    input hot: f32[batch, 2]
    input logit: f32[batch, 1]
    output a = cross_entropy(logits, class)
    output b = cross_entropy(logits, hot)
    output c = cross_entropy(logits, class, label_smoothing=0.1)
    output d = binary_cross_entropy(logit, class)
    output e = accuracy(logits, class)
    output f = accuracy(logits, hot)
    output g = accuracy(logit, class)
    output h = mse(logits, hot)
    output i = mae(logits, hot)
    output j = huber(logits, hot)
    output k = nll(log_softmax(logits), class)
    output l = top_k_accuracy(logits, class, k=1)
    output m = l2(logits, 0.5) + l1([logits, hot], 2)
    output n = hinge(logit, class)
    output o = kl_divergence(softmax(logits), hot)
    output p = cosine_similarity(logits, hot)
}";
    let logits = [2.0, 0.0, 0.0, 1.0, 100.0, 0.0];
    let found = outputs(
        SOURCE,
        &[
            (&[3, 2], &logits),
            (&[3], &[0.0, 0.0, 1.0]),
            (&[3, 2], &[1.0, 0.0, 1.0, 0.0, 0.0, 1.0]),
            (&[3, 1], &[-1.0, 2.0, 3.0]),
        ],
    );
    let logp = |a: f64, b: f64| a - (a.max(b) + ((a - a.max(b)).exp() + (b - a.max(b)).exp()).ln());
    let ce = -(logp(2.0, 0.0) + logp(0.0, 1.0) + logp(0.0, 100.0)) / 3.0;
    let other = -(logp(0.0, 2.0) + logp(1.0, 0.0) + logp(100.0, 0.0)) / 3.0;
    let softplus = |x: f64| x.exp().ln_1p();
    close(&found[0], &[ce]);
    close(&found[1], &[ce]);
    close(&found[2], &[0.95 * ce + 0.05 * other]);
    close(&found[3], &[(softplus(-1.0) + softplus(2.0) + softplus(-3.0)) / 3.0]);
    close(&found[4], &[1.0 / 3.0]);
    close(&found[5], &[1.0 / 3.0]);
    close(&found[6], &[2.0 / 3.0]);
    let errors = [1.0, 0.0, -1.0, 1.0, 100.0, -1.0f64];
    close(&found[7], &[errors.iter().map(|d| d * d).sum::<f64>() / 6.0]);
    close(&found[8], &[errors.iter().map(|d| d.abs()).sum::<f64>() / 6.0]);
    close(&found[9], &[(0.5 * 4.0 + 99.5) / 6.0]);
    close(&found[10], &[ce]);
    close(&found[11], &[1.0 / 3.0]);
    close(&found[12], &[0.5 * (4.0 + 1.0 + 10000.0) + 2.0 * (103.0 + 3.0)]);
    close(&found[13], &[(0.0 + 3.0 + 0.0) / 3.0]);
    close(&found[15], &[-(1.0 + 0.0 + 0.0) / 3.0]);
}

#[test]
fn first_values_have_the_right_spread() {
    let model = checked(
        "
model M {
    input x: f32[batch, 300]
    a = x |> dense(200)
    b = a |> dense(100, init=he_normal, bias_init=constant(value=0.5))
    output y = b |> dense(50, init=|s| 0.01 * normal(s), bias=false) |> dense(40, init=normal(mean=1, std=2))
}",
    );
    let found = run(model.entries.init(), &[]);
    let of = |path: &str| {
        let at = model.entries.init().results.iter().position(|r| r.name == path).unwrap();
        &found[at].data
    };
    let spread = |data: &[f64]| {
        let n = data.len() as f64;
        let mean = data.iter().sum::<f64>() / n;
        (mean, (data.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
    };
    let limit = (6.0f64 / 500.0).sqrt();
    let glorot = of("dense_1.w");
    assert_eq!(glorot.len(), 60_000);
    assert!(glorot.iter().all(|x| x.abs() <= limit) && glorot.iter().any(|x| x.abs() > 0.99 * limit));
    assert!((spread(glorot).1 - limit / 3f64.sqrt()).abs() < 0.01 * limit);
    assert_eq!(of("dense_1.b"), &vec![0.0; 200]);
    assert_eq!(of("dense_2.b"), &vec![0.5; 100]);
    let (mean, deviation) = spread(of("dense_2.w"));
    let expected = (2.0f64 / 200.0).sqrt();
    assert!(mean.abs() < 0.03 * expected && (deviation / expected - 1.0).abs() < 0.02, "{mean} {deviation}");
    assert!(of("dense_2.w").iter().all(|x| x.abs() <= 2.0001 * expected / 0.8796));
    let (mean, deviation) = spread(of("dense_3.w"));
    assert!(mean.abs() < 0.001 && (deviation - 0.01).abs() < 0.001, "{mean} {deviation}");
    let (mean, deviation) = spread(of("dense_4.w"));
    assert!((mean - 1.0).abs() < 0.2 && (deviation - 2.0).abs() < 0.1, "{mean} {deviation}");
}

#[test]
fn optimizers_and_schedules_elaborate() {
    let optimizers = [
        "sgd",
        "sgd(0.1)",
        "momentum(nesterov=true)",
        "adam",
        "adamw",
        "adamax",
        "rmsprop(momentum=0.9)",
        "adagrad",
        "adadelta",
        "lion",
        "adam(lr=cosine(1e-3, warmup=500, total=steps))",
        "adam(lr=step_decay(0.1, every=3))",
        "adam(exponential_decay(0.1, 100, 0.9, staircase=true))",
        "sgd(piecewise([10, 20], [0.1, 0.01, 0.001]))",
        "sgd(one_cycle(0.1, total=1000))",
        "sgd(linear_warmup(0.1, 10))",
        "sgd(constant(0.1))",
        "sgd(polynomial_decay(0.1, 100, power=2))",
        "sgd(0.1 / epoch)",
        "sgd(inverse_time_decay(0.1, 10, 0.5))",
    ];
    for optimizer in optimizers {
        let source = format!(
            "model M {{\ninput x: f32[batch, 4]\nloss l = mean((x |> dense(3))^2)\n}}\ntrain {{ steps 1000; minimize l with {optimizer} }}"
        );
        let model = checked(&source);
        let step = model.entries.train_step().unwrap();
        assert!(step.results.iter().filter(|r| matches!(r.role, ResultRole::Update(_))).count() >= 2, "{optimizer}");
    }
}

#[test]
fn optimizers_take_the_steps_that_their_papers_say() {
    // The loss (w x - t)^2 / 2 summed over two samples has the gradient (w x - t) x.
    let source = |recipe: &str| {
        format!(
            "model M {{\ninput x: f32[batch]\ntarget t: f32[batch]\nparam w: f32[] = 2\nloss l = 0.5 * sum((w * x - t)^2)\n}}\ntrain {{ minimize l with {recipe} }}"
        )
    };
    let (x, t, w) = ([1.0, 2.0], [1.0, 0.0], 2.0f64);
    let g = (w * x[0] - t[0]) * x[0] + (w * x[1] - t[1]) * x[1];
    assert_eq!(g, 9.0);
    let given = |rest: &[(&'static str, f64)]| -> Vec<(&'static str, Vec<f64>)> {
        let mut all =
            vec![("x", x.to_vec()), ("t", t.to_vec()), ("w", vec![w]), ("step", vec![3.0]), ("epoch", vec![2.0])];
        all.extend(rest.iter().map(|(n, v)| (*n, vec![*v])));
        all
    };
    let check = |recipe: &str, states: &[(&'static str, f64)], expected: &[(&str, f64)]| {
        let given = given(states);
        let given: Vec<(&str, &[f64])> = given.iter().map(|(n, v)| (*n, v.as_slice())).collect();
        let found = step(&source(recipe), &given);
        for (name, value) in expected {
            let at = found.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{recipe} updates no `{name}`"));
            assert!((at.1[0] - value).abs() < 1e-5, "{recipe}: {name} is {:?}, expected {value}", at.1);
        }
    };
    check("sgd(0.1)", &[], &[("l", 0.5 * (1.0 + 16.0)), ("w", w - 0.1 * g)]);
    check("momentum(0.1)", &[("momentum.v/w", 0.5)], &[("momentum.v/w", 0.45 - 0.9), ("w", w + 0.45 - 0.9)]);
    let v = 0.45 - 0.9;
    check("momentum(0.1, nesterov=true)", &[("momentum.v/w", 0.5)], &[("w", w + 0.9 * v - 0.9)]);
    let (m, s) = (0.9 * 0.5 + 0.1 * g, 0.999 * 0.25 + 0.001 * g * g);
    let (mh, sh) = (m / (1.0 - 0.9f64.powi(3)), s / (1.0 - 0.999f64.powi(3)));
    let states = [("adam.m/w", 0.5), ("adam.v/w", 0.25)];
    check("adam(0.1)", &states, &[("adam.m/w", m), ("adam.v/w", s), ("w", w - 0.1 * mh / (sh.sqrt() + 1e-8))]);
    let states = [("adamw.m/w", 0.5), ("adamw.v/w", 0.25)];
    check("adamw(0.1)", &states, &[("w", w - 0.1 * 0.004 * w - 0.1 * mh / sh.sqrt())]);
    check(
        "rmsprop(0.1)",
        &[("rmsprop.v/w", 0.25)],
        &[("w", w - 0.1 * g / (0.9 * 0.25 + 0.1 * g * g + 1e-7f64).sqrt())],
    );
    check("adagrad(0.1)", &[("adagrad.sum/w", 0.1)], &[("w", w - 0.1 * g / (0.1 + g * g + 1e-7f64).sqrt())]);
    check("lion(0.1)", &[("lion.m/w", -0.5)], &[("w", w - 0.1), ("lion.m/w", -0.495 + 0.01 * g)]);
    let cosine = |peak: f64| peak * 0.5 * (1.0 + (std::f64::consts::PI * 1.0 / 8.0).cos());
    check("sgd(cosine(0.1, total=10, warmup=2))", &[], &[("w", w - cosine(0.1) * g)]);
    check("sgd(cosine(0.1, total=10, warmup=5))", &[], &[("w", w - 0.06 * g)]);
    check("sgd(step_decay(0.1, every=1))", &[], &[("w", w - 0.01 * g)]);
    check("sgd(piecewise([2, 5], [1, 0.5, 0.1]))", &[], &[("w", w - 0.5 * g)]);
    check("sgd(exponential_decay(0.1, 1, 0.5))", &[], &[("w", w - 0.025 * g)]);
}

#[test]
fn the_other_layers_and_functions_elaborate() {
    let model = checked(
        "
model M {
    input x: f32[batch, 4]
    input i: index(7)[batch, 5]
    target t: f32[batch, 4]
    e = i |> embedding(7, 3) |> layer_norm |> rms_norm |> prelu |> flatten
    y = e |> dense(4) |> highway |> gaussian_noise(0.2) |> batch_norm
    net = dense(4)
    z = net(y) + std(x, axis=0) + var(x) * square(x) + logsumexp(x, axis=-1, keepdims=true) + norm(x)
    h = hessian_vector(sum(x^3), x, x)
    output z
    output h
    output b = bernoulli([3, 4], 0.3)
    loss l = mse(z, t) + l2(net, 0.1) + elastic_net(net.w) + poisson(exp(z), t) + gaussian_kl(z, z)
    metric p = perplexity(x |> dense(7), i[:, 0])
}
train { minimize l with sgd }",
    );
    assert!(paths(&model).contains(&"embedding_1.w"));
    // The second derivative of x^3 is 6 x, times x.
    let source = "model M {\ninput x: f32[3]\noutput h = hessian_vector(sum(x^3), x, x)\noutput l = logsumexp(x)\noutput s = std(x)\n}";
    let model = checked(source);
    let mut infer = model.entries.infer().unwrap().clone();
    for pass in nnc::passes::GRAPH_PASSES {
        infer = pass.apply(&infer).unwrap();
    }
    let found = run(&infer, &[(&[3], &[1.0, 2.0, -3.0])]);
    close(&found[0].data, &[6.0, 24.0, 54.0]);
    close(&found[1].data, &[(1f64.exp() + 2f64.exp() + (-3f64).exp()).ln()]);
    close(&found[2].data, &[(14.0f64 / 3.0).sqrt()]);
}
