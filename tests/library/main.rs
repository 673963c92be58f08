//! The standard library: every item says what it is, and its example runs and gives the numbers that it claims.

mod comment;
mod draws;
mod example;

use comment::Comment;
use nnc::frontend::ast::Item;
use nnc::frontend::library::items;

/// What every doc comment of the library has, beside its sentences and its example.
const LABELS: [&str; 3] = ["Equation", "Shapes", "Source"];

/// The documented items of the library: file, name, comment. Those without are internal to it.
fn documented() -> impl Iterator<Item = (&'static str, String, Comment)> {
    items().filter_map(|(file, item)| {
        let (name, doc) = match item {
            Item::Function(d) | Item::Model(d) | Item::Optimizer(d) => (&d.name, &d.doc),
            Item::Const { name, doc, .. } => (name, doc),
            Item::Use { .. } | Item::Data(_) | Item::Train(_) => return None,
        };
        Some((file, name.text.to_string(), Comment::parse(doc.as_deref()?)))
    })
}

#[test]
fn every_item_has_an_equation_shapes_a_source_and_an_example() {
    let mut wrong = Vec::new();
    for (file, name, comment) in documented() {
        let missing = LABELS.iter().filter(|label| comment.labelled(label).is_none_or(str::is_empty));
        wrong.extend(missing.map(|label| format!("{file}: `{name}` has no line `{label}: ...`")));
        if comment.text.is_empty() {
            wrong.push(format!("{file}: `{name}` is not described"));
        }
        if comment.examples.len() != 1 {
            wrong.push(format!("{file}: `{name}` has {} examples", comment.examples.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The names of the language's library, but for the metrics of whole sets and the schedules that depend on them.
const NAMES: [&str; 14] = [
    "dense embedding conv1d conv2d conv3d depthwise_conv2d separable_conv2d conv_transpose2d max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d",
    "global_avg_pool2d global_max_pool2d upsample2d flatten dropout gaussian_noise batch_norm layer_norm group_norm rms_norm rnn lstm gru bidirectional",
    "time_distributed attention multi_head_attention transformer_encoder transformer_decoder positional_encoding maxout highway residual prelu rbf graph_conv",
    "identity step sigmoid tanh arctan relu leaky_relu elu selu softplus softsign gelu silu mish hard_sigmoid softmax log_softmax",
    "mse mae huber cross_entropy binary_cross_entropy nll kl_divergence gaussian_kl hinge cosine_similarity poisson contrastive",
    "l1 l2 elastic_net weights hessian_vector",
    "sgd momentum adagrad adadelta rmsprop adam adamw adamax nadam lion",
    "constant step_decay exponential_decay inverse_time_decay polynomial_decay piecewise cosine linear_warmup one_cycle",
    "zeros ones constant uniform normal truncated_normal glorot_uniform glorot_normal he_uniform he_normal lecun_uniform lecun_normal orthogonal eye",
    "accuracy top_k_accuracy perplexity mse mae",
    "random_flip random_crop random_rotate random_shift cutout mixup random_brightness random_contrast",
    "ode_euler ode_rk4 ode_dopri5",
    "norm var std logsumexp clip square bernoulli permutation pi",
    "expand_dims squeeze swapaxes moveaxis broadcast_to diag trace roll tril triu",
];

#[test]
fn every_name_of_the_language_is_there() {
    let primitives = nnc::ir::ops::primitives();
    let mut known: Vec<String> = documented().map(|(_, name, _)| name).collect();
    known.extend(primitives.iter().map(|p| p.name.to_owned()));
    let missing: Vec<&str> =
        NAMES.iter().flat_map(|names| names.split(' ')).filter(|name| !known.iter().any(|k| k == name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Runs the examples of one file.
fn run_examples_of(file: &str) {
    let mut failures = Vec::new();
    for (_, name, comment) in documented().filter(|(own, ..)| *own == file) {
        for example in &comment.examples {
            failures.extend(example::run(example).err().map(|e| format!("`{name}`: {e}\n{example}\n")));
        }
    }
    assert!(failures.is_empty(), "{file}: {} examples fail\n{}", failures.len(), failures.join("\n"));
}

/// A test for each file of the library, and one that no file is left out.
macro_rules! files {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { run_examples_of(concat!(stringify!($name), ".nn")); })*

        #[test]
        fn every_file_is_run() {
            let run = [$(concat!(stringify!($name), ".nn")),*];
            let all: Vec<&str> = nnc::frontend::library::FILES.iter().map(|(name, _)| *name).collect();
            assert_eq!(run.as_slice(), all.as_slice());
        }
    };
}

files!(
    math,
    arrays,
    activations,
    initializers,
    layers,
    attention,
    convolution,
    pooling,
    recurrent,
    losses,
    regularizers,
    metrics,
    optimizers,
    schedules,
    augmentation,
    solvers,
);
