//! What is told of mistakes, and that no file brings the compiler down.

use super::*;

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
        ("y = i32(x) |> dense(3)", "`dense` cannot take i32[batch, 4] as `x`"),
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
        ("train { keep best train.er }", "the model has no loss or metric `er`\n    | did you mean `err`?"),
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
        (String::new(), "for i in 0..90000 { y = x }", "rounds are unrolled"),
        (String::new(), "for i in 0..100000000 { y = x }", "is longer than"),
        (String::new(), "l = [1]; for i in 0..40 { l = [l, l] }", "is longer than"),
        (String::new(), "l = [1]; for i in 0..40 { l = l + l }", "is longer than"),
        (String::new(), "l = 1; for i in 0..100 { l = [l] }", "lists inside lists"),
        (String::new(), "s = \"a\"; for i in 0..40 { s = s + s }", "a string longer than"),
        (String::new(), "n = 10; for i in 0..40 { n = n * n }", "does not fit 64 bits"),
        (String::new(), "n = batch; for i in 0..40 { n = n * (n + 1) }", "does not fit 64 bits"),
        (String::new(), "for i in 0..4000 { for k in 0..40 { x = x + 1 } }", "rounds are unrolled"),
        ("const a = b\nconst b = a\n".into(), "y = a", "is defined by itself"),
        (String::new(), "y = 9223372036854775807 + 1", "does not fit 64 bits"),
        (String::new(), "y = x |> dense(4611686018427387904)", "elements"),
        (String::new(), "y = zeros([1 for i in 0..1000])", "a tensor of 1000 dims"),
        (String::new(), "fs = []; for i in 0..19000 { fs = [|v| v + i]; a = i }; y = fs[0](1, 2)", "takes 1 argument"),
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

/// Sources with words swapped, dropped and doubled: whatever comes of them, it is a model or a diagnostic.
#[test]
fn mangled_files_do_not_panic() {
    let rounds: u64 = std::env::var("NNC_MANGLE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
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
