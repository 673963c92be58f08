//! What the language's functions make of their arguments, against NumPy's answers; and the errors a user sees.

use super::*;
use crate::ir::graph::{Function, FunctionResult, ResultRole};
use crate::ir::interpret;
use crate::ir::ops::literal::Literal;
use crate::ir::ops::{TypeError, primitives};
use crate::ir::tensor::Tensor;
use crate::ir::types::TensorType;

/// A graph of literals and the functions called on them.
#[derive(Default)]
struct Sheet {
    builder: GraphBuilder,
}

fn int(value: i64) -> Option<Argument> {
    Some(Argument::Int(Dim::from(value)))
}

fn ints(values: &[i64]) -> Option<Argument> {
    Some(Argument::List(values.iter().map(|v| Argument::Int(Dim::from(*v))).collect()))
}

fn tensor(value: ValueId) -> Option<Argument> {
    Some(Argument::Tensor(value))
}

fn text(value: &str) -> Option<Argument> {
    Some(Argument::Text(value.into()))
}

fn tensors(values: &[ValueId]) -> Option<Argument> {
    Some(Argument::List(values.iter().map(|v| Argument::Tensor(*v)).collect()))
}

impl Sheet {
    fn literal(&mut self, dtype: DType, shape: &[usize], values: &[f64]) -> ValueId {
        let values = values.iter().map(|v| v.to_bits()).collect();
        self.builder.emit(Literal { values, dtype, shape: shape.to_vec() }, &[])
    }

    /// 0, 1, 2, .. in f32.
    fn counted(&mut self, shape: &[usize]) -> ValueId {
        let values: Vec<f64> = (0..shape.iter().product::<usize>()).map(|i| i as f64).collect();
        self.literal(DType::F32, shape, &values)
    }

    fn symbolic(&mut self, dims: &[&str]) -> ValueId {
        let shape = dims.iter().map(|d| d.parse::<i64>().map_or_else(|_| Dim::symbol(*d), Dim::from)).collect();
        let index = self.builder.graph().len() as u32;
        self.builder.argument(index, TensorType { dtype: DType::F32, shape })
    }

    fn call(&mut self, name: &str, values: Vec<Option<Argument>>) -> Result<Vec<ValueId>, TypeError> {
        let primitive = primitives().into_iter().find(|p| p.name == name).expect("the primitive exists");
        (primitive.build)(&mut self.builder, &PrimitiveArguments::new(values))
    }

    fn value(&mut self, name: &str, values: Vec<Option<Argument>>) -> Tensor {
        let value = self.call(name, values).unwrap_or_else(|e| panic!("{name}: {e}"))[0];
        let results = vec![FunctionResult { name: "y".into(), role: ResultRole::Output, value }];
        let graph = self.builder.graph().clone();
        let function = Function { name: "sheet".into(), arguments: Vec::new(), graph, results };
        interpret::run(&function, &[]).unwrap().remove(0)
    }

    fn type_of(&mut self, name: &str, values: Vec<Option<Argument>>) -> String {
        let value = self.call(name, values).unwrap_or_else(|e| panic!("{name}: {e}"))[0];
        self.builder.type_of(value).to_string()
    }

    fn error(&mut self, name: &str, values: Vec<Option<Argument>>) -> String {
        let error = self.call(name, values).expect_err("the call is wrong");
        std::iter::once(error.message).chain(error.notes).collect::<Vec<_>>().join("; ")
    }
}

#[test]
fn names_are_there_once() {
    let mut names: Vec<&str> = primitives().iter().map(|p| p.name).collect();
    names.sort_unstable();
    let before = names.len();
    names.dedup();
    assert_eq!(names.len(), before);
    for word in ["add", "floor_div", "less_equal", "matmul", "max", "einsum", "grad", "random_bits", "one_hot", "mean"]
    {
        assert!(names.contains(&word), "{word}");
    }
    for hidden in ["fma", "xor", "mul_high"] {
        assert!(!names.contains(&hidden), "{hidden}");
    }
}

