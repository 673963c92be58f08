//! Indices, shapes, contractions, sorting: expressions whose values NumPy gives. The numbers are NumPy 2.4's.

use super::*;

/// Each expression of x = arange(24) as [2, 3, 4], m = arange(9) as [3, 3], i = [[0, 2], [1, 1]], j = [1, 3], v and w, with
/// the type and the values it has.
fn expect(cases: &[(&str, &str, &[f64])]) {
    let count = |n: usize| (0..n).map(|i| i as f64).collect::<Vec<_>>();
    let lines: String = cases.iter().enumerate().map(|(n, (e, ..))| format!("output y{n} = {e}\n")).collect();
    let source = format!(
        "model M {{\ninput x: f32[2, 3, 4]\ninput m: f32[3, 3]\ninput i: i32[2, 2]\ninput j: i32[2]\ninput v: f32[6]\ninput w: i32[3, 4]\n{lines}
         output all = sum(x) + sum(m) + sum(v) + f32(sum(i) + sum(j) + sum(w))\n}}"
    );
    let inputs: [(&[usize], &[f64]); 6] = [
        (&[2, 3, 4], &count(24)),
        (&[3, 3], &count(9)),
        (&[2, 2], &[0.0, 2.0, 1.0, 1.0]),
        (&[2], &[1.0, 3.0]),
        (&[6], &[3.0, -1.0, 3.0, 0.0, 2.0, -1.0]),
        (&[3, 4], &[5.0, 0.0, 7.0, 1.0, 2.0, 2.0, 2.0, 2.0, -1.0, 9.0, -8.0, 3.0]),
    ];
    let model = checked(&source);
    let results = run(model.entries.infer().expect("there are outputs"), &inputs);
    for ((expression, ty, values), found) in cases.iter().zip(&results) {
        assert_eq!(found.ty.to_string(), *ty, "{expression}");
        assert_eq!(found.data.len(), values.len(), "{expression}: {found:?}");
        let same = |(a, b): (&f64, &f64)| a == b || (a - b).abs() <= 1e-6 * (1.0 + b.abs());
        assert!(found.data.iter().zip(*values).all(same), "{expression}: {found:?} instead of {values:?}");
    }
}

#[test]
fn indices() {
    expect(&[
        ("x[0, -1]", "f32[4]", &[8.0, 9.0, 10.0, 11.0]),
        ("x[.., -1]", "f32[2, 3]", &[3.0, 7.0, 11.0, 15.0, 19.0, 23.0]),
        ("x[1, .., 0]", "f32[3]", &[12.0, 16.0, 20.0]),
        ("x[::-1, 1:, -3]", "f32[2, 2]", &[17.0, 21.0, 5.0, 9.0]),
        ("v[4:0:-2]", "f32[2]", &[2.0, 3.0]),
        ("v[-2:]", "f32[2]", &[2.0, -1.0]),
        ("v[3:3]", "f32[0]", &[]),
        ("v[i]", "f32[2, 2]", &[3.0, 3.0, -1.0, -1.0]),
        ("m[:, j]", "f32[3, 2]", &[1.0, 2.0, 4.0, 5.0, 7.0, 8.0]),
        ("m[[2, 0]]", "f32[2, 3]", &[6.0, 7.0, 8.0, 0.0, 1.0, 2.0]),
        ("x[:, i, j]", "f32[2, 2, 2]", &[1.0, 11.0, 5.0, 7.0, 13.0, 23.0, 17.0, 19.0]),
        ("x[i % 2, :, j]", "f32[2, 2, 3]", &[1.0, 5.0, 9.0, 3.0, 7.0, 11.0, 13.0, 17.0, 21.0, 15.0, 19.0, 23.0]),
        ("x[1, i, ::-2]", "f32[2, 2, 2]", &[15.0, 13.0, 23.0, 21.0, 19.0, 17.0, 19.0, 17.0]),
        ("x[j % 2, j % 3, j]", "f32[2]", &[17.0, 15.0]),
        ("take_along_axis(m, i[[0, 1, 0]], axis=1)", "f32[3, 2]", &[0.0, 2.0, 4.0, 4.0, 6.0, 8.0]),
        ("take_along_axis(m, i[:1, :1], axis=0)", "f32[1, 3]", &[0.0, 1.0, 2.0]),
        ("gather(m, j, axis=-1)", "f32[3, 2]", &[1.0, 2.0, 4.0, 5.0, 7.0, 8.0]),
        ("scatter_add(v, j, v[:2])", "f32[6]", &[3.0, 2.0, 3.0, -1.0, 2.0, -1.0]),
        ("one_hot(j, 4)", "f32[2, 4]", &[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]),
    ]);
}

