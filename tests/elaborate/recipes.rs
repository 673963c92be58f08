//! What a recipe does to updates: limits on gradients, accumulation, several updates in a step, averages, phases. Every number is computed by hand.

use super::*;

/// A line through the origin: the gradient of `l` by `w` is 5 w - 1.
fn line(recipe: &str) -> String {
    format!(
        "model M {{\ninput x: f32[batch]\ntarget t: f32[batch]\nparam w: f32[] = 2\nloss l = 0.5 * sum((w * x - t)^2)\n}}\ntrain {{\n{recipe}\n}}"
    )
}

/// A training step of [`line`] with `w = 2`; what it says of `name`.
fn of_line(recipe: &str, step_number: f64, states: &[(&str, f64)], name: &str) -> f64 {
    let number = [step_number];
    let mut given: Vec<(&str, &[f64])> =
        vec![("x", &[1.0, 2.0]), ("t", &[1.0, 0.0]), ("w", &[2.0]), ("step", &number), ("epoch", &[1.0])];
    given.extend(states.iter().map(|(name, value)| (*name, std::slice::from_ref(value))));
    let found = step(&line(recipe), &given);
    found.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no `{name}` of {recipe}")).1[0]
}

#[test]
fn gradients_are_limited_by_element_and_by_norm() {
    close(&[of_line("clip value 4; minimize l with sgd(0.1)", 1.0, &[], "w")], &[2.0 - 0.4]);
    close(&[of_line("clip value 10; minimize l with sgd(0.1)", 1.0, &[], "w")], &[2.0 - 0.9]);
    let both = |recipe: &str| {
        let source = format!(
            "model M {{\ninput x: f32[batch]\nparam a: f32[2] = 0\nparam b: f32[] = 0\nloss l = mean(x) * (3 * a[1] - 4 * b)\n}}\ntrain {{ {recipe} }}"
        );
        let found = step(&source, &[("x", &[1.0, 1.0]), ("a", &[0.0, 0.0]), ("b", &[0.0])]);
        let of = |name: &str| found.iter().find(|(n, _)| n == name).unwrap().1.clone();
        [of("a"), of("b")].concat()
    };
    close(&both("clip norm 2; minimize l with sgd(1)"), &[0.0, -1.2, 1.6]);
    close(&both("clip norm 6; minimize l with sgd(1)"), &[0.0, -3.0, 4.0]);
    // In the order of the file: to 2 and -2 first, then to a norm of 1.
    close(&both("clip value 2; clip norm 1; minimize l with sgd(1)"), &[0.0, -(0.5f64.sqrt()), 0.5f64.sqrt()]);
    // Each objective has a norm of its own.
    let each = "clip norm 2; minimize l over a with sgd(1); minimize l over b with sgd(1)";
    close(&both(each), &[0.0, -2.0, 2.0]);
}

#[test]
fn several_updates_of_one_batch() {
    let mut w = 2.0;
    for _ in 0..3 {
        w -= 0.1 * (5.0 * w - 1.0);
    }
    close(&[of_line("minimize l with sgd(0.1) times 3", 1.0, &[], "w")], &[w]);
    close(&[of_line("minimize l with sgd(0.1) times 3", 1.0, &[], "l")], &[8.5]);
    // `step` counts updates: the third step's are 5 and 6.
    let first = 2.0 - 0.05 * 9.0;
    let second = first - 0.06 * (5.0 * first - 1.0);
    close(&[of_line("minimize l with sgd(0.01 * step) times 2", 3.0, &[], "w")], &[second]);
    // The optimizer's states go on from update to update.
    let (v1, w1) = (0.45 - 0.9, 2.0 + 0.45 - 0.9);
    let v2 = 0.9 * v1 - 0.1 * (5.0 * w1 - 1.0);
    let states = [("momentum.v/w", 0.5)];
    close(&[of_line("minimize l with momentum(0.1) times 2", 1.0, &states, "momentum.v/w")], &[v2]);
    close(&[of_line("minimize l with momentum(0.1) times 2", 1.0, &states, "w")], &[w1 + v2]);
}