#[test]
fn literals_take_the_dtype_of_the_tensor() {
    let mut s = Sheet::default();
    let bytes = s.literal(DType::U8, &[2], &[1.0, 2.0]);
    assert_eq!(s.value("add", vec![tensor(bytes), int(3)]).data, [4.0, 5.0]);
    assert_eq!(
        s.error("mul", vec![Some(Argument::Float(0.5)), tensor(bytes)]),
        "the float 0.5 meets a tensor of u8; a literal takes the tensor's dtype; convert the tensor first, with `f32(x)`"
    );
    assert_eq!(s.error("add", vec![tensor(bytes), int(300)]), "300 does not fit u8");
    assert_eq!(s.type_of("add", vec![int(1), int(2)]), "f32[]");
    let x = s.counted(&[2]);
    assert_eq!(
        s.error("add", vec![tensor(x), tensor(bytes)]),
        "`add` of f32 and u8: the dtypes differ; convert one of them, for example with `f32(..)`"
    );
    assert!(s.error("sqrt", vec![tensor(bytes)]).starts_with("`sqrt` takes a float tensor, found u8"));
    assert!(s.error("div", vec![tensor(bytes), int(2)]).starts_with("`/` of u8[2]; use `//`"));
}

#[test]
fn integers_divide_down_and_take_small_powers() {
    let mut s = Sheet::default();
    let x = s.literal(DType::I32, &[3], &[-7.0, 7.0, 8.0]);
    assert_eq!(s.value("floor_div", vec![tensor(x), int(2)]).data, [-4.0, 3.0, 4.0]);
    assert_eq!(s.value("mod", vec![tensor(x), int(4)]).data, [1.0, 3.0, 0.0]);
    assert_eq!(s.value("pow", vec![tensor(x), int(3)]).data, [-343.0, 343.0, 512.0]);
    assert!(s.error("pow", vec![tensor(x), int(-1)]).starts_with("`^` of i32[3]"));
}

#[test]
fn broadcasting_is_numpys() {
    let mut s = Sheet::default();
    let (a, b) = (s.counted(&[2, 3]), s.counted(&[3]));
    assert_eq!(s.value("add", vec![tensor(a), tensor(b)]).data, [0.0, 2.0, 4.0, 3.0, 5.0, 7.0]);
    let column = s.counted(&[2, 1]);
    assert_eq!(s.value("mul", vec![tensor(column), tensor(b)]).data, [0.0, 0.0, 0.0, 0.0, 1.0, 2.0]);
    let (x, y) = (s.symbolic(&["batch", "3"]), s.symbolic(&["n", "3"]));
    let error = s.error("add", vec![tensor(x), tensor(y)]);
    assert!(error.starts_with("`add` of f32[batch, 3] and f32[n, 3]: batch does not match n"), "{error}");
    let one = s.symbolic(&["1", "3"]);
    assert_eq!(s.type_of("add", vec![tensor(x), tensor(one)]), "f32[batch, 3]");
}

#[test]
fn max_is_elementwise_or_a_fold() {
    let mut s = Sheet::default();
    let x = s.literal(DType::F32, &[2, 2], &[-1.0, 2.0, 3.0, -4.0]);
    assert_eq!(s.value("max", vec![tensor(x), int(0)]).data, [0.0, 2.0, 3.0, 0.0]);
    assert_eq!(s.value("max", vec![tensor(x), None, int(-1)]).data, [2.0, 3.0]);
    assert_eq!(s.value("min", vec![tensor(x)]).data, [-4.0]);
    assert_eq!(s.type_of("max", vec![tensor(x), None, int(0), Some(Argument::Bool(true))]), "f32[1, 2]");
    assert!(s.error("max", vec![tensor(x), int(0), int(-1)]).contains("elementwise and takes no `axis`"));
}