#[test]
fn einsums() {
    expect(&[
        ("einsum(\"ii->i\", m)", "f32[3]", &[0.0, 4.0, 8.0]),
        ("einsum(\"ii\", m)", "f32[]", &[12.0]),
        ("einsum(\"ji\", m)", "f32[3, 3]", &[0.0, 3.0, 6.0, 1.0, 4.0, 7.0, 2.0, 5.0, 8.0]),
        ("einsum(\"..i,..i->..\", x, x)", "f32[2, 3]", &[14.0, 126.0, 366.0, 734.0, 1230.0, 1854.0]),
        (
            "einsum(\"...ij,jk->...ik\", x, reshape(f32(iota(8)), [4, 2]))",
            "f32[2, 3, 2]",
            &[28.0, 34.0, 76.0, 98.0, 124.0, 162.0, 172.0, 226.0, 220.0, 290.0, 268.0, 354.0],
        ),
        ("einsum(\"ij,kl->\", m, m)", "f32[]", &[1296.0]),
        ("einsum(\"iji->j\", reshape(f32(iota(12)), [2, 3, 2]))", "f32[3]", &[7.0, 11.0, 15.0]),
        (
            "einsum(\"ij,jk,kl->il\", m, m, m)",
            "f32[3, 3]",
            &[180.0, 234.0, 288.0, 558.0, 720.0, 882.0, 936.0, 1206.0, 1476.0],
        ),
        ("einsum(\"ab,ab->ab\", m[:1], m)", "f32[3, 3]", &[0.0, 1.0, 4.0, 0.0, 4.0, 10.0, 0.0, 7.0, 16.0]),
        ("einsum(\"ij,ij->\", w, w)", "i32[]", &[246.0]),
        ("w @ transpose(w)", "i32[3, 3]", &[75.0, 26.0, -58.0, 26.0, 16.0, 6.0, -58.0, 6.0, 155.0]),
        ("m[0] @ m", "f32[3]", &[15.0, 18.0, 21.0]),
        ("m @ m[0] @ m[1]", "f32[]", &[186.0]),
    ]);
}

#[test]
fn shapes_and_borders() {
    expect(&[
        ("expand_dims(v[:2], -1)", "f32[2, 1]", &[3.0, -1.0]),
        ("expand_dims(v[:2], 0)", "f32[1, 2]", &[3.0, -1.0]),
        ("squeeze(m[:1, 1:2])", "f32[]", &[1.0]),
        ("squeeze(m[:1], axis=0)", "f32[3]", &[0.0, 1.0, 2.0]),
        ("swapaxes(m, 0, -1)[0]", "f32[3]", &[0.0, 3.0, 6.0]),
        ("moveaxis(x, 0, -1)[0, 0]", "f32[2]", &[0.0, 12.0]),
        ("broadcast_to(v[:2], [2, 2])", "f32[2, 2]", &[3.0, -1.0, 3.0, -1.0]),
        ("diag(m)", "f32[3]", &[0.0, 4.0, 8.0]),
        ("diag(v[:2])", "f32[2, 2]", &[3.0, 0.0, 0.0, -1.0]),
        ("diagonal(x)", "f32[2, 3]", &[0.0, 5.0, 10.0, 12.0, 17.0, 22.0]),
        ("trace(m)", "f32[]", &[12.0]),
        ("roll(v, 2)", "f32[6]", &[2.0, -1.0, 3.0, -1.0, 3.0, 0.0]),
        ("tril(m)", "f32[3, 3]", &[0.0, 0.0, 0.0, 3.0, 4.0, 0.0, 6.0, 7.0, 8.0]),
        ("triu(m, 1)", "f32[3, 3]", &[0.0, 1.0, 2.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0]),
        ("pad(v[:4], [[2, 3]], mode=\"reflect\")", "f32[9]", &[3.0, -1.0, 3.0, -1.0, 3.0, 0.0, 3.0, -1.0, 3.0]),
        (
            "pad(m, [[1, 0], [0, 2]], mode=\"edge\")",
            "f32[4, 5]",
            &[0., 1., 2., 2., 2., 0., 1., 2., 2., 2., 3., 4., 5., 5., 5., 6., 7., 8., 8., 8.],
        ),
        ("pad(m[0], [[2, 1]], mode=\"symmetric\")", "f32[6]", &[1.0, 0.0, 0.0, 1.0, 2.0, 2.0]),
        ("pad(v[:1], 1, value=7.5)", "f32[3]", &[7.5, 3.0, 7.5]),
        ("tile(j, [2, 2])", "i32[2, 4]", &[1.0, 3.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0]),
        ("split(v, [1, 2, 3])[2]", "f32[3]", &[0.0, 2.0, -1.0]),
        ("reverse(m, axis=0)[0]", "f32[3]", &[6.0, 7.0, 8.0]),
        ("reshape(m, [-1])[4:6]", "f32[2]", &[4.0, 5.0]),
    ]);
}