/// The losses `a + a b` and `a b` of two parameters.
fn two(recipe: &str) -> Vec<f64> {
    let source = format!(
        "model M {{\ninput x: f32[batch]\nparam a: f32[] = 0\nparam b: f32[] = 0\nloss first = mean(x) * a * a\nloss second = mean(x) * a * b\n}}\ntrain {{\n{recipe}\n}}"
    );
    let found = step(&source, &[("x", &[1.0, 1.0]), ("a", &[3.0]), ("b", &[2.0])]);
    ["a", "b", "first", "second"].map(|name| found.iter().find(|(n, _)| n == name).unwrap().1[0]).to_vec()
}

#[test]
fn objectives_see_what_the_one_before_did_where_it_says_times() {
    let plain = "minimize first over a with sgd(0.25)\nminimize second over b with sgd(1)";
    close(&two(plain), &[1.5, 2.0 - 3.0, 9.0, 6.0]);
    let times = "minimize first over a with sgd(0.25) times 2\nminimize second over b with sgd(1)";
    close(&two(times), &[0.75, 2.0 - 0.75, 9.0, 1.5]);
    let once = "minimize first over a with sgd(0.25) times 1\nminimize second over b with sgd(1)";
    close(&two(once), &[1.5, 2.0 - 1.5, 9.0, 3.0]);
}

#[test]
fn every_update_draws_anew() {
    let source = |times: &str| {
        format!(
            "model M {{\ninput x: f32[batch]\nparam w: f32[] = 0\nnoise = mean(normal([batch]))\nloss l = w * noise + 0 * mean(x)\n}}\ntrain {{ minimize l with sgd(1) {times} }}"
        )
    };
    let after = |times: &str| {
        let given: [(&str, &[f64]); 4] = [("x", &[0.0, 0.0]), ("w", &[0.0]), ("seed", &[7.0, 0.0]), ("step", &[1.0])];
        let found = step(&source(times), &given);
        found.iter().find(|(n, _)| n == "w").unwrap().1[0]
    };
    let (one, two) = (after(""), after("times 2"));
    assert!((two - 2.0 * one).abs() > 1e-3, "the second update drew what the first did: {one}, {two}");
    close(&[after("times 1")], &[one]);
}

#[test]
fn gradients_of_several_steps_make_one_update() {
    let recipe = "accumulate 2\nminimize l with momentum(0.1)";
    let states = [("accumulate.gradient/w", 3.0), ("momentum.v/w", 0.5)];
    // The third step is the first of its pair: nothing changes but the sum, which begins anew.
    let third = |name: &str| of_line(recipe, 3.0, &states, name);
    close(&[third("w"), third("momentum.v/w"), third("accumulate.gradient/w")], &[2.0, 0.5, 9.0]);
    let fourth = |name: &str| of_line(recipe, 4.0, &states, name);
    let v = 0.45 - 0.1 * (3.0 + 9.0) / 2.0;
    close(&[fourth("w"), fourth("momentum.v/w"), fourth("accumulate.gradient/w")], &[2.0 + v, v, 12.0]);
    // `step` counts updates, and what is limited is the mean.
    let recipe = "accumulate 2\nclip value 1\nminimize l with sgd(step)";
    close(&[of_line(recipe, 4.0, &[("accumulate.gradient/w", 3.0)], "w")], &[2.0 - 2.0]);
}

#[test]
fn averages_begin_with_the_parameter_and_follow_it() {
    let recipe = "average ema 0.75\nminimize l with sgd(0.1)";
    let average = |number: f64, before: f64| of_line(recipe, number, &[("average.ema/w", before)], "average.ema/w");
    close(&[average(1.0, 0.0)], &[0.75 * 2.0 + 0.25 * 1.1]);
    close(&[average(2.0, 4.0)], &[0.75 * 4.0 + 0.25 * 1.1]);
    let recipe = "accumulate 2\naverage ema 0.75\nminimize l with sgd(0.1)";
    let both = |number: f64| {
        let states = [("average.ema/w", 4.0), ("accumulate.gradient/w", 3.0)];
        of_line(recipe, number, &states, "average.ema/w")
    };
    close(&[both(1.0), both(2.0), both(3.0), both(4.0)], &[2.0, 0.75 * 2.0 + 0.25 * 1.4, 4.0, 3.0 + 0.25 * 1.4]);
}

