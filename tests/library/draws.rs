//! Augmentation while it trains: what is drawn is drawn for each image, and is what its layer says.

use super::example::compile;
use nnc::Session;
use nnc::driver::JitOptions;

const ROWS: usize = 64;

/// The metrics of some training steps of a model of images [batch, 6, 5, 1], whose pixels count up from 0 and are 0..30 in each image.
fn metrics(body: &str) -> Vec<Vec<(String, f64)>> {
    let source = format!(
        "model M {{
            input x: f32[batch, 6, 5, 1]
            target t: f32[batch, 1]
            {body}
            loss l = mse(x |> flatten |> dense(1), t)
        }}
        train {{ minimize l with sgd(lr=1e-6); batch {ROWS} }}"
    );
    let compiled = compile(&source).unwrap_or_else(|e| panic!("{e}\n{source}"));
    let mut session: Session = compiled.jit_with(JitOptions { threads: 1 }).unwrap_or_else(|e| panic!("{e}"));
    let x: Vec<f32> = (0..ROWS * 30).map(|i| (i % 30) as f32).collect();
    let t = vec![0.0f32; ROWS];
    let step = |_| {
        let report = session.train_step(&[("x", (&x).into()), ("t", (&t).into())]).unwrap_or_else(|e| panic!("{e}"));
        report.metrics
    };
    (0..4).map(step).collect()
}

/// Holds every metric of every step between bounds that are given for its name.
fn hold(body: &str, bounds: &[(&str, f64, f64)]) {
    for report in metrics(body) {
        assert_eq!(report.len(), bounds.len(), "{report:?}");
        for ((name, value), (expected, low, high)) in report.iter().zip(bounds) {
            assert_eq!(name, expected);
            assert!(low <= value && value <= high, "{name} is {value}, not in {low}..{high}\n{body}");
        }
    }
}

#[test]
fn flips_are_drawn_for_each_image() {
    hold(
        "y = random_flip(x, \"horizontal\")
         same = f32(all(y == x, axis=[1, 2, 3]))
         turned = f32(all(y == reverse(x, 2), axis=[1, 2, 3]))
         both = random_flip(x)
         corner = both[:, 0, 0, 0]
         metric either = mean(same + turned)
         metric share = mean(turned)
         metric corners = mean(f32(corner == 0 or corner == 4 or corner == 25 or corner == 29))
         metric spread = mean(f32(corner == 29))",
        &[("either", 1.0, 1.0), ("share", 0.2, 0.8), ("corners", 1.0, 1.0), ("spread", 0.05, 0.5)],
    );
}

#[test]
fn crops_are_parts_at_any_place() {
    hold(
        "y = random_crop(x, 4, 2)
         first = y[:, 0, 0, 0]
         metric part = mean(f32(y[:, 3, 1, 0] == first + 16))
         metric row = max(floor(first / 5)) - min(floor(first / 5))
         metric column = max(first % 5) - min(first % 5)",
        &[("part", 1.0, 1.0), ("row", 2.0, 2.0), ("column", 3.0, 3.0)],
    );
}

#[test]
fn shifts_and_turns_stay_within_their_factors() {
    hold(
        "down = random_shift(x, [0.5, 0.5], 0, fill_mode=\"constant\", fill_value=-1)
         right = random_shift(x, 0, [0.2, 0.2], fill_mode=\"nearest\")
         quarter = random_rotate(x[:, :5], [0.25, 0.25])
         little = random_rotate(x, 0.01)
         metric lower = mean(abs(down[:, 3:] - x[:, :3]))
         metric filled = mean(down[:, :3])
         metric later = mean(abs(right[:, :, 1:] - x[:, :, :4]))
         metric edge = mean(abs(right[:, :, 0] - x[:, :, 0]))
         metric counterclockwise = mean(abs(quarter - reverse(transpose(x[:, :5], [0, 2, 1, 3]), 1)))
         metric moved = max(abs(little - x)[:, 2:4, 2])
         metric differs = std(little[:, 0, 4, 0])",
        &[
            ("lower", 0.0, 1e-5),
            ("filled", -1.0, -1.0),
            ("later", 0.0, 1e-5),
            ("edge", 0.0, 1e-5),
            ("counterclockwise", 0.0, 1e-4),
            ("moved", 0.001, 0.1),
            ("differs", 0.01, 1.0),
        ],
    );
}

#[test]
fn cutouts_have_their_size() {
    hold(
        "y = cutout(x + 1, [2, 3])
         gone = sum(f32(y == 0), axis=[1, 2, 3])
         metric most = max(gone)
         metric least = min(gone)
         metric rest = mean(f32(y == 0 or y == x + 1))",
        &[("most", 6.0, 6.0), ("least", 2.0, 4.0), ("rest", 1.0, 1.0)],
    );
}

#[test]
fn brightness_and_contrast_are_one_number_an_image() {
    hold(
        "brighter = random_brightness(x, 0.1, value_range=[-100, 100])
         delta = brighter - x
         stronger = random_contrast(x, 0.5, value_range=[-100, 100])
         factor = (stronger[:, 5, 4, 0] - stronger[:, 0, 0, 0]) / 29
         cut = random_brightness(x, [0.5, 0.5], value_range=[0, 20])
         metric largest = max(abs(delta))
         metric within = max(std(delta, axis=[1, 2, 3]))
         metric between = std(delta[:, 0, 0, 0])
         metric middle = max(abs(mean(stronger, axis=[1, 2, 3]) - 14.5))
         metric low = min(factor)
         metric high = max(factor)
         metric top = max(cut)",
        &[
            ("largest", 10.0, 20.0),
            ("within", 0.0, 1e-3),
            ("between", 5.0, 18.0),
            ("middle", 0.0, 1e-3),
            ("low", 0.5, 0.7),
            ("high", 1.3, 1.5),
            ("top", 20.0, 20.0),
        ],
    );
}

#[test]
fn mixtures_have_the_ratios_of_a_beta_distribution() {
    // Of Beta(a, a) the mean is 1/2 and the variance 1 / (8 a + 4): for 0.2 it is 0.179, for 1 it is 0.083, for 4 it is 0.028.
    let bounds = |variance: f64| (variance * 0.65, variance * 1.35);
    for (alpha, variance) in [(0.2, 0.1786), (1.0, 0.0833), (4.0, 0.0278)] {
        let (low, high) = bounds(variance);
        hold(
            &format!(
                "one = f32(iota(1024)) % 2
                 marks = reshape(one, [1024, 1])
                 a, b = mixup(marks, 3 * marks, alpha={alpha})
                 _, r = mixup(reshape(f32(iota(1024)), [1024, 1]), marks, alpha={alpha})
                 between = a[:, 0]
                 mixed = f32(between > 0 and between < 1)
                 ratios = sum(mixed * (between - 0.5)^2) / sum(mixed)
                 metric pairs = max(abs(b - 3 * a))
                 metric middle = mean(between)
                 metric variance = ratios
                 metric range = max(abs(r - 0.5))"
            ),
            &[("pairs", 0.0, 1e-5), ("middle", 0.45, 0.55), ("variance", low, high), ("range", 0.0, 0.5)],
        );
    }
}
