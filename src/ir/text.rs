//! The text form of a function over a tensor graph: what dumps show and tests of passes are written in.
//!
//! ```text
//! function step
//!   argument x: input f32[batch, 3]
//!   argument dense_1.w: parameter f32[3, 2]
//!   %0 = argument() index=0 dtype=f32 shape=[batch, 3] : f32[batch, 3]
//!   %1 = argument() index=1 dtype=f32 shape=[3, 2] : f32[3, 2]
//!   %2 = contract(%0, %1) left=[0, 1] right=[1, 2] result=[0, 2] : f32[batch, 2] in dense_1
//!   result y: output = %2
//! ```
//!
//! Values are numbered in the order of the graph. An attribute that is a function, such as a loop's body, stands in braces: `body={`, the
//! function's own lines, then the rest of the node's line after `}`. Parsing infers every type again and compares it with the one written.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::builder::GraphBuilder;
use super::graph::{Argument, Function, FunctionResult, Graph, ResultRole, Role, ValueId};
use super::ops::{Attributes, Op};
use super::types::TensorType;

mod cursor;

use cursor::Cursor;

/// What is wrong with a text, and in which line (from 1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ParseError {
    pub line: usize,
    pub message: String,
}

/// Functions inside functions; no honest model has as many loops in each other.
const MOST_NESTED: usize = 32;

const ROLES: [(&str, Role); 8] = [
    ("input", Role::Input),
    ("target", Role::Target),
    ("parameter", Role::Parameter),
    ("state", Role::State),
    ("optimizer_state", Role::OptimizerState),
    ("seed", Role::Seed),
    ("step", Role::Step),
    ("epoch", Role::Epoch),
];

const RESULTS: [(&str, ResultRole); 4] = [
    ("output", ResultRole::Output),
    ("loss", ResultRole::Loss),
    ("metric", ResultRole::Metric),
    ("initial", ResultRole::Initial),
];

/// The first value number of each node.
fn numbering(graph: &Graph) -> Vec<u32> {
    let mut next = 0;
    let count = |(_, node): (_, &super::graph::Node)| {
        let first = next;
        next += node.outputs.len() as u32;
        first
    };
    graph.nodes().map(count).collect()
}

fn joined<T: fmt::Display>(items: impl Iterator<Item = T>) -> String {
    items.map(|i| i.to_string()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "function {}", self.name)?;
        for argument in &self.arguments {
            let role = ROLES.iter().find(|(_, r)| *r == argument.role).map_or("?", |(name, _)| name);
            writeln!(f, "  argument {}: {role} {}", argument.name, argument.ty)?;
        }
        let numbers = numbering(&self.graph);
        let value = |v: &ValueId| format!("%{}", numbers[v.node.0 as usize] + v.output);
        for (id, node) in self.graph.nodes() {
            let outputs = joined((0..node.outputs.len() as u32).map(|output| value(&ValueId { node: id, output })));
            write!(f, "  {outputs} = {}({})", node.op.doc().name, joined(node.inputs.iter().map(value)))?;
            for (name, attribute) in &node.op.attributes().0 {
                write!(f, " {name}={attribute}")?;
            }
            write!(f, " : {}", joined(node.outputs.iter()))?;
            if !node.scope.is_empty() {
                write!(f, " in {}", node.scope)?;
            }
            writeln!(f)?;
        }
        for result in &self.results {
            let role = match result.role {
                ResultRole::Update(index) => format!("update {index}"),
                role => RESULTS.iter().find(|(_, r)| *r == role).map_or("?", |(name, _)| name).to_string(),
            };
            writeln!(f, "  result {}: {role} = {}", result.name, value(&result.value))?;
        }
        Ok(())
    }
}

/// The function that a text describes.
///
/// # Errors
/// The first line that does not parse or does not check.
pub fn parse(text: &str) -> Result<Function, ParseError> {
    let mut parser = Parser::default();
    let (mut open, mut start, mut logical) = (0usize, 0, String::new());
    let lines = text.lines().count();
    for (number, line) in text.lines().map(str::trim).enumerate() {
        open = (open + usize::from(line.ends_with('{'))).saturating_sub(usize::from(line.starts_with('}')));
        if open > MOST_NESTED {
            return Err(ParseError { line: number + 1, message: "functions are nested too deeply".into() });
        }
        logical.push_str(line);
        if open > 0 {
            logical.push('\n');
            continue;
        }
        if !logical.is_empty() {
            parser.line(&logical).map_err(|message| ParseError { line: start + 1, message })?;
        }
        (start, logical) = (number + 1, String::new());
    }
    if open > 0 {
        return Err(ParseError { line: lines, message: "a `{` has no `}`".into() });
    }
    let name = parser.name.ok_or(ParseError { line: lines, message: "there is no line `function NAME`".into() })?;
    Ok(Function { name, arguments: parser.arguments, graph: parser.builder.finish(), results: parser.results })
}