#[test]
fn sorts_and_runs() {
    expect(&[
        ("sort(v)", "f32[6]", &[-1.0, -1.0, 0.0, 2.0, 3.0, 3.0]),
        ("argsort(v)", "i32[6]", &[1.0, 5.0, 3.0, 4.0, 0.0, 2.0]),
        ("argsort(v, descending=true)", "i32[6]", &[0.0, 2.0, 4.0, 3.0, 1.0, 5.0]),
        ("sort(w, axis=0)", "i32[3, 4]", &[-1.0, 0.0, -8.0, 1.0, 2.0, 2.0, 2.0, 2.0, 5.0, 9.0, 7.0, 3.0]),
        ("topk(w, 2)[0]", "i32[3, 2]", &[7.0, 5.0, 2.0, 2.0, 9.0, 3.0]),
        ("topk(w, 2)[1]", "i32[3, 2]", &[2.0, 0.0, 0.0, 1.0, 1.0, 3.0]),
        ("cumsum(m, axis=0)", "f32[3, 3]", &[0.0, 1.0, 2.0, 3.0, 5.0, 7.0, 9.0, 12.0, 15.0]),
        ("cumsum(m, axis=1, exclusive=true)", "f32[3, 3]", &[0.0, 0.0, 1.0, 0.0, 3.0, 7.0, 0.0, 6.0, 13.0]),
        ("cumsum(v, reverse=true)", "f32[6]", &[6.0, 3.0, 4.0, 1.0, 1.0, -1.0]),
        ("cumsum(m)", "f32[9]", &[0.0, 1.0, 3.0, 6.0, 10.0, 15.0, 21.0, 28.0, 36.0]),
        ("cumprod(m + 1)", "f32[9]", &[1.0, 2.0, 6.0, 24.0, 120.0, 720.0, 5040.0, 40320.0, 362880.0]),
        ("cumprod(w[0], reverse=true, exclusive=true)", "i32[4]", &[0.0, 7.0, 1.0, 1.0]),
        ("argmax(w)", "i32[]", &[9.0]),
        ("argmax(x, axis=[1, 2])", "i32[2]", &[11.0, 11.0]),
        ("max(x, axis=[0, 2])", "f32[3]", &[15.0, 19.0, 23.0]),
        ("prod(m[1:])", "f32[]", &[20160.0]),
        ("sum(v[3:3])", "f32[]", &[0.0]),
        ("prod(v[3:3])", "f32[]", &[1.0]),
        ("f32(any(v > 2)) + f32(all(v > 2))", "f32[]", &[1.0]),
        ("sort(permutation(50))[::7]", "i32[8]", &[0.0, 7.0, 14.0, 21.0, 28.0, 35.0, 42.0, 49.0]),
    ]);
}

