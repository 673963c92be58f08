//! Entry points: from a checked model to the functions init, infer, eval and train_step.
