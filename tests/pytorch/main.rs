//! Against PyTorch and JAX: training steps, operations with their gradients, losses, optimizers and derivatives of derivatives, from
//! fixtures that scripts made.

mod cases;
mod doubles;
mod optimizers;
mod schedules;
mod training;

#[test]
fn operations_are_pytorchs() {
    cases::check("pytorch/operations");
}

#[test]
fn losses_are_pytorchs() {
    cases::check("pytorch/loss_functions");
}

#[test]
fn derivatives_of_derivatives_are_jaxs() {
    cases::check("jax/second_order");
}
