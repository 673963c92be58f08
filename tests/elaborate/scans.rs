//! Loops: what a `scan` means, against the same equations unrolled.

use super::*;

const UNROLLED: &str = "
model M {
    input x: f32[2, 4, 3]
    param w: f32[3, 3] = ones
    h = zeros([2, 3])
    all = []
    for i in 0..4 {
        h = tanh(h @ w + x[:, i])
        all = all + [h]
    }
    output last = h
    output hs = stack(all, axis=1)
}
";

const SCANNED: &str = "
model M {
    input x: f32[2, 4, 3]
    param w: f32[3, 3] = ones
    scan xt in x axis AXIS carry h: f32[2, 3] = 0 {
        h = tanh(h @ w + xt)
        yield h
    } -> hs
    output last = h
    output hs = hs
}
";

fn x(count: usize) -> Vec<f64> {
    (0..count).map(|i| (i as f64 * 0.37).sin()).collect()
}

#[test]
fn a_scan_is_its_rounds() {
    let (x, w) = (x(24), x(9));
    let inputs: [(&[usize], &[f64]); 2] = [(&[2, 4, 3], &x), (&[3, 3], &w)];
    let expected = outputs(UNROLLED, &inputs);
    for axis in ["1", "-2"] {
        let found = outputs(&SCANNED.replace("AXIS", axis), &inputs);
        found.iter().zip(&expected).for_each(|(f, e)| close(f, e));
    }
}

#[test]
fn counts_reverse_and_several_sequences() {
    const SOURCE: &str = "
model M(n = 4) {
    input x: f32[3, 2]
    input y: f32[3]
    scan k in 2..2+n carry product: f32[] = 1 { product = product * f32(k) }
    output product
    scan a in x reverse carry s: f32[2] = 0 { s = s + a; yield s, sum(s) } -> sums, totals
    output sums
    output totals
    scan a in x, b in y, k in 0..3 carry s = y[0] { s = s + b * sum(a); yield f32(k) + s } -> all
    output all
    output s
    scan c in [0.5, 2.0] carry p = 1.0 { p = p * c + c }
    output p
    scan a in x axis 1 { yield sum(a) } -> columns
    output columns
    scan row in x carry t = 0.0 {
        scan v in row reverse carry t = t { t = t / 2 + v; yield t } -> ts
        yield ts
    } -> table
    output table
    output t
}
";
    let found = outputs(SOURCE, &[(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), (&[3], &[1.0, -1.0, 2.0])]);
    close(&found[0], &[120.0]);
    close(&found[1], &[9.0, 12.0, 8.0, 10.0, 5.0, 6.0]);
    close(&found[2], &[21.0, 18.0, 11.0]);
    close(&found[3], &[4.0, -2.0, 21.0]);
    close(&found[4], &[19.0]);
    close(&found[5], &[4.0]);
    close(&found[6], &[9.0, 12.0]);
    let mut t: f64 = 0.0;
    let mut table = Vec::new();
    for row in [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]] {
        let second = t / 2.0 + row[1];
        t = second / 2.0 + row[0];
        table.extend([t, second]);
    }
    close(&found[7], &table);
    close(&found[8], &[t]);
}

