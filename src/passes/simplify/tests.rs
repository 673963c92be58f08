//! Each rule on the graph text it is about, and all of them against the interpreter.

use super::PASS;
use crate::ir::{text, verify};
use crate::passes::{cse, dce};

/// What is left of the last node of a graph: two arguments `x: f32[4, 3]` and `y: f32[3, 4]` are `%0` and `%1`.
fn simplified(nodes: &[&str]) -> Vec<String> {
    let mut source = String::from(
        "function f
         argument x: input f32[4, 3]
         argument y: input f32[3, 4]
         %0 = argument() index=0 dtype=f32 shape=[4, 3] : f32[4, 3]
         %1 = argument() index=1 dtype=f32 shape=[3, 4] : f32[3, 4]\n",
    );
    for (i, node) in nodes.iter().enumerate() {
        source += &format!("%{} = {node}\n", i + 2);
    }
    source += &format!("result z: output = %{}\n", nodes.len() + 1);
    let mut function = text::parse(&source).unwrap();
    for pass in [PASS, cse::PASS, dce::PASS] {
        function = pass.apply(&function).unwrap();
        verify::function(&function).unwrap();
    }
    let printed = function.to_string();
    let lines = printed.lines().map(str::trim).filter(|l| l.starts_with('%') && !l.contains("argument()"));
    lines.map(|l| l.split_once(" = ").unwrap().1.to_string()).collect()
}

const ONE: &str = "constant() value=1.0 dtype=f32 shape=[4, 3] : f32[4, 3]";
const ZERO: &str = "constant() value=0.0 dtype=f32 shape=[4, 3] : f32[4, 3]";
const FOUR: &str = "constant() value=4.0 dtype=f32 shape=[4, 3] : f32[4, 3]";

#[test]
fn neutral_elements() {
    for (constant, function) in [(ZERO, "add"), (ZERO, "sub"), (ONE, "mul"), (ONE, "div"), (ONE, "pow")] {
        assert!(simplified(&[constant, &format!("map(%0, %2) function={function} : f32[4, 3]")]).is_empty());
    }
    let product = "map(%0, %2) function=mul : f32[4, 3]";
    assert_eq!(simplified(&[ZERO, product]), [ZERO, "map(%0, %1) function=mul : f32[4, 3]"]);
}

#[test]
fn negations() {
    let neg = |v: &str| format!("map({v}) function=neg : f32[4, 3]");
    assert!(simplified(&[&neg("%0"), &neg("%2")]).is_empty());
    let sum = simplified(&[&neg("%0"), "map(%0, %2) function=add : f32[4, 3]"]);
    assert_eq!(sum, ["map(%0, %0) function=sub : f32[4, 3]"]);
}

#[test]
fn powers_and_quotients() {
    let two = "constant() value=2.0 dtype=f32 shape=[4, 3] : f32[4, 3]";
    let three = "constant() value=3.0 dtype=f32 shape=[4, 3] : f32[4, 3]";
    assert_eq!(simplified(&[two, "map(%0, %2) function=pow : f32[4, 3]"]), ["map(%0, %0) function=mul : f32[4, 3]"]);
    let quarter = "constant() value=0.25 dtype=f32 shape=[4, 3] : f32[4, 3]";
    let quotient = "map(%0, %2) function=div : f32[4, 3]";
    assert_eq!(simplified(&[FOUR, quotient])[0], quarter);
    assert_eq!(simplified(&[three, quotient]), [three, "map(%0, %1) function=div : f32[4, 3]"]);
}

#[test]
fn constants_fold_as_at_run_time() {
    let tenth = "constant() value=0.1 dtype=f32 shape=[] : f32[]";
    let folded = simplified(&[tenth, "map(%2, %2) function=add : f32[]"]);
    let value = f64::from(0.1f32 + 0.1f32);
    assert_eq!(folded, [format!("constant() value={value:?} dtype=f32 shape=[] : f32[]")]);
    let spread =
        simplified(&[tenth, "broadcast(%2) shape=[2] axes=[] : f32[2]", "reduce(%3) monoid=sum axes=[0] : f32[]"]);
    assert_eq!(spread, [format!("constant() value={value:?} dtype=f32 shape=[] : f32[]")]);
}

