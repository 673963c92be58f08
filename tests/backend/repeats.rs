//! Programs whose steps repeat: sections that move, rounds in both directions, tables of pointers.

use nnc::codegen::backends;
use nnc::ir::loops::*;

use crate::common::{Random, arguments, assert_same, call};

/// `add` adds a row of `x` and the number of the round to `y`, in parallel; `copy` copies 4 elements.
const KERNELS: &str = "
  kernel add
    read x: f32[8]
    read n: i32[1]
    update y: f32[8]
    parallel i0 in 0..8 grain 3
    %0: f32 = load x[i0]
    %1: i32 = load n[0]
    %2: f32 = convert %1
    %3: f32 = load y[i0]
    %4: f32 = fma %3, %2, %0
    store y[i0] = %4
  end
  kernel copy
    read x: f32[4]
    write y: f32[4]
    lanes i0 in 0..4 {
      %0: f32 = load x[i0]
      store y[i0] = %0
    }
  end";

/// A program over `x: f32[6, 4, 8]`, a sum `y: f32[8]` and a log `z: f32[24, 8]` with these steps.
fn program(steps: &str) -> Program {
    let text = format!(
        "program p pointers 3 arena 64
  buffer 0 x: f32[192] argument 0
  buffer 1 y: f32[8] argument 1
  buffer 2 z: f32[192] argument 2
  buffer 3 n: i32[1] arena 0
  buffer 4 c: f32[4] constant \"0000803f000000400000404000008040\"{KERNELS}
{steps}
end
"
    );
    text::parse_program(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn runs(steps: &str) {
    let program = program(steps);
    verify::program(&program).unwrap();
    let printed = text::program(&program);
    assert_eq!(text::program(&text::parse_program(&printed).unwrap()), printed);
    let loaded = backends()[0].jit(std::slice::from_ref(&program)).unwrap();
    let first = arguments(&program, &mut Random(11));
    let mut want = first.clone();
    interpret::program(&program, &mut want).unwrap();
    for threads in [None, Some(3)] {
        let pool = threads.map(nn_rt::Pool::new);
        let mut got = first.clone();
        call(&*loaded, &program, &mut got, pool.as_ref());
        assert_same(&program, &got, &want);
    }
}

const NESTED: &str = "  repeat i0 in 0..6 backwards {
    index 3 = 4*i0 - 3
    call 0 (0[32*i0 + 8], 3, 1)
    repeat i1 in 0..4 {
      index 3 = i0 + 2*i1
      call 0 (0[32*i0 - 8*i1 + 24], 3, 1)
      call 1 (1[4], 2[32*i0 + 8*i1])
      call 1 (4, 2[32*i0 + 8*i1 + 4])
    }
  }";

#[test]
fn rounds_run_in_order_on_sections_that_move() {
    runs(NESTED);
    runs("  repeat i0 in 0..0 {\n    index 3 = i0\n    call 0 (0[1000*i0 + 1000], 3, 1)\n  }\n  call 1 (4, 2[188])");
    runs("  repeat i0 in 0..1 {\n    call 1 (4, 1[4*i0])\n  }\n  repeat i1 in 0..24 {\n    call 1 (4, 2[8*i1])\n  }");
}

#[test]
fn a_body_of_many_calls_shares_a_table() {
    let call = |n: usize| format!("    index 3 = {n}\n    call 0 (0[32*i0 + {}], 3, 1)\n", n % 24);
    let body: String = (0..200).map(call).collect();
    runs(&format!("  repeat i0 in 0..5 {{\n{body}  }}"));
}

#[test]
fn sections_are_verified() {
    for (from, to, message) in [
        ("0[32*i0 + 8]", "0[32*i0 + 25]", "passes too small a buffer for `x`"),
        ("0[32*i0 + 8]", "0[32*i0 - 1]", "passes too small a buffer for `x`"),
        ("0[32*i0 + 8]", "0[8*i1]", "an offset uses a variable out of scope"),
        ("repeat i1", "repeat i0", "variable 0 belongs to two repeats"),
        ("call 1 (1[4], 2[32*i0 + 8*i1])", "call 1 (2[32*i0], 2[32*i0 + 3])", "passes one memory for `x` and `y`"),
        ("call 1 (4, ", "call 1 (4[1], ", "passes too small a buffer for `x`"),
        ("index 3 = i0", "index 1 = i0", "an index is stored as f32"),
        ("call 1 (4, 2[32*i0 + 8*i1 + 4])", "call 1 (1, 4)", "writes the constant `y`"),
    ] {
        let steps = NESTED.replacen(from, to, 1);
        assert_ne!(steps, NESTED, "{from}");
        let error = verify::program(&program(&steps)).unwrap_err().to_string();
        assert!(error.contains(message), "{to}: {error}");
    }
    verify::program(&program(&NESTED.replace("call 1 (1[4], 2[32*i0 + 8*i1])", "call 1 (2[32*i0], 2[32*i0 + 4])")))
        .unwrap();
}
