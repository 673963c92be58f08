//! Elaboration: types of results, paths of parameters, entry points, the library's numbers, and what mistakes are told.

use nnc::diag::Diagnostic;
use nnc::frontend::model::CheckedModel;
use nnc::frontend::{Project, Settings, check};
use nnc::ir::dim::{Sizes, Symbol};
use nnc::ir::graph::{Function, ResultRole, Role};
use nnc::ir::tensor::Tensor;

fn diagnostics(source: &str) -> (Project, Vec<Diagnostic>) {
    let (project, mut found) = Project::parse("test.nn", source);
    match check(&project, &Settings::default()) {
        Ok(model) => found.extend(model.warnings),
        Err(more) => found.extend(more),
    }
    (project, found)
}

fn checked(source: &str) -> CheckedModel {
    let (project, found) = Project::parse("test.nn", source);
    assert!(found.is_empty(), "{}", told(&project, &found));
    match check(&project, &Settings::default()) {
        Ok(model) => model,
        Err(found) => panic!("{}", told(&project, &found)),
    }
}

/// The diagnostics as `line:column message | label | note | help`.
fn told(project: &Project, found: &[Diagnostic]) -> String {
    let line = |d: &Diagnostic| {
        let mut parts = vec![d.message.clone()];
        if let Some(span) = d.span() {
            let (line, column) = project.sources.line_column(span);
            parts[0] = format!("{line}:{column} {}", d.message);
        }
        parts.extend(d.labels.iter().skip(1).map(|l| {
            let (line, column) = project.sources.line_column(l.span);
            format!("{}:{line}:{column} {}", project.sources.get(l.span.file).name, l.text)
        }));
        parts.extend(d.notes.iter().cloned());
        parts.extend(d.help.iter().cloned());
        parts.join("\n    | ")
    };
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn messages(source: &str) -> String {
    let (project, found) = diagnostics(source);
    told(&project, &found)
}

const MLP: &str = r#"
model Mlp(classes = 10) {
    input  image: u8[batch, 28, 28]
    target label: index(classes)[batch]
    logits = f32(image) / 255 |> flatten |> dense(32) |> relu |> dropout(0.2) |> dense(classes)
    output probs    = softmax(logits)
    loss   ce       = cross_entropy(logits, label)
    metric accuracy = accuracy(logits, label)
}
data {
    train { image = idx("a.gz")
            label = idx("b.gz") }
    test  { from train take 0.2 }
}
train {
    epochs   12
    batch    128
    seed     7
    validate 0.1
    minimize ce with adam(lr=1e-3)
    stop     when val.ce has not improved for 3 epochs
    keep     best val.accuracy
}
"#;

#[test]
fn a_complete_file() {
    let model = checked(MLP);
    let paths: Vec<String> = model.parameters.iter().map(|p| format!("{} {}", p.path, p.ty)).collect();
    assert_eq!(paths, ["dense_1.b f32[32]", "dense_1.w f32[784, 32]", "dense_2.b f32[10]", "dense_2.w f32[32, 10]"]);
    let layers: Vec<String> = model.layers.iter().map(|l| format!("{} {} {}", l.path, l.layer, l.output[0])).collect();
    assert_eq!(
        layers,
        [
            "flatten_1 flatten f32[batch, 784]",
            "dense_1 dense f32[batch, 32]",
            "dropout_1 dropout f32[batch, 32]",
            "dense_2 dense f32[batch, 10]"
        ]
    );
    let names = |f: &nnc::ir::graph::Function| f.arguments.iter().map(|a| a.name.clone()).collect::<Vec<_>>().join(" ");
    let infer = model.entries.infer.as_ref().unwrap();
    assert_eq!(names(infer), "image dense_1.b dense_1.w dense_2.b dense_2.w");
    let eval = model.entries.eval.as_ref().unwrap();
    assert_eq!(names(eval), "image label dense_1.b dense_1.w dense_2.b dense_2.w");
    assert_eq!(names(&model.entries.init), "seed step");
    let step = model.entries.train_step.as_ref().unwrap();
    assert!(names(step).starts_with("seed step image label dense_1.b"), "{}", names(step));
    assert!(names(step).ends_with("adam.v/dense_2.w"), "{}", names(step));
    assert_eq!(step.results.len(), 2 + 4 + 8);
}

/// The outputs of a model whose inputs are given in order as shape and values, in f64.
fn outputs(source: &str, inputs: &[(&[usize], &[f64])]) -> Vec<Vec<f64>> {
    let model = checked(source);
    let infer = model.entries.infer.expect("the model has outputs");
    run(&infer, inputs).into_iter().map(|t| t.data).collect()
}

fn run(function: &Function, inputs: &[(&[usize], &[f64])]) -> Vec<Tensor> {
    let function = function.specialize(&Sizes::from([(Symbol("batch".into()), 3)])).unwrap();
    let mut given = inputs.iter();
    let arguments: Vec<Tensor> = function
        .arguments
        .iter()
        .map(|a| match a.role {
            Role::Seed => Tensor::new(a.ty.clone(), vec![7.0, 0.0]),
            Role::Step => Tensor::new(a.ty.clone(), vec![0.0]),
            _ => {
                let (shape, data) = given.next().expect("an input for every argument");
                assert_eq!(a.ty.sizes().unwrap(), *shape, "{}", a.name);
                Tensor::new(a.ty.clone(), data.to_vec())
            }
        })
        .collect();
    nnc::ir::interpret::run(&function, &arguments).unwrap()
}

fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= 1e-6 * (1.0 + e.abs()), "found {found:?}, expected {expected:?}");
    }
}

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
fn the_language_evaluates() {
    const SOURCE: &str = "
const width = 2 * 3
fn twice(f, x, times = 2) { for i in 0..times { x = f(x) }; x }
fn scaled(x: f32[.., n], by = n, more = by + 1) { x * by + more }
fn first_two(x) { (x[0], x[1]) }
model M(deep = 2, flags = [1, 0]) {
    input x: f32[2, 3]
    input i: i32[2]
    a, b = first_two(x)
    output a
    output pick = x[:, i]
    output last = x[.., -1]
    output sub = x[:, 1:3]
    output back = x[0, ::-1]
    output every = x[1, ::2]
    output t = twice(|v| v + 1, a, times=3)
    output s = scaled(x)
    output chosen = if x > 2 { x } else { -1 }
    sizes = [width, shape(x)[1], rank(x), len([1, 2, 3])]
    output list = stack([f32(n) * 1.0 for n in sizes])
    z = 0
    for k, v in enumerate([10, 20]) { z = z + k * v }
    output z = f32(z)
    output depth = if deep == 2 { ones([deep]) } else { zeros([1]) }
    output power = (2^10 // 3) + 7 % 4 - 2^-1
    g = |u, v| { w = u * v; w + 1 }
    output lambda = g(a, b)
    output all_of = text([1, 2.5, true]) == \"[1, 2.5, true]\" and not false
        |> number
    output waits = normal_like(a)
    half = scaled(by=0.5)
    output partial = half(a)
    output n = sum(x, axis=0, keepdims=true)[0]
    output floor = x//2
    output product = max([1, 5, 3]) + min(2, 3) + prod([2, 3]) + sum([1, 2]) + sqrt(16)
}
fn number(x) { if x { 1.0 } else { 0.0 } }
fn normal_like(x) { return zeros_like(x) }
";
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let found = outputs(SOURCE, &[(&[2, 3], &x), (&[2], &[2.0, 0.0])]);
    let expected: &[&[f64]] = &[
        &[1.0, 2.0, 3.0],
        &[3.0, 1.0, 6.0, 4.0],
        &[3.0, 6.0],
        &[2.0, 3.0, 5.0, 6.0],
        &[3.0, 2.0, 1.0],
        &[4.0, 6.0],
        &[4.0, 5.0, 6.0],
        &[7.0, 10.0, 13.0, 16.0, 19.0, 22.0],
        &[-1.0, -1.0, 3.0, 4.0, 5.0, 6.0],
        &[6.0, 3.0, 2.0, 3.0],
        &[20.0],
        &[1.0, 1.0],
        &[341.0 + 3.0 - 0.5],
        &[5.0, 11.0, 19.0],
        &[1.0],
        &[0.0, 0.0, 0.0],
        &[2.0, 2.5, 3.0],
        &[5.0, 7.0, 9.0],
        &[0.0, 1.0, 1.0, 2.0, 2.0, 3.0],
        &[5.0 + 2.0 + 6.0 + 3.0 + 4.0],
    ];
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        close(found, expected);
    }
}

