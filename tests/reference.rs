//! `nnc doc`: everything with a name has an entry, and the entries are printed and written as a page.

use std::collections::HashSet;
use std::process::{Command, Output};

use nnc::frontend::doc::{Kind, entries, find};

/// The library as the language promises it: what is written in `.nn` has its source, what the compiler knows itself its facts.
const PROMISED: &str = "
    dense embedding conv1d conv2d conv3d depthwise_conv2d separable_conv2d conv_transpose2d max_pool1d max_pool2d max_pool3d
    avg_pool1d avg_pool2d avg_pool3d global_avg_pool2d global_max_pool2d upsample2d flatten dropout gaussian_noise batch_norm
    layer_norm group_norm rms_norm rnn lstm gru bidirectional time_distributed attention multi_head_attention
    transformer_encoder transformer_decoder positional_encoding maxout highway residual prelu rbf graph_conv
    identity step sigmoid tanh arctan relu leaky_relu elu selu softplus softsign gelu silu mish hard_sigmoid softmax log_softmax
    mse mae huber cross_entropy binary_cross_entropy nll kl_divergence gaussian_kl hinge cosine_similarity poisson contrastive
    l1 l2 elastic_net weights
    sgd momentum adagrad adadelta rmsprop adam adamw adamax nadam lion
    constant step_decay exponential_decay inverse_time_decay polynomial_decay piecewise cosine linear_warmup one_cycle plateau
    zeros ones uniform normal truncated_normal glorot_uniform glorot_normal he_uniform he_normal lecun_uniform lecun_normal
    orthogonal eye
    accuracy top_k_accuracy precision recall f1 auc roc_curve confusion_matrix perplexity r2
    random_flip random_crop random_rotate random_shift cutout mixup random_brightness random_contrast
    ode_euler ode_rk4 ode_dopri5
    exp log log1p expm1 sqrt rsqrt sin cos tan atan atan2 erf abs sign floor ceil round min max pow mod select cast einsum
    sum mean prod argmax argmin any all cumsum sort topk reshape transpose broadcast concat split stack slice pad reverse tile
    gather scatter_add one_hot iota grad stop_gradient";

/// Names of [`PROMISED`] that may be missing in the library.
const LATER: &str = "
    group_norm attention multi_head_attention transformer_encoder transformer_decoder positional_encoding maxout rbf graph_conv
    plateau precision recall f1 auc roc_curve confusion_matrix r2
    random_flip random_crop random_rotate random_shift cutout mixup random_brightness random_contrast
    ode_euler ode_rk4 ode_dopri5";

#[test]
fn every_promised_name_says_what_it_is() {
    let later: HashSet<&str> = LATER.split_whitespace().collect();
    for name in PROMISED.split_whitespace() {
        let found = find(entries(), name);
        assert!(!found.is_empty() || later.contains(name), "the reference has no `{name}`");
        for entry in found {
            assert!(!entry.summary.is_empty(), "{name}");
            assert!(entry.source.is_some() || !entry.facts.is_empty() || entry.kind >= Kind::CompileTime, "{entry:?}");
        }
    }
}

fn nnc(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nnc")).args(arguments).env("COLUMNS", "100").output().expect("nnc can be started")
}

fn printed(arguments: &[&str]) -> String {
    let output = nnc(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("nnc prints UTF-8")
}

/// A layer whose comment has everything that a comment may have.
const DOCUMENTED: &str = "\
/// Half of x, or of so many: y = x / 2. A second sentence,
/// which goes on.
/// Shapes: `x: [.., n]` gives `y: [.., n]`
///
/// - `n`: into how many parts, which may take more than one line if there is as much to say about it as there is here
/// - `bias`: not used
///
/// ```nn fragment
/// y = x |> half(n=2)
/// ```
layer half(
    x: float[.., n], parts = 2 // two by default
) {
    return x / parts
}
";

#[test]
fn an_entry_is_shown_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("half.nn"), DOCUMENTED).expect("it can be written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_nnc"));
    let shown = command.args(["doc", "half.nn"]).env("COLUMNS", "80").current_dir(folder.path()).output();
    let shown = String::from_utf8(shown.expect("nnc can be started").stdout).expect("nnc prints UTF-8");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots/reference");
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| {
        insta::assert_snapshot!("half", shown);
        insta::assert_snapshot!("sqrt", printed(&["doc", "sqrt"]));
    });
}