const PHASES: &str = r#"
model M {
    input x: f32[batch, 4]
    target t: f32[batch, 1]
    backbone = dense(3)
    head = dense(1)
    y = x |> backbone |> relu |> head
    output y
    loss l = mse(y, t)
}
train {
    batch 8; epochs 2; clip norm 1
    load "w.safetensors" into backbone
    minimize l with adam
    stop when val.l < 0.01 and not (epoch <= 3 or train.l > 2)
    phase "head" { freeze backbone; epochs 5 }
    phase "all" { minimize l with sgd(1e-5); batch 4; clip value 2 }
}
"#;

#[test]
fn a_phase_replaces_lines_of_the_recipe() {
    let of = |phase: Option<&str>| {
        let settings = Settings { phase: phase.map(str::to_owned), ..Settings::default() };
        let (project, problems) = Project::parse("test.nn", PHASES);
        assert!(problems.is_empty(), "{problems:?}");
        check(&project, &settings).unwrap()
    };
    let head = of(None);
    let recipe = head.recipe.as_ref().unwrap();
    assert_eq!((recipe.phase.as_str(), recipe.phases.len()), ("head", 2));
    assert_eq!((recipe.batch, recipe.epochs, recipe.minimize[0].optimizer.as_str()), (8, Some(5), "adam"));
    assert_eq!(recipe.clip, [Clip::Norm(1.0)]);
    assert_eq!(recipe.load[0].into.as_deref(), Some("backbone"));
    let trained = recipe.minimize[0].parameters.iter().map(|p| head.parameters[*p].path.as_str());
    assert_eq!(trained.collect::<Vec<_>>(), ["head.b", "head.w"]);
    let all = of(Some("all"));
    let recipe = all.recipe.as_ref().unwrap();
    assert_eq!((recipe.batch, recipe.epochs, recipe.minimize[0].optimizer.as_str()), (4, Some(2), "sgd"));
    assert_eq!((recipe.clip.as_slice(), recipe.load.len(), recipe.stop.len()), (&[Clip::Value(2.0)][..], 0, 1));
    assert_eq!(recipe.minimize[0].parameters.len(), 4);
    assert_ne!(recipe.phase_seed(), recipe.seed);
}

#[test]
fn mistakes_in_phases_and_updates() {
    let with = |rest: &str| messages(&line(rest));
    for (recipe, expected) in [
        ("clip nrm 1", "gradients have no `nrm` to clip\n    | write `clip norm X` or `clip value X`"),
        ("clip norm 0", "a limit on gradients is a number above 0, not the int 0"),
        ("accumulate 0", "`accumulate` is a whole number of at least 1, not the int 0"),
        ("accumulate 2; minimize l with sgd times 2", "`times` and `accumulate` do not go together"),
        ("average swa 0.9", "there is no average `swa`\n    | write `average ema 0.999`"),
        ("average ema 1", "a decay is a number from 0 to below 1, not the int 1"),
        ("checkpoint every 2 days", "`days` is no unit of checkpoints"),
        ("load 3", "`load` takes the path of a weight file as a string"),
        ("load \"w\" into nothing", "no layer `nothing` has parameters or states"),
        ("stop when val.k < 3", "the model has no loss or metric `k`"),
        ("stop when val.l", "`stop when` takes a condition on losses and metrics"),
        ("stop when l < nothing", "the model has no loss or metric `nothing`"),
        ("stop when l has not improved for 3 steps", "losses and metrics are compared after every epoch"),
        ("phase \"a\" { seed 1 }", "`seed` is the same for all phases: write it outside of them"),
        ("phase \"a\" { phase \"b\" { epochs 1 } }", "a phase cannot stand inside a phase"),
        ("phase \"a\" { epochs 1 }; phase \"a\" { epochs 1 }", "there is a second phase `a`"),
        ("phase \"a\" { epochs 1; epochs 2 }", "`epochs` is said twice"),
        ("phase \"a\" { epochs 1 }; phase \"b\" { minimize k with sgd }", "the model has no loss `k`"),
    ] {
        let found = with(recipe);
        assert!(found.contains(expected), "{recipe}\nexpected: {expected}\nfound: {found}");
    }
}