#[test]
fn moves_join() {
    let flat = "reshape(%0) shape=[12] : f32[12]";
    assert_eq!(simplified(&[flat, "reshape(%2) shape=[2, 6] : f32[2, 6]"]), ["reshape(%0) shape=[2, 6] : f32[2, 6]"]);
    assert!(simplified(&[flat, "reshape(%2) shape=[4, 3] : f32[4, 3]"]).is_empty());
    let turned = "transpose(%0) permutation=[1, 0] : f32[3, 4]";
    assert!(simplified(&[turned, "transpose(%2) permutation=[1, 0] : f32[4, 3]"]).is_empty());
    let product = "contract(%2, %1) left=[0, 1] right=[2, 1] result=[0, 2] : f32[3, 3]";
    assert_eq!(simplified(&[turned, product]), ["contract(%0, %1) left=[2, 0] right=[1, 2] result=[0, 1] : f32[3, 3]"]);
    let back = "slice(%0) starts=[3, 0] sizes=[4, 3] steps=[-1, 1] : f32[4, 3]";
    assert!(simplified(&[back, "slice(%2) starts=[3, 0] sizes=[4, 3] steps=[-1, 1] : f32[4, 3]"]).is_empty());
    let joined = "concat(%0, %0) axis=0 : f32[8, 3]";
    let part = "slice(%2) starts=[5, 0] sizes=[2, 3] steps=[1, 1] : f32[2, 3]";
    assert_eq!(simplified(&[joined, part]), ["slice(%0) starts=[1, 0] sizes=[2, 3] steps=[1, 1] : f32[2, 3]"]);
}

#[test]
fn pads_join_and_sums_leave_their_zeros_out() {
    let pad = |of: &str, low: usize, value: &str, rows: usize| {
        format!("pad({of}) low=[{low}, 0] high=[1, 0] interior=[0, 0] value={value} : f32[{rows}, 3]")
    };
    let inner = pad("%0", 0, "0.0", 5);
    let joined = "pad(%0) low=[2, 0] high=[2, 0] interior=[0, 0] value=0.0 : f32[8, 3]";
    assert_eq!(simplified(&[&inner, &pad("%2", 2, "0.0", 8)]), [joined]);
    let other = pad("%2", 2, "1.0", 8);
    assert_eq!(simplified(&[&inner, &other]).len(), 2);
    let columns = "reduce(%0) monoid=sum axes=[0] : f32[3]";
    assert_eq!(simplified(&[&inner, "reduce(%2) monoid=sum axes=[0] : f32[3]"]), [columns]);
    assert_eq!(simplified(&[&inner, "reduce(%2) monoid=max axes=[0] : f32[3]"]).len(), 2);
    assert_eq!(simplified(&[&inner, "reduce(%2) monoid=sum axes=[1] : f32[5]"]).len(), 2);
}

#[test]
fn broadcasts_move_out_and_unit_axes_go() {
    let row = "reduce(%0) monoid=sum axes=[1] : f32[4]";
    let kept = "reshape(%2) shape=[4, 1] : f32[4, 1]";
    let spread = "broadcast(%3) shape=[4, 3] axes=[0, 1] : f32[4, 3]";
    let straight = "broadcast(%1) shape=[4, 3] axes=[0] : f32[4, 3]";
    assert_eq!(simplified(&[row, kept, spread])[1], straight);
    let exp = simplified(&[row, kept, spread, "map(%4) function=exp : f32[4, 3]"]);
    assert_eq!(exp[1], "map(%1) function=exp : f32[4]");
    let sum = simplified(&[row, kept, spread, "reduce(%4) monoid=sum axes=[1] : f32[4]"]);
    assert_eq!(sum[2], "map(%1, %2) function=mul : f32[4]");
}

#[test]
fn functions_of_merged_axes_are_computed_before_the_merge() {
    let turned = "transpose(%0) permutation=[1, 0] : f32[3, 4]";
    let merged = "reshape(%2) shape=[12] : f32[12]";
    let other = "reshape(%1) shape=[12] : f32[12]";
    let sum = "map(%3, %4) function=add : f32[12]";
    let expected = [turned, "map(%2, %1) function=add : f32[3, 4]", "reshape(%3) shape=[12] : f32[12]"];
    assert_eq!(simplified(&[turned, merged, other, sum]), expected);
}

#[test]
fn integer_division_by_powers_of_two_becomes_shifts() {
    let of = |dtype: &str, nodes: &[&str]| {
        let given = format!("cast(%0) dtype={dtype} : {dtype}[4, 3]");
        let constant = format!("constant() value=8.0 dtype={dtype} shape=[4, 3] : {dtype}[4, 3]");
        let nodes: Vec<String> = nodes.iter().map(|n| format!("{n} : {dtype}[4, 3]")).collect();
        let all: Vec<&str> =
            [given.as_str(), constant.as_str()].into_iter().chain(nodes.iter().map(String::as_str)).collect();
        simplified(&all).last().unwrap().clone()
    };
    assert!(of("u32", &["map(%2, %3) function=div"]).contains("function=shift_right"));
    assert!(of("i32", &["map(%2, %3) function=div"]).contains("function=div"));
    assert!(of("i32", &["map(%2, %3) function=mod"]).contains("function=and"));
    let floor_div = ["map(%2, %3) function=mod", "map(%2, %4) function=sub", "map(%5, %3) function=div"];
    assert!(of("i32", &floor_div).contains("function=shift_right"));
}
