//! The language: entry points, paths of parameters, values, states, gradients, settings.

use super::*;

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
    let infer = model.entries.infer().unwrap();
    assert_eq!(names(infer), "image dense_1.b dense_1.w dense_2.b dense_2.w");
    let eval = model.entries.eval().unwrap();
    assert_eq!(names(eval), "image label dense_1.b dense_1.w dense_2.b dense_2.w");
    assert_eq!(names(model.entries.init()), "seed step");
    let step = model.entries.train_step().unwrap();
    assert!(names(step).starts_with("seed step image label dense_1.b"), "{}", names(step));
    assert!(names(step).ends_with("adam.v/dense_2.w"), "{}", names(step));
    assert_eq!(step.results.len(), 2 + 4 + 8);
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
    let infer = model.entries.infer().unwrap();
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
    assert_eq!(checked(&with_times).recipe.unwrap().minimize.iter().map(|m| m.times).collect::<Vec<_>>(), [5, 1]);
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
    assert_eq!(updates(model.entries.infer().unwrap()), 0);
    let step = model.entries.train_step().unwrap();
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
    let text = model.entries.train_step().unwrap().to_string();
    assert!(text.contains("0.5") && !text.contains("0.001,"), "{text}");

    let wrong = Settings { arguments: vec![("clases".into(), "7".into())], ..Settings::default() };
    let found = check(&project, &wrong).unwrap_err();
    assert_eq!(told(&project, &found), "the model `Mlp` has no argument `clases`\n    | did you mean `classes`?");
    let other = Settings { model: Some("Mpl".into()), ..Settings::default() };
    assert!(told(&project, &check(&project, &other).unwrap_err()).contains("no model `Mpl`"));
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
    assert_eq!(model.entries.train_step().unwrap().results.len(), 1 + 2 + 4);
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
            assert!(model.entries.train_step().is_some(), "{}", path.display());
            count += 1;
        }
    }
    assert!(count > 0);
}

#[test]
fn a_file_may_hold_several_models() {
    let source = "
const hidden = 5
model A { input x: f32[batch, n]; output y = sum(x * n, axis=1) }
model B(units = [3, 4]) {
    input x: f32[batch, hidden]
    for u in units { x = x |> dense(u) }
    loss l = mean(x)
}
train B { minimize l with sgd; seed 3 }
data B { train { x = npy(\"x.npy\") } }";
    let (project, found) = Project::parse("test.nn", source);
    assert!(found.is_empty(), "{}", told(&project, &found));
    let model = |name: &str, arguments: Vec<(String, String)>| {
        let settings = Settings { model: Some(name.into()), arguments, ..Settings::default() };
        check(&project, &settings).unwrap_or_else(|found| panic!("{}", told(&project, &found)))
    };
    let a = model("A", Vec::new());
    assert_eq!(a.fields[0].ty.to_string(), "f32[batch, n]");
    assert!(a.recipe.is_none() && a.entries.train_step().is_none() && a.entries.eval().is_none());
    let b = model("B", vec![("units".into(), "[7, 8, 9]".into())]);
    assert_eq!(b.layers[2].output[0].to_string(), "f32[batch, 9]");
    assert_eq!(b.recipe.unwrap().seed, 3);
    assert_eq!(b.data.unwrap().splits[0].bindings[0].reader.path().unwrap().0, "x.npy");
    let found = check(&project, &Settings::default()).unwrap_err();
    assert_eq!(told(&project, &found), "the file has several models\n    | choose one with `--model NAME`: A, B");
}

#[test]
fn a_second_application_draws_other_numbers() {
    let source = "
model M {
    input x: f32[2]
    noisy = |v| v + uniform([2])
    output a = noisy(x)
    output b = noisy(x)
    output c = normal([2])
}";
    let found = outputs(source, &[(&[2], &[0.0, 0.0])]);
    assert!(found[0] != found[1] && found[1] != found[2], "{found:?}");
    assert_eq!(found, outputs(source, &[(&[2], &[0.0, 0.0])]));
}