fn paths(model: &CheckedModel) -> Vec<&str> {
    model.parameters.iter().map(|p| p.path.as_str()).collect()
}

#[test]
fn paths_of_shared_nested_and_passed_layers() {
    let model = checked(
        "
layer block(x, units) {
    h = x |> dense(units) |> relu
    h |> dense(units)
}
model M {
    input a: f32[batch, 8]
    input b: f32[batch, 8]
    enc = dense(8)
    net = |x| x |> dense(8) |> relu |> dense(8)
    x = enc(a) + enc(b)
    x = net(net(x))
    x = x |> block(8) |> residual(dense(8)) |> residual(|z| z |> dense(8, bias=false))
    for i in 0..2 { x = x |> block(8) }
    x = x |> (|z| z |> dense(8, bias=false))
    param scale: f32[] = 1
    output y = x * scale * sum(enc.w)
    output plain = (|z| z + 1)(x)
}",
    );
    let weights: Vec<&str> = paths(&model).into_iter().filter(|p| !p.ends_with(".b")).collect();
    assert_eq!(
        weights,
        [
            "block_1.dense_1.w",
            "block_1.dense_2.w",
            "block_2.dense_1.w",
            "block_2.dense_2.w",
            "block_3.dense_1.w",
            "block_3.dense_2.w",
            "dense_1.w",
            "enc.w",
            "lambda_1.dense_1.w",
            "lambda_2.dense_1.w",
            "net.dense_1.w",
            "net.dense_2.w",
            "scale"
        ]
    );
    let layers: Vec<&str> = model.layers.iter().map(|l| l.path.as_str()).collect();
    assert_eq!(
        layers,
        [
            "enc",
            "net",
            "block_1",
            "residual_1",
            "dense_1",
            "residual_2",
            "lambda_1",
            "block_2",
            "block_3",
            "lambda_2",
            "scale"
        ]
    );
}