#[derive(Default)]
struct Parser {
    name: Option<String>,
    arguments: Vec<Argument>,
    builder: GraphBuilder,
    /// The value of each number.
    values: Vec<ValueId>,
    results: Vec<FunctionResult>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(name) = line.strip_prefix("function ") {
            self.name = Some(name.trim().to_string());
            return Ok(());
        }
        if line.starts_with('%') {
            return self.node(line);
        }
        if let Some(rest) = line.strip_prefix("argument ") {
            return self.argument(rest);
        }
        match line.strip_prefix("result ") {
            Some(rest) => self.result(rest),
            None => Err("expected `function`, `argument`, `%` or `result`".into()),
        }
    }

    /// `NAME: ROLE TYPE`.
    fn argument(&mut self, text: &str) -> Result<(), String> {
        let (name, rest) = text.split_once(": ").ok_or("expected `NAME: ROLE TYPE`")?;
        let mut cursor = Cursor::new(rest);
        let word = cursor.word()?;
        let role =
            ROLES.iter().find(|(n, _)| *n == word).map(|(_, r)| *r).ok_or(format!("there is no role `{word}`"))?;
        let ty = cursor.tensor_type()?;
        cursor.end()?;
        self.arguments.push(Argument { name: name.to_string(), role, ty });
        Ok(())
    }

    /// `NAME: ROLE = %N`.
    fn result(&mut self, text: &str) -> Result<(), String> {
        let (name, rest) = text.split_once(": ").ok_or("expected `NAME: ROLE = %N`")?;
        let mut cursor = Cursor::new(rest);
        let word = cursor.word()?;
        let role = match word {
            "update" => ResultRole::Update(cursor.number()?),
            _ => {
                RESULTS.iter().find(|(n, _)| *n == word).map(|(_, r)| *r).ok_or(format!("there is no role `{word}`"))?
            }
        };
        cursor.expect("=")?;
        let value = self.value(&mut cursor)?;
        cursor.end()?;
        self.results.push(FunctionResult { name: name.to_string(), role, value });
        Ok(())
    }

    fn value(&self, cursor: &mut Cursor<'_>) -> Result<ValueId, String> {
        let number: usize = cursor.value_number()?;
        self.values.get(number).copied().ok_or_else(|| format!("%{number} is not there yet"))
    }

    /// `%3, %4 = op(%1, %2) name=value : type, type in scope`.
    fn node(&mut self, line: &str) -> Result<(), String> {
        let mut cursor = Cursor::new(line);
        let mut results = Vec::new();
        while !cursor.accept("=") {
            results.push(cursor.value_number::<usize>()?);
            cursor.accept(",");
        }
        let name = cursor.word()?;
        let inputs = self.operands(&mut cursor)?;
        let mut attributes = Attributes::default();
        while !cursor.accept(":") {
            let attribute = cursor.word()?.to_string();
            cursor.expect("=")?;
            attributes.0.push((Cow::Owned(attribute), cursor.attribute()?));
        }
        let mut types = vec![cursor.tensor_type()?];
        while cursor.accept(",") {
            types.push(cursor.tensor_type()?);
        }
        let scope = if cursor.accept("in ") { cursor.rest() } else { "" };
        cursor.end()?;
        let op = Op::from_attributes(name, &attributes)?;
        self.add(op, &inputs, &results, &types, scope)
    }

    fn operands(&mut self, cursor: &mut Cursor<'_>) -> Result<Vec<ValueId>, String> {
        cursor.expect("(")?;
        let mut inputs = Vec::new();
        while !cursor.accept(")") {
            inputs.push(self.value(cursor)?);
            cursor.accept(",");
        }
        Ok(inputs)
    }

    fn add(
        &mut self,
        op: Op,
        inputs: &[ValueId],
        results: &[usize],
        types: &[TensorType],
        scope: &str,
    ) -> Result<(), String> {
        self.builder.set_scope(Arc::from(scope));
        let outputs = self.builder.add(op, inputs).map_err(|e| e.to_string())?;
        let inferred: Vec<&TensorType> = outputs.iter().map(|v| self.builder.type_of(*v)).collect();
        if inferred != types.iter().collect::<Vec<_>>() {
            return Err(format!("the types are {}", joined(inferred.into_iter())));
        }
        let next = self.values.len();
        if results != (next..next + outputs.len()).collect::<Vec<_>>() {
            return Err(format!("expected the values from %{next}, as many as the op has"));
        }
        self.values.extend(outputs);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
function step
  argument x: input f32[batch, 3]
  argument dense_1.w: parameter f32[3, 2]
  %0 = argument() index=0 dtype=f32 shape=[batch, 3] : f32[batch, 3]
  %1 = argument() index=1 dtype=f32 shape=[3, 2] : f32[3, 2]
  %2 = contract(%0, %1) left=[0, 1] right=[1, 2] result=[0, 2] : f32[batch, 2] in dense_1
  %3 = reduce(%2) monoid=sum axes=[0, 1] : f32[]
  %4 = constant() value=2*batch - 1 dtype=f32 shape=[] : f32[]
  %5 = constant() value=1e-5 dtype=f32 shape=[] : f32[]
  %6 = map(%3, %4) function=div : f32[]
  %7 = cast(%6) dtype=index(10) : index(10)[]
  %8, %9 = grad(%6, %0, %1) : f32[batch, 3], f32[3, 2]
  result y: loss = %6
  result dense_1.w: update 1 = %9
";

    #[test]
    fn prints_what_it_parses() {
        let function = parse(TEXT).unwrap();
        assert_eq!(function.to_string(), TEXT);
        crate::ir::verify::function(&function).unwrap();
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let wrong = |from: &str, to: &str| parse(&TEXT.replacen(from, to, 1)).unwrap_err().to_string();
        assert_eq!(wrong("f32[batch, 2] in", "f32[batch, 3] in"), "line 6: the types are f32[batch, 2]");
        assert_eq!(wrong("reduce(%2)", "reduce(%9)"), "line 7: %9 is not there yet");
        assert_eq!(wrong("monoid=sum", "monoid=som"), "line 7: there is no fold `som`");
        assert_eq!(wrong("map(", "mop("), "line 10: there is no op `mop`");
        assert_eq!(wrong("%7 = ", "%9 = "), "line 11: expected the values from %7, as many as the op has");
    }
}