#[test]
fn a_scan_over_a_symbolic_axis() {
    let model = checked(
        "model M { input x: f32[batch, t]; scan v in x axis 1 carry s: f32[batch] = 0 { s = s + v; yield s } -> all
                   scan k in 0..t carry n = 0 { n = n + k }; output all; output n }",
    );
    let infer = model.entries.infer().unwrap();
    let sizes = Sizes::from([(Symbol("batch".into()), 2), (Symbol("t".into()), 3)]);
    let function = infer.specialize(&sizes).unwrap();
    let x = Tensor::new(function.arguments[0].ty.clone(), vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let found = nnc::ir::interpret::run(&function, &[x]).unwrap();
    close(&found[0].data, &[1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
    close(&found[1].data, &[3.0]);
}

#[test]
fn layers_in_a_body_are_made_once_and_constants_stay_outside() {
    let model = checked(
        "model M { input x: f32[batch, 5, 4]; net = |v| v |> dense(4) |> tanh
                   scan xt in x axis 1 carry h: f32[batch, 4] = 0 { h = net(h) + dense(xt, 4); yield h } -> hs
                   output hs }",
    );
    assert_eq!(paths(&model), ["dense_1.b", "dense_1.w", "net.dense_1.b", "net.dense_1.w"]);
}

/// The step that trains `source`, and the one of the unrolled equations, agree in the loss and in every update.
fn same_training(source: &str, unrolled: &str, arguments: &[(&str, &[f64])]) {
    let (found, expected) = (step(source, arguments), step(unrolled, arguments));
    assert_eq!(found.len(), expected.len());
    for ((name, f), (other, e)) in found.iter().zip(&expected) {
        assert_eq!(name, other);
        close(f, e);
    }
}

#[test]
fn training_through_a_scan_is_training_through_its_rounds() {
    let with_loss = |source: &str| {
        source.replace("output last = h\n", "loss l = mean(h^2) + mean(ALL)\n").replace("    output hs", "    hs2")
            + "train { minimize l with sgd(lr=0.5) }"
    };
    let scanned = with_loss(&SCANNED.replace("AXIS", "1")).replace("ALL", "hs^3").replace("hs2 = hs", "");
    let unrolled = with_loss(UNROLLED).replace("loss l", "hs = stack(all, axis=1)\n    loss l").replace("ALL", "hs^3");
    let (x, w) = (x(24), x(9));
    same_training(&scanned, &unrolled, &[("x", &x), ("w", &w)]);
}

/// Gradients inside the body, of the scan, and of gradients of it.
#[test]
fn gradients_inside_around_and_again() {
    const SOURCE: &str = "
fn rounds(x, w) {
    LOOP
    all
}
model M {
    input x: f32[3, 2]
    param w: f32[2] = ones
    y = rounds(x, w)
    slope = grad(sum(y * y), x)
    loss l = sum(slope * slope) + sum(grad(sum(sin(slope)), w))
}
train { minimize l with sgd(lr=0.5) }
";
    let scanned = "scan xt in x carry h: f32[2] = 0 {
        energy = sum(cos(h * w + xt) * h)
        h = h - 0.3 * grad(energy, h) + 0.1 * grad(energy, w) + xt
        yield h
    } -> all";
    let scanned = scanned.replace("+ 0.1 * grad(energy, w) ", "");
    let unrolled = "h = zeros([2])
    list = []
    for i in 0..3 {
        energy = sum(cos(h * w + x[i]) * h)
        h = h - 0.3 * grad(energy, h) + x[i]
        list = list + [h]
    }
    all = stack(list)";
    let arguments: [(&str, &[f64]); 2] = [("x", &x(6)), ("w", &[0.8, -0.4])];
    same_training(&SOURCE.replace("LOOP", &scanned), &SOURCE.replace("LOOP", unrolled), &arguments);
}

#[test]
fn states_set_in_a_body_are_carried() {
    let source = |rounds: &str| {
        format!(
            "layer norm2(x: f32[n]) {{ state seen: f32[n] = zeros; state count: f32[] = zeros
                 seen <- 0.5 * seen + stop_gradient(x); count <- count + 1; x + seen }}
             model M {{ input x: f32[3, 2]; param w: f32[2] = ones; state total: f32[2] = zeros
                 norm = norm2()
                 first = norm(w * x[0])
                 {rounds}
                 loss l = sum(total * w) + sum(first) }}
             train {{ minimize l with sgd(lr=0.5) }}"
        )
    };
    let scanned = source("scan xt in x { total <- total + norm(w * xt) }");
    let unrolled = source("for i in 0..3 { total <- total + norm(w * x[i]) }");
    let arguments: [(&str, &[f64]); 5] =
        [("x", &x(6)), ("w", &[0.5, -1.5]), ("total", &[1.0, 2.0]), ("norm.seen", &[0.3, 0.6]), ("norm.count", &[4.0])];
    same_training(&scanned, &unrolled, &arguments);
}

#[test]
fn draws_differ_from_round_to_round() {
    let model = checked(
        "model M { scan k in 0..3 { scan j in 0..2 { yield uniform([4]) } -> inner; yield inner } -> all
                   scan k in 0..2 { yield uniform([4]) } -> more
                   output all; output more }",
    );
    let infer = model.entries.infer().unwrap();
    let found = run(infer, &[]);
    let mut words: Vec<u64> = found.iter().flat_map(|t| t.data.iter().map(|v| v.to_bits())).collect();
    assert_eq!(words.len(), 32);
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), 32, "two draws are equal");
}

