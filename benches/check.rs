//! How long the frontend takes: parsing, resolving and elaborating generated files, medians over several runs.
//!
//! `cargo bench --bench check`. The first run of a process also parses the library, which is shown on its own.

use std::time::{Duration, Instant};

use nnc::frontend::{Project, Settings, check};

const SAMPLES: usize = 15;

/// A thousand lines: layers of a few lines each, and a model that uses some of them.
fn thousand_lines() -> String {
    let layer = |i: usize| {
        format!(
            "/// Layer number {i}.\nlayer block_{i}(x: f32[.., n], units = {units}) {{\n    h = x |> dense(units) |> relu\n    \
             scale = 1 / ({i} + 1.0)\n    if units > 64 {{\n        h = h |> dropout(0.1)\n    }}\n    \
             return (h * scale) |> layer_norm\n}}\n\n",
            units = 16 + i % 3 * 8
        )
    };
    let mut text: String = (0..98).map(layer).collect();
    text.push_str("model M {\n    input x: f32[batch, 8]\n    target t: f32[batch, 1]\n");
    (0..8).for_each(|i| text.push_str(&format!("    x = x |> block_{i}\n")));
    text.push_str("    loss error = mse(x |> dense(1), t)\n    output x\n}\n");
    text.push_str("train {\n    epochs 1\n    minimize error with adam\n}\n");
    text
}

/// Two hundred transformer blocks from primitives, trained with adam.
fn transformer_blocks() -> String {
    let blocks: String = (0..200).map(|_| "    x = x |> block(4)\n").collect();
    format!(
        r#"
layer attend(x: f32[n, t, d], heads) {{
    param qkv: f32[d, 3*d] = glorot_uniform
    param out: f32[d, d] = glorot_uniform
    q, k, v = [reshape(part, [n, t, heads, d/heads]) for part in split(x @ qkv, 3, axis=-1)]
    weights = softmax(einsum("bqhd,bkhd->bhqk", q, k) / sqrt(d/heads))
    return reshape(einsum("bhqk,bkhd->bqhd", weights, v), [n, t, d]) @ out
}}
layer block(x: f32[n, t, d], heads) {{
    x = x + (x |> layer_norm |> attend(heads))
    return x + (x |> layer_norm |> dense(4*d) |> gelu |> dense(d))
}}
model Deep {{
    input text: index(256)[batch, 64]
    target then: index(256)[batch, 64]
    x = embedding(text, 256, 64)
{blocks}    logits = x |> layer_norm |> dense(256)
    loss ce = cross_entropy(logits, then)
    output next = softmax(logits)
}}
train {{ epochs 1; minimize ce with adam }}
"#
    )
}

/// Times parsing (with resolving) and checking.
fn time(text: &str) -> (Duration, Duration) {
    let start = Instant::now();
    let (project, found) = Project::parse("bench.nn", text);
    let parsed = start.elapsed();
    assert!(found.is_empty(), "{}", found[0].render(&project.sources, false));
    let settings = Settings { total_steps: Some(1), ..Settings::default() };
    match check(&project, &settings) {
        Ok(_) => (parsed, start.elapsed() - parsed),
        Err(found) => panic!("{}", found[0].render(&project.sources, false)),
    }
}

fn main() {
    let (library, _) = time("model M { input x: f32[batch, 4]; output x }\n");
    println!("first parse of a process, the library included: {library:.1?}");
    for (name, text) in [("a thousand lines", thousand_lines()), ("200 transformer blocks", transformer_blocks())] {
        let mut samples: Vec<(Duration, Duration)> = (0..SAMPLES).map(|_| time(&text)).collect();
        samples.sort_by_key(|(parsed, checked)| *parsed + *checked);
        let (parsed, checked) = samples[SAMPLES / 2];
        let lines = text.lines().count();
        println!("{name} ({lines} lines): parse {parsed:.1?}, check {checked:.1?}, together {:.1?}", parsed + checked);
    }
}