#[test]
fn the_generative_example_checks() {
    let source = "
model WganGp(latent = 64) {
    input real: f32[batch, 784]
    generator = |z| z |> dense(256) |> relu |> dense(784) |> sigmoid
    critic    = |x| x |> dense(256) |> leaky_relu |> dense(1)

    fake   = generator(normal([batch, latent]))
    mix    = uniform([batch, 1])
    middle = mix * real + (1 - mix) * stop_gradient(fake)
    slope  = norm(grad(sum(critic(middle)), middle), axis=-1)

    loss critic_loss    = mean(critic(stop_gradient(fake))) - mean(critic(real)) + 10 * mean((slope - 1)^2)
    loss generator_loss = -mean(critic(fake))
    output sample = fake
}
train {
    epochs 20; batch 64
    minimize critic_loss    over critic    with adam(1e-4, beta1=0, beta2=0.9)
    minimize generator_loss over generator with adam(1e-4, beta1=0, beta2=0.9)
}";
    let model = checked(source);
    assert_eq!(model.parameters.len(), 8);
    let infer = model.entries.infer.as_ref().unwrap();
    let names: Vec<&str> = infer.arguments.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(
        names,
        ["seed", "step", "generator.dense_1.b", "generator.dense_1.w", "generator.dense_2.b", "generator.dense_2.w"]
    );
    let recipe = model.recipe.as_ref().unwrap();
    let trained: Vec<Vec<&str>> = recipe
        .minimize
        .iter()
        .map(|m| m.parameters.iter().map(|p| model.parameters[*p].path.as_str()).collect())
        .collect();
    assert!(trained[0].iter().all(|p| p.starts_with("critic.")) && trained[0].len() == 4, "{trained:?}");
    assert!(trained[1].iter().all(|p| p.starts_with("generator.")) && trained[1].len() == 4, "{trained:?}");
    let with_times = source.replace("beta2=0.9)\n    minimize gen", "beta2=0.9) times 5\n    minimize gen");
    assert_eq!(messages(&with_times), "18:86 `times` is not supported yet");
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
    let found = run(&model.entries.init, &[]);
    let of = |path: &str| {
        let at = model.entries.init.results.iter().position(|r| r.name == path).unwrap();
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
fn states_are_updated_by_the_training_step_only() {
    let model = checked(
        "
model M {
    input x: f32[batch, 4]
    target t: f32[batch, 4]
    y = x |> batch_norm(momentum=0.9) |> dense(4)
    output y
    loss l = mse(y, t)
}
train { steps 10; minimize l with sgd }",
    );
    let states: Vec<&str> = model.parameters.iter().filter(|p| !p.is_parameter).map(|p| p.path.as_str()).collect();
    assert_eq!(states, ["batch_norm_1.mean", "batch_norm_1.var"]);
    let updates = |f: &Function| f.results.iter().filter(|r| matches!(r.role, ResultRole::Update(_))).count();
    assert_eq!(updates(model.entries.infer.as_ref().unwrap()), 0);
    let step = model.entries.train_step.as_ref().unwrap();
    assert_eq!(updates(step), 2 + 4);
    for result in &step.results {
        if let ResultRole::Update(argument) = result.role {
            let argument = &step.arguments[argument as usize];
            assert_eq!(argument.name, result.name);
            assert_eq!(argument.ty, *step.graph.type_of(result.value));
        }
    }
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
        let step = model.entries.train_step.unwrap();
        assert!(step.results.iter().filter(|r| matches!(r.role, ResultRole::Update(_))).count() >= 2, "{optimizer}");
    }
}

#[test]
fn settings_change_model_and_recipe() {
    let (project, _) = Project::parse("test.nn", MLP);
    let settings = Settings {
        arguments: vec![("classes".into(), "7".into())],
        batch: Some(5),
        seed: Some(9),
        shuffle: Some(false),
        epochs: Some(2),
        steps: Some(11),
        learning_rate: Some(0.5),
        ..Settings::default()
    };
    let model = check(&project, &settings).unwrap();
    assert_eq!(model.parameters[2].ty.to_string(), "f32[7]");
    let recipe = model.recipe.unwrap();
    assert_eq!((recipe.batch, recipe.seed, recipe.shuffle), (5, 9, false));
    assert_eq!((recipe.epochs, recipe.steps), (Some(2), Some(11)));
    let text = model.entries.train_step.unwrap().to_string();
    assert!(text.contains("0.5") && !text.contains("0.001,"), "{text}");

    let wrong = Settings { arguments: vec![("clases".into(), "7".into())], ..Settings::default() };
    let found = check(&project, &wrong).unwrap_err();
    assert_eq!(told(&project, &found), "the model `Mlp` has no argument `clases`\n    | did you mean `classes`?");
    let other = Settings { model: Some("Mpl".into()), ..Settings::default() };
    assert!(told(&project, &check(&project, &other).unwrap_err()).contains("no model `Mpl`"));
}

/// One mistake in a model with `x: f32[batch, 4]` and `t: index(3)[batch]`, and what is told of it.
fn mistakes(cases: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (line, expected) in cases {
        let source =
            format!("model M {{\ninput x: f32[batch, 4]\ntarget t: index(3)[batch]\n{line}\noutput x2 = x\n}}\n");
        let found = messages(&source);
        let found = found.replace("\n3:8 the target `t` is never used", "");
        let first = found.lines().next().unwrap_or("nothing");
        if !found.contains(expected) || !first.starts_with("4:") {
            wrong.push(format!("{line}\nexpected: {expected}\nfound: {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn mistakes_are_told_at_the_users_line() {
    mistakes(&[
        ("y = x |> dens(3)", "4:10 unknown name `dens`\n    | did you mean `dense`?"),
        ("y = x |> dense(unit=3)", "`dense` has no argument `unit`\n    | did you mean `units`?"),
        ("y = x |> dense", "4:10 `dense` needs an argument for `units`"),
        ("y = x |> dense(1, 2, 3, 4, 5)", "`dense` takes 5 arguments, this call gives more"),
        ("y = dense(x, 3, units=4)", "the argument `units` of `dense` is given twice"),
        ("y = f16(x) |> dense(3)", "`dense` cannot take f16[batch, 4] as `x`"),
        ("y = x @ ones([3, 5])", "the matrix product of f32[batch, 4] and f32[3, 5]"),
        ("y = x + ones([batch, 5])", "`+` of f32[batch, 4] and f32[batch, 5]: 4 does not match 5"),
        ("y = x + f64(x)", "`+` of f32 and f64: the dtypes differ"),
        ("y = x[4:9, 7]", "index 7 is out of range for axis 1, which has size 4"),
        ("y = x[0, 0, 0]", "3 subscripts for f32[batch, 4], which has 2 dims"),
        ("y = reshape(x, [batch, 5])", "reshape"),
        ("loss l = x", "a loss is a scalar, `l` is f32[batch, 4]"),
        ("loss l = argmax(x[0])", "a loss is a float, `l` is i32[]"),
        ("loss l = cross_entropy(x, t)", "there are 3 classes, but the last dim of the logits [batch, 4] is 4"),
        ("loss l = mse(x, x[:, 0])", "the prediction has shape [batch, 4], but the target [batch]"),
        ("e = dense(3); y = e(x); z = e(y)", "`e.w` is f32[4, 3] from its first use and would be f32[3, 3] here"),
        ("y = 7 / 2", "2 does not divide 7 exactly\n    | `7//2` rounds down; `7.0 / 2` is a float"),
        ("y = 1 / 0", "division of 1 by zero"),
        ("y = [1, 2][5]", "5 is out of range for a list of 2"),
        ("a, b, c = (1, 2)", "3 names are bound to 2 values"),
        ("y = if x { 1 } else { 2 }", "select"),
        ("if x > 0 { y = x }", "the condition of an `if` statement must be known at compile time"),
        ("for i in x { y = x }", "a loop runs over a compile-time list or range, not over a tensor"),
        ("y = 3(x)", "the int 3 cannot be called"),
        ("y = x.shape", "write `shape(x)`"),
        ("y = \"a\" * 2", "`*` does not apply to the string \"a\" and the int 2"),
        (
            "param p: f32[batch] = zeros",
            "the shape of a param must be known at compile time, f32[batch] depends on `batch`",
        ),
        ("param p: i32[3] = zeros", "a `param` is trained, so its elements are floats, not i32"),
        ("param p: f32[3] = ones([4])", "`p` is f32[3], but its new value is f32[4]"),
        ("param p: f32[3] = mean(x)", "the initial value of `p` depends on `x`"),
        ("param p: flaot32[3] = zeros", "unknown element type `flaot32`"),
        ("input z: f32[n + m, -3]", "a dim cannot be negative, this one is -3"),
        ("input x: f32[batch]", "`x` is declared twice"),
        ("output q = one_hot(t)", "the output `q` depends on the target `t`"),
        ("y = zeros([1000000, 1000000, 1000000])", "has more than 1099511627776 elements"),
        ("x <- x + 1", "`x` is not a state of this body"),
        ("y = scan_it(x)", "unknown name `scan_it`"),
        ("y = grad(x, x)", "`grad` is taken of a scalar, this is f32[batch, 4]"),
        ("y = dropout(x, rate=2)", "the rate of `dropout` is at least 0 and less than 1, not 2"),
        ("if training { y = x |> dense(3) }\noutput y2 = x", "`dense_1.b` of type f32[3] exists only while training"),
    ]);
}

#[test]
fn a_mistake_inside_a_layer_shows_both_places() {
    let source = "
layer mix(a: f32[n, d], b: f32[n, d]) { a + b + zeros([3, 5, 7]) }
model M {
    input x: f32[batch, 7]
    input z: f32[batch, 4]
    u = mix(x, x)
    w = mix(x, z)
    output u
    output w
}";
    assert_eq!(
        messages(source),
        "2:41 `+` of f32[batch, 7] and f32[3, 5, 7]: batch does not match 5
    | test.nn:2:41 this is f32[batch, 7]
    | test.nn:2:49 this is f32[3, 5, 7]
    | test.nn:6:9 called here
    | `batch` and `5` are not the same size for every value of their names; only a literal 1 stretches
7:16 `mix` cannot take f32[batch, 4] as `b`
    | test.nn:5:11 `z` is f32[batch, 4]
    | test.nn:2:28 declared here
    | expected b: f32[n, d]
    | found f32[batch, 4]: dim 1 is 4, not d = 7"
    );
}

#[test]
fn mistakes_in_recipe_and_data() {
    let with = |rest: &str| {
        messages(&format!(
            "model M {{\ninput x: f32[batch, 4]\ntarget y: f32[batch, 1]\nloss l = mse(x |> dense(1), y)\nmetric err = mae(x |> dense(1), y)\n}}\n{rest}"
        ))
    };
    let cases = [
        ("train { minimize ls with sgd }", "7:18 the model has no loss `ls`"),
        ("train { minimize l with sdg }", "7:25 unknown name `sdg`\n    | did you mean `sgd`?"),
        (
            "train { minimize l with relu }",
            "`with` takes an optimizer such as `adam(lr=1e-3)`, not the function `relu`",
        ),
        ("train { minimize l with sgd(momentum=1) }", "`sgd` has no argument `momentum`"),
        ("train { epochs -3; minimize l with sgd }", "7:16 `epochs` is a whole number of at least 0, not the int -3"),
        ("train { epochs 3; epochs 4 }", "`epochs` is said twice"),
        ("train { validate 3 }", "`validate` is a fraction between 0 and 1 or a split, not the int 3"),
        ("train { keep best val.er }", "the model has no loss or metric `er`\n    | did you mean `err`?"),
        ("train { clip norm 1 }", "`clip` is not supported yet"),
        ("train { phase \"a\" { epochs 1 } }", "`phase` is not supported yet"),
        ("train N { epochs 1 }", "there is no model `N`"),
        ("train { minimize l with sgd; minimize l with sgd }", "is trained by two objectives"),
        ("train { minimize l over nothing with sgd }", "unknown name `nothing`"),
        ("data { train { x = idx(\"f\") } }", "7:8 the split `train` has no data for `y`"),
        ("data { train { z = idx(\"f\") } }", "the model has no input or target `z`"),
        ("data { train { x = idxx(\"f\"); y = npy(\"g\") } }", "there is no reader `idxx`\n    | did you mean `idx`?"),
        ("data { test { from train } }", "there is no split `train`"),
    ];
    for (rest, expected) in cases {
        let found = with(rest);
        assert!(found.contains(expected), "{rest}\nexpected: {expected}\nfound: {found}");
    }
    assert_eq!(with("train { minimize l over dense_1 with sgd }"), "");
}

#[test]
fn hostile_files_end_in_an_error() {
    let deep_call = format!("fn f(x) {{ {}f(x){} }}\n", "1 + (".repeat(25), ")".repeat(25));
    let cases = [
        ("fn f(x) { f(x) }\n".to_owned(), "y = f(x)", "is called inside itself more than"),
        (deep_call, "y = f(x)", "is called inside itself more than"),
        ("fn f(n) { f(n - 1) + f(n - 1) }\n".into(), "y = f(9)", "is called inside itself"),
        ("fn f(n) { if n > 0 { f(n - 1) + f(n - 1) } else { 0 } }\n".into(), "y = f(100)", "calls at compile time"),
        (String::new(), "for i in 0..1000000 { y = x }", "rounds are unrolled"),
        (String::new(), "for i in 0..100000000 { y = x }", "is longer than"),
        (String::new(), "l = [1]; for i in 0..40 { l = [l, l] }", "is longer than"),
        (String::new(), "l = [1]; for i in 0..40 { l = l + l }", "is longer than"),
        (String::new(), "l = 1; for i in 0..100 { l = [l] }", "lists inside lists"),
        (String::new(), "s = \"a\"; for i in 0..40 { s = s + s }", "a string longer than"),
        (String::new(), "n = 10; for i in 0..40 { n = n * n }", "does not fit 64 bits"),
        (String::new(), "n = batch; for i in 0..40 { n = n * (n + 1) }", "does not fit 64 bits"),
        (String::new(), "for i in 0..40000 { for k in 0..40 { x = x + 1 } }", "rounds are unrolled"),
        ("const a = b\nconst b = a\n".into(), "y = a", "is defined by itself"),
        (String::new(), "y = 9223372036854775807 + 1", "does not fit 64 bits"),
        (String::new(), "y = x |> dense(4611686018427387904)", "elements"),
        (String::new(), "y = zeros([1 for i in 0..1000])", "a tensor of 1000 dims"),
        (String::new(), "fs = []; for i in 0..50000 { fs = [|v| v + i]; a = i }; y = fs[0](1, 2)", "takes 1 argument"),
    ];
    let mut wrong = Vec::new();
    for (before, line, expected) in cases {
        let started = std::time::Instant::now();
        let found = messages(&format!("{before}model M {{\ninput x: f32[batch, 4]\n{line}\noutput z9 = x\n}}\n"));
        println!("{:?} {line}", started.elapsed());
        if !found.contains(expected) {
            wrong.push(format!("{line}\nexpected: {expected}\nfound: {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The training step of a source with its gradients expanded, and a step of it on the given arguments by name.
fn step(source: &str, arguments: &[(&str, &[f64])]) -> Vec<(String, Vec<f64>)> {
    let model = checked(source);
    let function = model.entries.train_step.expect("the recipe minimizes something");
    let mut function = function.specialize(&Sizes::from([(Symbol("batch".into()), 2)])).unwrap();
    for pass in nnc::passes::GRAPH_PASSES {
        function = (pass.run)(&function).unwrap();
    }
    let values = function.arguments.iter().map(|a| {
        let data = arguments.iter().find(|(name, _)| *name == a.name).map(|(_, data)| data.to_vec());
        Tensor::new(a.ty.clone(), data.unwrap_or_else(|| panic!("no value for `{}`", a.name)))
    });
    let results = nnc::ir::interpret::run(&function, &values.collect::<Vec<_>>()).unwrap();
    function.results.iter().map(|r| r.name.clone()).zip(results.into_iter().map(|t| t.data)).collect()
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
fn frozen_parameters_are_not_trained() {
    let source = "
model M {
    input x: f32[batch, 4]
    base = dense(3)
    loss l = mean((x |> base |> dense(2))^2)
}
train { freeze base; minimize l with adam }";
    let model = checked(source);
    let trainable: Vec<(&str, bool)> = model.parameters.iter().map(|p| (p.path.as_str(), p.trainable)).collect();
    assert_eq!(trainable, [("base.b", false), ("base.w", false), ("dense_1.b", true), ("dense_1.w", true)]);
    assert_eq!(model.entries.train_step.unwrap().results.len(), 1 + 2 + 4);
}

#[test]
fn a_gradient_penalty_is_differentiated_twice() {
    let source = "
model M {
    input x: f32[batch]
    param w: f32[] = 2
    slope = grad(sum(w * x^3), x)
    loss l = sum(slope^2)
}
train { minimize l with sgd(1) }";
    // slope = 3 w x^2, l = 9 w^2 Σ x^4, dl/dw = 18 w Σ x^4.
    let found = step(source, &[("x", &[1.0, 2.0]), ("w", &[0.5])]);
    assert!((found[0].1[0] - 9.0 * 0.25 * 17.0).abs() < 1e-4, "{found:?}");
    assert!((found[1].1[0] - (0.5 - 18.0 * 0.5 * 17.0)).abs() < 1e-3, "{found:?}");
}

#[test]
fn the_models_of_the_project_check() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "nn") {
            let model = checked(&std::fs::read_to_string(&path).unwrap());
            assert!(model.entries.train_step.is_some(), "{}", path.display());
            count += 1;
        }
    }
    assert!(count > 0);
}

/// Sources with words swapped, dropped and doubled: whatever comes of them, it is a model or a diagnostic.
#[test]
fn mangled_files_do_not_panic() {
    let rounds: u64 = std::env::var("NNC_MANGLE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    let library: String = nnc::frontend::library::FILES.iter().map(|(_, text)| *text).collect();
    let more = "model N { input x: f32[batch, 4]\n e = dense(3)\n for i in 0..3 { x = e(x) + grad(sum(x), x)[0, 1:] }\n\
        y = [f(x) for f in [relu, sigmoid]][-1] |> residual(|z| z |> dense(4))\n loss l = l2(e) + mean(y ^ 2)\n output o = if y > 0 { y } else { 0 } }\n\
        train N { epochs 2; minimize l over e, dense_1 with momentum(cosine(0.1, total=10), nesterov=true) }";
    for (number, source) in [format!("{MLP}{more}"), format!("{MLP}{library}")].iter().enumerate() {
        let words: Vec<&str> = source.split_inclusive([' ', '\n', '(', ')', ',', '[', ']']).collect();
        let mut state = 0x9E37_79B9_7F4A_7C15u64 + number as u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        for round in 0..rounds {
            let mut mangled = words.clone();
            for _ in 0..1 + round % 3 {
                let (a, b) = (random(mangled.len()), random(mangled.len()));
                match random(4) {
                    0 => mangled.swap(a, b),
                    1 => mangled[a] = mangled[b],
                    2 => mangled.insert(a, words[b % words.len()]),
                    _ => mangled[a] = "",
                }
            }
            let source: String = mangled.concat();
            let (project, _) = Project::parse("test.nn", &source);
            for model in ["Mlp", "N"] {
                let settings = Settings { model: Some(model.to_owned()), ..Settings::default() };
                if let Err(found) = check(&project, &settings) {
                    found.iter().for_each(|d| drop(d.render(&project.sources, false)));
                }
            }
        }
    }
}
