//! Every stage of a two-layer net as text, with its source: readable by a person, and stable.

use nnc::codegen::{Cpu, Target};
use nnc::driver::{Entry, Stage, compile};

const SOURCE: &str = "\
model Net {
    input  x: f32[batch, 4]
    target y: index(3)[batch]

    hidden = x |> dense(8) |> relu
    logits = hidden |> dense(3)

    output probs = softmax(logits)
    loss   ce    = cross_entropy(logits, y)
}

train {
    batch    2
    epochs   1
    minimize ce with sgd(lr=0.5)
}
";

fn dump(stage: Stage, entry: Entry) -> String {
    // A fixed machine, so that the text is the same everywhere.
    let target = Target { triple: "x86_64-unknown-linux-gnu".parse().unwrap(), cpu: Cpu::X86V3 };
    let compiled = compile("net.nn", SOURCE).unwrap_or_else(|e| panic!("{e}"));
    compiled.dump(stage, entry, 2, &target).unwrap_or_else(|e| panic!("{e}"))
}

macro_rules! stage {
    ($name:ident, $stage:ident, $entry:ident) => {
        #[test]
        fn $name() {
            let text = dump(Stage::$stage, Entry::$entry);
            insta::with_settings!({ omit_expression => true }, {
                insta::assert_snapshot!(format!("{SOURCE}\n==== {}\n\n{text}", stringify!($name)));
            });
        }
    };
}

stage!(ast, Ast, Infer);
stage!(graph_of_infer, Graph, Infer);
stage!(graph_of_train_step, Graph, TrainStep);
stage!(grad_of_train_step, Grad, TrainStep);
stage!(fused_infer, Fused, Infer);
stage!(fused_train_step, Fused, TrainStep);
stage!(loops_of_infer, Loops, Infer);
stage!(loops_of_train_step, Loops, TrainStep);
stage!(clif_of_infer, Clif, Infer);

/// Machine code changes with every release of the code generator, so only its kind is looked at.
#[test]
fn asm_of_infer() {
    let text = dump(Stage::Asm, Entry::Infer);
    assert!(text.contains("; kernel contract_add_max_2x8x4") && text.contains("vfmadd"), "{text}");
}