#[test]
fn metrics_that_are_distances_are_better_when_smaller() {
    let model = checked(
        "model M {\ninput x: f32[batch, 4]\ntarget t: f32[batch, 1]\ny = x |> dense(1)\nloss l = mse(y, t)\nmetric e = mae(y, t)\nmetric s = y |> mse(t)\nmetric a = accuracy(y, t)\n}\ntrain { minimize l with sgd; keep best e; stop when s has not improved for 1 epochs; stop when a has not improved for 1 epochs }",
    );
    let recipe = model.recipe.unwrap();
    assert!(recipe.keep_best.unwrap().smaller_is_better);
    let smaller = recipe.stop.iter().map(|stop| match stop {
        Stop::NotImproved { metric, .. } => metric.smaller_is_better,
        Stop::When { .. } => panic!("no condition"),
    });
    assert_eq!(smaller.collect::<Vec<_>>(), [true, false]);
}

/// The update of a second parameter of one type is copied from that of the first; of another type it is made anew. Both are the same numbers,
/// and so are first values and what the states become.
#[test]
fn parameters_of_one_type_are_updated_as_those_of_two() {
    let optimizers = [
        "sgd(lr=exponential_decay(0.1, 100, 0.5))",
        "momentum(0.1, nesterov=true)",
        "adam",
        "adamw",
        "adamax",
        "nadam",
        "rmsprop(momentum=0.5)",
        "adagrad",
        "adadelta",
        "lion",
        "noisy",
    ];
    let noisy = "optimizer noisy {\n    state m = 0.5\n    m <- 0.9 * m + gradient + normal(shape(param))\n    param <- param - 0.1 * m\n}\n";
    for (optimizer, extra) in optimizers.iter().flat_map(|o| [(o, ""), (o, "accumulate 3;"), (o, "average ema(0.9);")])
    {
        let of = |second: &str, index: &str| {
            let source = format!(
                "{noisy}model M {{\ninput x: f32[batch, 3]\nparam a: f32[3] = 1\nparam b: f32[{second}] = normal\nparam c: f32[3] = 2\n\
                 loss l = mean((x * a)^2) + 3 * mean((x * b{index})^2) + sum(c * c * c)\n}}\ntrain {{ batch 2; {extra} minimize l with {optimizer} }}"
            );
            let function = checked(&source).entries.train_step().expect("it trains").clone();
            let names: Vec<String> = function.arguments.iter().map(|a| a.name.clone()).collect();
            let value =
                |i: usize, elements: usize| (0..elements).map(|k| 0.3 + 0.1 * i as f64 + 0.05 * k as f64).collect();
            let counts: Vec<usize> = function
                .arguments
                .iter()
                .map(|a| a.ty.substitute(&Sizes::from([(Symbol("batch".into()), 2)])).unwrap().elements().unwrap())
                .collect();
            let values: Vec<Vec<f64>> = counts.iter().enumerate().map(|(i, n)| value(i, *n)).collect();
            let fixed = |name: &str, own: &Vec<f64>| match name {
                "seed" => vec![7.0, 0.0],
                "step" => vec![3.0],
                "epoch" => vec![1.0],
                _ => own.clone(),
            };
            let given: Vec<Vec<f64>> = names.iter().zip(&values).map(|(n, v)| fixed(n, v)).collect();
            let arguments: Vec<(&str, &[f64])> =
                names.iter().map(String::as_str).zip(given.iter().map(Vec::as_slice)).collect();
            let init: Vec<String> = checked(&source).entries.init().results.iter().map(|r| r.name.clone()).collect();
            (init, step(&source, &arguments))
        };
        let (one, two) = (of("3", ""), of("1, 3", "[0]"));
        assert_eq!(one, two, "{optimizer} {extra}");
    }
}