#[test]
fn recurrent_layers_are_their_equations() {
    const LSTM: &str = "
model M {
    input x: f32[2, 3, 2]
    hs, h, c = lstm(x, 2, return_sequences=true, return_state=true)
    output hs = hs
    output h = h
    output c = c
    output s = gru(x, 2, bias=false)
    output r = rnn(x, 2, return_sequences=true, go_backwards=true)
}
";
    const BY_HAND: &str = "
model M {
    input x: f32[2, 3, 2]
    param w: f32[2, 8] = zeros
    param u: f32[2, 8] = zeros
    param b: f32[8] = zeros
    param gw: f32[2, 6] = zeros
    param gu: f32[2, 6] = zeros
    param rw: f32[2, 2] = zeros
    param ru: f32[2, 2] = zeros
    param rb: f32[2] = zeros
    h = zeros([2, 2])
    c = zeros([2, 2])
    s = zeros([2, 2])
    r = zeros([2, 2])
    all = []
    turned = []
    for k in 0..3 {
        i, f, g, o = split(x[:, k] @ w + h @ u + b, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        all = all + [h]
        z, q, a = split(x[:, k] @ gw, 3, axis=-1)
        uz, uq, ua = split(s @ gu, 3, axis=-1)
        z = sigmoid(z + uz)
        s = z * s + (1 - z) * tanh(a + sigmoid(q + uq) * ua)
        r = tanh(x[:, 2 - k] @ rw + r @ ru + rb)
        turned = turned + [r]
    }
    output hs = stack(all, axis=1)
    output h = h
    output c = c
    output s = s
    output r = stack(turned, axis=1)
}
";
    let (x, many) = (x(12), x(16));
    let sizes: [(&str, &[usize]); 9] = [
        ("x", &[2, 3, 2]),
        ("lstm_1.b", &[8]),
        ("lstm_1.u", &[2, 8]),
        ("lstm_1.w", &[2, 8]),
        ("gru_1.u", &[2, 6]),
        ("gru_1.w", &[2, 6]),
        ("rnn_1.b", &[2]),
        ("rnn_1.u", &[2, 2]),
        ("rnn_1.w", &[2, 2]),
    ];
    let value = |name: &str| -> (Vec<usize>, Vec<f64>) {
        let by_path = [("w", "lstm_1.w"), ("u", "lstm_1.u"), ("b", "lstm_1.b"), ("gw", "gru_1.w"), ("gu", "gru_1.u")];
        let more = [("rw", "rnn_1.w"), ("ru", "rnn_1.u"), ("rb", "rnn_1.b")];
        let path = by_path.iter().chain(&more).find(|(n, _)| *n == name).map_or(name, |(_, p)| p);
        let (at, (_, size)) = sizes.iter().enumerate().find(|(_, (n, _))| *n == path).expect("a known argument");
        let count = size.iter().product();
        let data = if path == "x" { x.clone() } else { (0..count).map(|i| many[(i + 3 * at) % 16]).collect() };
        (size.to_vec(), data)
    };
    let of = |source: &str| {
        let model = checked(source);
        let function = model.entries.infer().expect("outputs");
        let given: Vec<(Vec<usize>, Vec<f64>)> = function.arguments.iter().map(|a| value(&a.name)).collect();
        let given: Vec<(&[usize], &[f64])> = given.iter().map(|(s, d)| (s.as_slice(), d.as_slice())).collect();
        run(function, &given)
    };
    for (found, expected) in of(LSTM).iter().zip(&of(BY_HAND)) {
        assert_eq!(found.ty, expected.ty);
        close(&found.data, &expected.data);
    }
}

#[test]
fn wrappers_of_recurrent_layers() {
    let model = checked(
        "model M { input x: f32[batch, 5, 4]
             output y = x |> bidirectional(lstm(3, return_sequences=true))
             output z = x |> bidirectional(gru(3), merge=\"sum\")
             output t = x |> time_distributed(dense(2)) }",
    );
    let infer = model.entries.infer().unwrap();
    let types: Vec<String> = infer.results.iter().map(|r| infer.graph.type_of(r.value).to_string()).collect();
    assert_eq!(types, ["f32[batch, 5, 6]", "f32[batch, 3]", "f32[batch, 5, 2]"]);
    let names = paths(&model);
    assert!(names.contains(&"bidirectional_1.forward.w") && names.contains(&"bidirectional_1.backward.u"), "{names:?}");
    assert!(names.contains(&"bidirectional_2.backward.b") && names.contains(&"dense_1.w"), "{names:?}");
}

#[test]
fn orthogonal_matrices() {
    for (shape, few, many) in [("[5, 12]", 5, 12), ("[9, 4]", 4, 9), ("[2, 3, 4]", 4, 6)] {
        let init = format!("model M {{ param u: f32{shape} = orthogonal(gain=2); output u }}");
        let model = checked(&init);
        let u = run(model.entries.init(), &[]).remove(0).data;
        let at = |i: usize, j: usize| if shape == "[5, 12]" { u[i * many + j] } else { u[j * few + i] };
        for a in 0..few {
            for b in 0..few {
                let dot: f64 = (0..many).map(|j| at(a, j) * at(b, j)).sum();
                let expected = if a == b { 4.0 } else { 0.0 };
                assert!((dot - expected).abs() < 1e-6, "{shape}: rows {a} and {b} have the product {dot}");
            }
        }
    }
}
