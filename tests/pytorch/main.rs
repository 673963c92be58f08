//! Against PyTorch, JAX and Keras: training steps, operations with their gradients, losses, layers, optimizers and derivatives of derivatives, from
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

#[test]
fn layers_are_keras() {
    cases::check("keras/layers");
}
