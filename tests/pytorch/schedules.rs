//! Schedules against their closed forms: the rate of each step, read off a parameter with gradient 1.

use std::f64::consts::PI;

use nnc::driver::JitOptions;

/// A schedule as the library writes it, and its rate as a function of step and epoch, from 1.
type Schedule = (&'static str, fn(f64, f64) -> f64);

const SCHEDULES: [Schedule; 15] = [
    ("constant(0.5)", |_, _| 0.5),
    ("step_decay(0.5, every=2)", |_, e| 0.5 * 0.1f64.powf(((e - 1.0) / 2.0).floor())),
    ("step_decay(0.5, every=1, factor=0.5)", |_, e| 0.5 * 0.5f64.powf(e - 1.0)),
    ("exponential_decay(0.5, 10, 0.9)", |s, _| 0.5 * 0.9f64.powf((s - 1.0) / 10.0)),
    ("exponential_decay(0.5, 10, 0.9, staircase=true)", |s, _| 0.5 * 0.9f64.powf(((s - 1.0) / 10.0).floor())),
    ("inverse_time_decay(0.5, 4, 0.7)", |s, _| 0.5 / (1.0 + 0.7 * (s - 1.0) / 4.0)),
    ("inverse_time_decay(0.5, 4, 0.7, staircase=true)", |s, _| 0.5 / (1.0 + 0.7 * ((s - 1.0) / 4.0).floor())),
    ("polynomial_decay(0.5, 20)", |s, _| (0.5 - 1e-4) * (1.0 - ((s - 1.0) / 20.0).min(1.0)) + 1e-4),
    ("polynomial_decay(0.5, 20, end=0.1, power=2)", |s, _| 0.4 * (1.0 - ((s - 1.0) / 20.0).min(1.0)).powi(2) + 0.1),
    ("piecewise([5, 12], [0.5, 0.2, 0.1])", |s, _| {
        if s <= 5.0 {
            0.5
        } else if s <= 12.0 {
            0.2
        } else {
            0.1
        }
    }),
    ("linear_warmup(0.5, 8)", |s, _| 0.5 * (s / 8.0).min(1.0)),
    ("cosine(0.5, 20)", |s, _| 0.25 * (1.0 + (PI * (s / 20.0).clamp(0.0, 1.0)).cos())),
    ("cosine(0.5, 20, warmup=4, end=0.1)", |s, _| match s {
        s if s < 4.0 => 0.5 * s / 4.0,
        s => 0.1 + 0.2 * (1.0 + (PI * ((s - 4.0) / 16.0).clamp(0.0, 1.0)).cos()),
    }),
    ("one_cycle(0.5, 20)", |s, _| match s {
        s if s < 6.0 => 0.02 + 0.48 * s / 6.0,
        s => 2e-6 + (0.5 - 2e-6) * 0.5 * (1.0 + (PI * ((s - 6.0) / 14.0).clamp(0.0, 1.0)).cos()),
    }),
    ("0.5 / epoch + 0.01 * step", |s, e| 0.5 / e + 0.01 * s),
];

#[test]
fn schedules_are_their_closed_forms() {
    for (schedule, rate) in SCHEDULES {
        let source = format!(
            "model M {{\n    param w: f32[] = zeros\n    loss l = w\n}}\ntrain {{ steps 30; minimize l with sgd({schedule}) }}"
        );
        let compiled = nnc::compile("schedule.nn", &source).unwrap_or_else(|e| panic!("{schedule}: {e}"));
        let mut session = compiled.jit_with(JitOptions { threads: 1 }).unwrap();
        for step in 1..=30 {
            let epoch = 1 + (step - 1) / 6;
            session.set_epoch(epoch);
            session.set_parameter("w", &[0.0f32]).unwrap();
            session.train_step(&[]).unwrap_or_else(|e| panic!("{schedule}: {e}"));
            let found = -session.parameter("w").expect("the model has it").to_f64()[0];
            let wanted = rate(f64::from(step), f64::from(epoch));
            assert!(
                (found - wanted).abs() <= 1e-6 * wanted.abs() + 5e-8,
                "{schedule}, step {step}: {found}, not {wanted}"
            );
        }
    }
}