#[test]
fn folds() {
    let mut s = Sheet::default();
    let x = s.counted(&[2, 3]);
    assert_eq!(s.value("sum", vec![tensor(x)]).data, [15.0]);
    assert_eq!(s.value("mean", vec![tensor(x), ints(&[-1, 0])]).data, [2.5]);
    assert_eq!(s.value("prod", vec![tensor(x), int(0)]).data, [0.0, 4.0, 10.0]);
    assert_eq!(s.value("argmax", vec![tensor(x)]).data, [5.0]);
    assert_eq!(s.value("argmin", vec![tensor(x), int(1)]).data, [0.0, 0.0]);
    let flags = s.literal(DType::Bool, &[2, 2], &[0.0, 1.0, 1.0, 1.0]);
    assert_eq!(s.value("any", vec![tensor(flags), int(0)]).data, [1.0, 1.0]);
    assert_eq!(s.value("all", vec![tensor(flags), int(1)]).data, [0.0, 1.0]);
    let none = s.literal(DType::Bool, &[0], &[]);
    assert_eq!(s.value("any", vec![tensor(none)]).data, [0.0]);
    assert_eq!(s.value("all", vec![tensor(none)]).data, [1.0]);
    assert!(s.error("sum", vec![tensor(x), int(2)]).starts_with("axis 2 is out of range for a tensor of 2 dims"));
    assert!(s.error("sum", vec![tensor(x), ints(&[0, -2])]).starts_with("axis 0 stands twice"));
}

