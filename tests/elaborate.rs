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
    let lines: String =
        expressions.iter().enumerate().map(|(i, (e, _))| format!("output y{i} = {e}\n")).collect();
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
        &[(&[3, 2], &logits), (&[3], &[0.0, 0.0, 1.0]), (&[3, 2], &[1.0, 0.0, 1.0, 0.0, 0.0, 1.0]), (&[3, 1], &[-1.0, 2.0, 3.0])],
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
            "enc", "net", "block_1", "residual_1", "dense_1", "residual_2", "lambda_1", "block_2", "block_3",
            "lambda_2", "scale"
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
        "sgd", "sgd(0.1)", "momentum(nesterov=true)", "adam", "adamw", "adamax", "rmsprop(momentum=0.9)", "adagrad",
        "adadelta", "lion", "adam(lr=cosine(1e-3, warmup=500, total=steps))", "adam(lr=step_decay(0.1, every=3))",
        "adam(exponential_decay(0.1, 100, 0.9, staircase=true))", "sgd(piecewise([10, 20], [0.1, 0.01, 0.001]))",
        "sgd(one_cycle(0.1, total=1000))", "sgd(linear_warmup(0.1, 10))", "sgd(constant(0.1))",
        "sgd(polynomial_decay(0.1, 100, power=2))", "sgd(0.1 / epoch)", "sgd(inverse_time_decay(0.1, 10, 0.5))",
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