#[test]
fn mistakes_of_indices_and_sorts() {
    let told = |expression: &str| {
        messages(&format!(
            "model M {{\ninput x: f32[2, 3]\ninput i: i32[4]\ninput k: i32[2]\noutput y = {expression}\n}}"
        ))
    };
    for (expression, part) in [
        ("x[2]", "index 2 is out of range for axis 0, which has size 2"),
        ("x[i, k]", "indices i32[4] and i32[2]: 4 does not match 2"),
        ("x[x > 0]", "an index is an integer tensor, found bool[2, 3]"),
        ("topk(x, 4)", "the 4 largest of 3 elements along axis 1"),
        ("sort(x, axis=2)", "axis 2 is out of range"),
        ("max(x[2:])", "the max of no elements: axis 0 of f32[0, 3]"),
        ("argmin(x[:, 3:], axis=1)", "the argmin of no elements: axis 1 of f32[2, 0]"),
        ("einsum(\"ij->ii\", x)", "`i` stands twice in the result"),
        ("einsum(\"ii\", x)", "`i` is 2 and 3 in f32[2, 3]"),
        ("einsum(\"..i->i\", x)", "the result has no `..`"),
        ("einsum(\"i..\", x, x)", "is of 1 operands, found 2"),
        ("cumsum(x > 0)", "a running sum or product of bool[2, 3]"),
        ("pad(x, [[0, 0], [3, 0]], mode=\"reflect\")", "a border of 3 by \"reflect\" along axis 1"),
        ("pad(x, 1, mode=\"wrap\")", "there is no padding \"wrap\""),
        ("take_along_axis(x, i)", "elements of f32[2, 3] by i32[4] along axis 1"),
        ("squeeze(x, axis=0)", "axis 0 of shape [2, 3] is not 1"),
        ("expand_dims(x, 3)", "axis 3 is out of range"),
    ] {
        let found = told(expression);
        assert!(found.contains(part), "{expression}: {found}");
    }
}

/// Sizes that are not known when types are checked: a batch of 2 sorted, mixed, multiplied, with the gradient of all that.
#[test]
fn gradients_over_a_batch() {
    const SOURCE: &str = "
model M {
    input x: f32[batch, 3]
    param w: f32[3] = ones
    z = x * w
    order = permutation(batch)
    best, place = topk(z, 2)
    loss l = sum(cumsum(z, axis=0) * x) + sum(best[:, 0] * 10) + prod(z[:, 1:]) + sum(sort(z, axis=0)[0]) + sum(z[order])
         + sum(take_along_axis(z, place, axis=1)) + trace(einsum(\"bi,bj->ij\", z, z)) + sum(z[order, iota(batch)])
}
train { batch 2; epochs 1; minimize l with sgd(1) }
data { train { x = npy(\"x.npy\") } }";
    let x = [1.0, 2.0, 3.0, -1.0, 4.0, 0.5];
    let results = step(SOURCE, &[("x", &x), ("w", &[1.0; 3]), ("seed", &[1.0, 0.0]), ("step", &[0.0])]);
    let of =
        |name: &str| results.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name}: {results:?}")).1.clone();
    let loss = |w: [f64; 3]| {
        let z: Vec<f64> = (0..6).map(|i| x[i] * w[i % 3]).collect();
        let runs: f64 = (0..3).map(|c| z[c] * x[c] + (z[c] + z[c + 3]) * x[c + 3]).sum();
        let best: f64 = 10.0 * (z[2] + z[4]) + z[1] * z[2] * z[4] * z[5];
        let least: f64 = (0..3).map(|c| z[c].min(z[c + 3])).sum();
        let all: f64 = z.iter().sum();
        let picked = z[2] + z[1] + z[4] + z[5];
        let squares: f64 = z.iter().map(|v| v * v).sum();
        runs + best + least + all + picked + squares
    };
    // The last term is one element of each of the first two columns, in an order that the seed decides.
    let l = of("l")[0];
    let rest = l - loss([1.0; 3]);
    let diagonal = [(x[0] + x[4], [x[0], x[4]]), (x[3] + x[1], [x[3], x[1]])];
    let (_, last) = diagonal.iter().find(|(sum, _)| (sum - rest).abs() < 1e-9).unwrap_or_else(|| panic!("{l}, {rest}"));
    for i in 0..3 {
        let moved = |by: f64| {
            let mut w = [1.0; 3];
            w[i] += by;
            loss(w)
        };
        let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6 + last.get(i).copied().unwrap_or(0.0);
        close(&of("w")[i..=i], &[1.0 - slope]);
    }
}