#[test]
fn a_layer_is_shown_with_its_source() {
    let shown = printed(&["doc", "dense"]);
    let entry = find(entries(), "dense")[0];
    assert!(shown.contains(&entry.signature) && shown.contains("(layer in <std>/layers.nn:"), "{shown}");
    for line in entry.source.as_deref().expect("dense is written in .nn").lines() {
        assert!(shown.contains(&format!("    {line}\n")), "{line}");
    }
    assert!(printed(&["doc", "dense", "--color", "always"]).contains("\x1b[35mlayer\x1b[0m"));
}

#[test]
fn the_list_has_every_name_in_one_line() {
    let list = printed(&["doc"]);
    for entry in entries() {
        let lines = list.lines().filter(|line| line.starts_with(&format!("  {} ", entry.name)));
        let twins = find(entries(), &entry.name).len();
        assert_eq!(lines.count(), twins, "{}", entry.name);
    }
    assert!(list.lines().all(|line| line.chars().count() <= 100));
}

#[test]
fn programs_get_the_same_entries() {
    let found = {
        let line = printed(&["doc", "dense", "--json"]);
        let object: serde_json::Value = serde_json::from_str(&line).expect("one object");
        assert_eq!((&object["event"], &object["kind"]), (&"doc".into(), &"layer".into()));
        let entry = find(entries(), "dense")[0].clone();
        assert_eq!(object["source"].as_str(), entry.source.as_deref());
        entry
    };
    assert_eq!(printed(&["doc", "--json"]).lines().count(), entries().len());
    assert!(found.place.is_some_and(|place| place.file == "<std>/layers.nn" && place.line > 1));
}

#[test]
fn a_name_that_is_not_there_is_told_with_those_like_it() {
    let output = nnc(&["doc", "convolution"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no `convolution`") && said.contains("conv1d"), "{said}");
    assert_eq!(nnc(&["doc", "a.nn", "--file", "b.nn"]).status.code(), Some(2));
}

#[test]
fn a_file_of_ones_own_is_documented_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("own.nn");
    let text = "/// Twice x.\nfn twice(x) { 2 * x }\n\n/// Mine.\nlayer dense(x) { x }\nconst n = 3\n";
    std::fs::write(&path, text).expect("it can be written");
    let path = path.to_str().expect("a path in UTF-8");
    let own = printed(&["doc", path]);
    assert!(own.contains("twice (function in ") && own.contains("Twice x.") && own.contains("n = 3"), "{own}");
    let both = printed(&["doc", "dense", "--file", path]);
    assert!(both.contains("Mine.") && both.contains("Fully connected"), "{both}");
    std::fs::write(folder.path().join("own.nn"), "fn twice(x { 2 * x }").expect("it can be written");
    assert_eq!(nnc(&["doc", path]).status.code(), Some(1));
}

#[test]
fn the_page_has_every_entry_once_and_needs_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("reference.html");
    printed(&["doc", "--html", path.to_str().expect("a path in UTF-8")]);
    let page = std::fs::read_to_string(&path).expect("the page was written");
    let ids: Vec<&str> = page.split("<article id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(ids.len(), entries().len());
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "anchors are unique");
    let markup = page.split("<script>").next().unwrap_or("");
    for target in markup.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()).filter(|t| !t.is_empty()) {
        assert!(ids.contains(&target), "{target} leads nowhere");
    }
    for outside in ["http://", "https://", "src=", "<link", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
}
