//! Expressions on one line, with brackets around every operator inside another.

use std::fmt::Write;

use super::{name_list, one_line, parameter};
use crate::frontend::ast::{
    BinaryOperator, Block, CallArgument, Expression, ExpressionKind, Otherwise, StatementKind, Subscript, UnaryOperator,
};

/// The expression, without brackets around the whole.
pub(super) fn expression(value: &Expression) -> String {
    match &value.kind {
        ExpressionKind::Int(value) => value.to_string(),
        ExpressionKind::Float(value) => format!("{value:?}"),
        ExpressionKind::Bool(value) => value.to_string(),
        ExpressionKind::Text(text) => quoted(text),
        ExpressionKind::Name(name) => name.to_string(),
        ExpressionKind::List(values) => format!("[{}]", list(values)),
        ExpressionKind::Tuple(values) if values.len() == 1 => format!("({},)", list(values)),
        ExpressionKind::Tuple(values) => format!("({})", list(values)),
        ExpressionKind::Comprehension { element, names, iterable } => {
            format!("[{} for {} in {}]", expression(element), name_list(names), expression(iterable))
        }
        ExpressionKind::Range { start, end } => format!("{}..{}", atom(start), atom(end)),
        ExpressionKind::Unary { operator: UnaryOperator::Negate, operand } => format!("-{}", atom(operand)),
        ExpressionKind::Unary { operator: UnaryOperator::Not, operand } => format!("not {}", atom(operand)),
        // With blanks around it, `//` would begin a comment.
        ExpressionKind::Binary { operator: BinaryOperator::FloorDivide, left, right, .. } => {
            format!("{}//{}", atom(left), atom(right))
        }
        ExpressionKind::Binary { operator, left, right, .. } => {
            format!("{} {} {}", atom(left), operator.symbol(), atom(right))
        }
        ExpressionKind::Pipe { value, call } => format!("{} |> {}", stage(value), atom(call)),
        ExpressionKind::If { condition, then, otherwise } => {
            let otherwise = match &**otherwise {
                Otherwise::Block(block) => inline_block(block),
                Otherwise::If(other) => expression(other),
            };
            format!("if {} {} else {otherwise}", expression(condition), inline_block(then))
        }
        ExpressionKind::Call { callee, arguments } => {
            let arguments: Vec<String> = arguments.iter().map(argument).collect();
            format!("{}({})", atom(callee), arguments.join(", "))
        }
        ExpressionKind::Index { value, subscripts } => {
            let subscripts: Vec<String> = subscripts.iter().map(subscript).collect();
            format!("{}[{}]", atom(value), subscripts.join(", "))
        }
        ExpressionKind::Field { value, name } => format!("{}.{}", atom(value), name.text),
        ExpressionKind::Lambda(lambda) => {
            let parameters: Vec<String> = lambda.parameters.iter().map(parameter).collect();
            let body = match lambda.body.statements.as_slice() {
                [only] if only.span == lambda.body.span => match &only.kind {
                    StatementKind::Expression(value) => expression(value),
                    other => one_line(other),
                },
                _ => inline_block(&lambda.body),
            };
            format!("|{}| {body}", parameters.join(", "))
        }
    }
}

/// The expression as an operand: with brackets if it has an operator of its own.
fn atom(value: &Expression) -> String {
    match value.kind {
        ExpressionKind::Range { .. }
        | ExpressionKind::Unary { .. }
        | ExpressionKind::Binary { .. }
        | ExpressionKind::Pipe { .. }
        | ExpressionKind::If { .. }
        | ExpressionKind::Lambda(_) => format!("({})", expression(value)),
        _ => expression(value),
    }
}

/// The left side of `|>`, where a chain needs no brackets.
fn stage(value: &Expression) -> String {
    match value.kind {
        ExpressionKind::Pipe { .. } => expression(value),
        _ => atom(value),
    }
}

fn list(values: &[Expression]) -> String {
    values.iter().map(expression).collect::<Vec<_>>().join(", ")
}

fn argument(argument: &CallArgument) -> String {
    match &argument.name {
        Some(name) => format!("{}={}", name.text, expression(&argument.value)),
        None => expression(&argument.value),
    }
}

fn subscript(subscript: &Subscript) -> String {
    match subscript {
        Subscript::At(value) => expression(value),
        Subscript::Rest(_) => "..".to_owned(),
        Subscript::Slice { start, stop, step, .. } => {
            let bound = |value: &Option<Expression>| value.as_ref().map(expression).unwrap_or_default();
            let step = step.as_ref().map(|step| format!(":{}", expression(step))).unwrap_or_default();
            format!("{}:{}{step}", bound(start), bound(stop))
        }
    }
}

/// `{ a = 1; a }`
pub(super) fn inline_block(block: &Block) -> String {
    let statements: Vec<String> = block.statements.iter().map(|s| one_line(&s.kind)).collect();
    if statements.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", statements.join("; ")) }
}

/// The text as a string literal.
pub(super) fn quoted(text: &str) -> String {
    let mut literal = String::from('"');
    for character in text.chars() {
        match character {
            '\n' => literal.push_str("\\n"),
            '\t' => literal.push_str("\\t"),
            '"' => literal.push_str("\\\""),
            '\\' => literal.push_str("\\\\"),
            character if character.is_control() => {
                let _ = write!(literal, "\\u{{{:x}}}", u32::from(character));
            }
            character => literal.push(character),
        }
    }
    literal.push('"');
    literal
}