#[test]
fn shapes() {
    let mut s = Sheet::default();
    let x = s.counted(&[2, 3]);
    assert_eq!(s.type_of("reshape", vec![tensor(x), ints(&[3, -1])]), "f32[3, 2]");
    assert_eq!(s.value("transpose", vec![tensor(x)]).data, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(s.value("reverse", vec![tensor(x), int(1)]).data, [2.0, 1.0, 0.0, 5.0, 4.0, 3.0]);
    assert_eq!(s.value("tile", vec![tensor(x), ints(&[1, 2])]).data[..6], [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]);
    assert_eq!(s.type_of("tile", vec![tensor(x), ints(&[2, 1, 2])]), "f32[2, 2, 6]");
    assert_eq!(s.value("stack", vec![tensors(&[x, x]), int(-1)]).data[..4], [0.0, 0.0, 1.0, 1.0]);
    assert_eq!(s.type_of("concat", vec![tensors(&[x, x]), int(-1)]), "f32[2, 6]");
    assert_eq!(s.type_of("pad", vec![tensor(x), int(1)]), "f32[4, 5]");
    let parts = s.call("split", vec![tensor(x), int(3), int(-1)]).unwrap();
    assert_eq!(parts.len(), 3);
    assert!(s.error("split", vec![tensor(x), int(2), int(1)]).contains("does not split into 2 equal parts"));
    let batch = s.symbolic(&["batch", "28", "28"]);
    assert_eq!(s.type_of("reshape", vec![tensor(batch), ints(&[-1, 784])]), "f32[batch, 784]");
    assert!(s.error("reshape", vec![tensor(batch), ints(&[-1, 5])]).contains("-1 has no size"));
}

#[test]
fn slices_are_pythons() {
    let mut s = Sheet::default();
    let x = s.counted(&[10]);
    let nothing = || Some(Argument::List(vec![Argument::Nothing]));
    assert_eq!(s.value("slice", vec![tensor(x), ints(&[-3])]).data, [7.0, 8.0, 9.0]);
    assert_eq!(s.value("slice", vec![tensor(x), ints(&[2]), ints(&[-1]), ints(&[3])]).data, [2.0, 5.0, 8.0]);
    assert_eq!(s.value("slice", vec![tensor(x), nothing(), nothing(), ints(&[-4])]).data, [9.0, 5.0, 1.0]);
    assert_eq!(s.value("slice", vec![tensor(x), ints(&[7]), ints(&[3]), ints(&[-2])]).data, [7.0, 5.0]);
    assert!(s.value("slice", vec![tensor(x), ints(&[5]), ints(&[2])]).data.is_empty());
    assert!(s.error("slice", vec![tensor(x), ints(&[2]), ints(&[50])]).starts_with("50 is out of range for axis 0"));
    assert_eq!(s.value("gather", vec![tensor(x), int(-1)]).data, [9.0]);
    assert!(s.error("gather", vec![tensor(x), int(10)]).starts_with("index 10 is out of range"));
    let index = s.literal(DType::Index { classes: 10 }, &[2], &[3.0, 1.0]);
    assert_eq!(s.value("gather", vec![tensor(x), tensor(index)]).data, [3.0, 1.0]);
    assert_eq!(s.type_of("one_hot", vec![tensor(index)]), "f32[2, 10]");
    let batch = s.symbolic(&["n", "4"]);
    assert_eq!(s.type_of("slice", vec![tensor(batch), ints(&[1])]), "f32[n - 1, 4]");
}

#[test]
fn products() {
    let mut s = Sheet::default();
    let (a, b, v) = (s.counted(&[2, 3]), s.counted(&[3, 2]), s.counted(&[3]));
    assert_eq!(s.value("matmul", vec![tensor(a), tensor(b)]).data, [10.0, 13.0, 28.0, 40.0]);
    assert_eq!(s.value("matmul", vec![tensor(a), tensor(v)]).data, [5.0, 14.0]);
    assert_eq!(s.value("matmul", vec![tensor(v), tensor(v)]).data, [5.0]);
    assert_eq!(s.value("einsum", vec![text("ij,jk->ki"), tensors(&[a, b])]).data, [10.0, 28.0, 13.0, 40.0]);
    assert_eq!(s.value("einsum", vec![text("ij,jk"), tensors(&[a, b])]).data, [10.0, 13.0, 28.0, 40.0]);
    assert_eq!(s.value("einsum", vec![text("ij->j"), tensors(&[a])]).data, [3.0, 5.0, 7.0]);
    assert_eq!(s.value("einsum", vec![text("i,j->ij"), tensors(&[v, v])]).data[3..6], [0.0, 1.0, 2.0]);
    assert_eq!(s.value("einsum", vec![text("ij,jk,j->i"), tensors(&[a, b, v])]).data, [41.0, 110.0]);
    let heads = s.counted(&[2, 1, 2, 3]);
    let shared = s.counted(&[4, 3, 2]);
    assert_eq!(s.type_of("matmul", vec![tensor(heads), tensor(shared)]), "f32[2, 4, 2, 2]");
    assert_eq!(s.type_of("matmul", vec![tensor(heads), tensor(b)]), "f32[2, 1, 2, 2]");
    let error = s.error("matmul", vec![tensor(a), tensor(a)]);
    assert!(error.contains("the last dim of the left is 3, the last but one of the right is 2"), "{error}");
    assert!(s.error("einsum", vec![text("ij,ij->ik"), tensors(&[a, a])]).contains("`k` is in no operand"));
}

#[test]
fn batched_products_agree_with_single_ones() {
    let mut s = Sheet::default();
    let (a, b) = (s.counted(&[2, 2, 3]), s.counted(&[2, 3, 2]));
    let whole = s.value("matmul", vec![tensor(a), tensor(b)]).data;
    for i in 0..2 {
        let (x, y) = (
            s.call("gather", vec![tensor(a), int(i)]).unwrap()[0],
            s.call("gather", vec![tensor(b), int(i)]).unwrap()[0],
        );
        let single = s.value("matmul", vec![tensor(x), tensor(y)]).data;
        assert_eq!(single, whole[4 * i as usize..4 * i as usize + 4]);
    }
}

#[test]
fn tensors_of_numbers() {
    let mut s = Sheet::default();
    let nested = Some(Argument::List(vec![
        Argument::List(vec![Argument::Int(Dim::from(1i64)), Argument::Float(2.5)]),
        Argument::List(vec![Argument::Int(Dim::from(3i64)), Argument::Int(Dim::from(4i64))]),
    ]));
    assert_eq!(s.value("tensor", vec![nested]).data, [1.0, 2.5, 3.0, 4.0]);
    let ragged = Some(Argument::List(vec![Argument::List(vec![Argument::Float(1.0)]), Argument::Float(2.0)]));
    assert!(s.error("tensor", vec![ragged]).contains("different lengths"));
    assert_eq!(s.value("eye", vec![int(2)]).data, [1.0, 0.0, 0.0, 1.0]);
    assert_eq!(s.value("full", vec![ints(&[2]), int(7)]).data, [7.0, 7.0]);
    assert!(s.error("zeros", vec![ints(&[-2])]).contains("cannot be negative"));
}

#[test]
fn gradients_are_of_scalars() {
    let mut s = Sheet::default();
    let x = s.counted(&[3]);
    assert!(s.error("grad", vec![tensor(x), tensor(x)]).starts_with("a gradient is of a float scalar, found f32[3]"));
}
