//! Paths of parameters: as the language says, and the same whatever is edited elsewhere in the file.

use super::*;

const BODY: &str = "
layer block(x, units) { x |> dense(units) |> relu |> dense(units) }
model M {
    input x: f32[batch, 4]
    enc = dense(4)
    h = enc(x) |> dense(4) |> block(4)
    h = h |> relu |> dense(4)
    net = |v| v |> dense(4) |> block(4)
    for i in 0..2 { h = net(h) |> block(4) }
    output y = enc(h) |> dense(2)
}
";

const PATHS: [&str; 13] = [
    "block_1.dense_1.w f32[4, 4]",
    "block_1.dense_2.w f32[4, 4]",
    "block_2.dense_1.w f32[4, 4]",
    "block_2.dense_2.w f32[4, 4]",
    "block_3.dense_1.w f32[4, 4]",
    "block_3.dense_2.w f32[4, 4]",
    "dense_1.w f32[4, 4]",
    "dense_2.w f32[4, 4]",
    "dense_3.w f32[4, 2]",
    "enc.w f32[4, 4]",
    "net.block_1.dense_1.w f32[4, 4]",
    "net.block_1.dense_2.w f32[4, 4]",
    "net.dense_1.w f32[4, 4]",
];

/// The matrices of a source with their types.
fn matrices(source: &str) -> Vec<String> {
    let model = checked(source);
    let matrices = model.parameters.iter().filter(|p| p.path.ends_with(".w"));
    matrices.map(|p| format!("{} {}", p.path, p.ty)).collect()
}

#[test]
fn counters_follow_the_order_of_use() {
    assert_eq!(matrices(BODY), PATHS);
}

#[test]
fn edits_elsewhere_leave_paths_alone() {
    let edits: [(&str, &str); 10] = [
        // Names of values, comments, lines, definitions that nothing calls, another order of definitions.
        ("    h = enc(x)", "    other_name = 3\n\n    // A comment.\n    h = enc(x)"),
        ("h = h |> relu |> dense(4)", "h = h\n        |> relu\n        |> dense(units=4)"),
        ("layer block(x, units)", "fn unused(x) { x |> dense(7) }\nlayer block(x, units)"),
        ("    enc = dense(4)", "    spare = dense(9)\n    enc = dense(4)"),
        ("    enc = dense(4)", "    layer inner(v) { v |> dense(9) }\n    enc = dense(4)"),
        ("output y =", "metric m = mean(h)\n    output y ="),
        ("h |> relu |> dense(4)", "h |> tanh |> (|v| v * 2) |> dropout(0.1) |> dense(4)"),
        ("for i in 0..2 {", "for index in range(0, 2) {"),
        // A layer of another kind counts for itself.
        ("h = h |> relu", "h = h |> layer_norm |> prelu"),
        ("x |> dense(units) |> relu |> dense(units) }", "y = x |> dense(units)\n return y |> gelu |> dense(units) }"),
    ];
    for (from, to) in edits {
        assert!(BODY.contains(from), "{from}");
        assert_eq!(matrices(&BODY.replace(from, to)), PATHS, "{from} -> {to}");
    }
}

#[test]
fn what_is_bound_to_a_name_is_called_by_it() {
    let source = "
fn pair(x) { (x |> dense(3), x |> dense(3)) }
layer two(x) { inner = dense(3); inner(x) + inner(x) }
model M {
    input x: f32[batch, 3]
    parts = [dense(3)(x) for i in 0..2]
    a, b = pair(x)
    mine = two
    first = two()
    y = mine(x) + first(x) + sum(parts)
    y = (|v| v |> dense(3))(y)
    layers = [dense(3), dense(3)]
    for part in layers { y = part(y) }
    for part in layers { y = part(y) }
    named = layers[0]
    output y = y + a + b + named(y)
}";
    let source = source.replace("sum(parts)", "parts[0] + parts[1]").replace("first = two()", "first = |v| v |> two");
    let found = matrices(&source);
    let paths: Vec<&str> = found.iter().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(
        paths,
        [
            "dense_1.w",
            "dense_2.w",
            "dense_3.w",
            "dense_4.w",
            "first.two_1.inner.w",
            "lambda_1.dense_1.w",
            "part.w",
            "part_2.w",
            "two_1.inner.w"
        ]
    );
}
