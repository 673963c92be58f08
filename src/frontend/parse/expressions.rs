//! Expressions: precedence, literals, calls, subscripts, lambdas.

use std::sync::{Arc, LazyLock};

use pest::iterators::Pair;
use pest::pratt_parser::{Assoc, Op, PrattParser};

use super::{Builder, MAX_DEPTH, Rule, inner};
use crate::diag::Span;
use crate::frontend::ast::{
    BinaryOperator, Block, CallArgument, Expression, ExpressionKind, Lambda, Otherwise, Parameter, Statement,
    StatementKind, Subscript, UnaryOperator,
};

/// From loose to tight: `..`, `or`, `and`, `not`, comparisons, sums, products, unary minus, `^`.
static PRECEDENCE: LazyLock<PrattParser<Rule>> = LazyLock::new(|| {
    let left = |rule| Op::infix(rule, Assoc::Left);
    PrattParser::new()
        .op(left(Rule::op_range))
        .op(left(Rule::word_or))
        .op(left(Rule::word_and))
        .op(Op::prefix(Rule::word_not))
        .op(left(Rule::op_equal)
            | left(Rule::op_not_equal)
            | left(Rule::op_less)
            | left(Rule::op_less_equal)
            | left(Rule::op_greater)
            | left(Rule::op_greater_equal))
        .op(left(Rule::op_add) | left(Rule::op_subtract))
        .op(left(Rule::op_multiply)
            | left(Rule::op_divide)
            | left(Rule::op_floor_divide)
            | left(Rule::op_remainder)
            | left(Rule::op_matrix_product))
        .op(Op::prefix(Rule::op_negate))
        .op(Op::infix(Rule::op_power, Assoc::Right))
});

fn binary_operator(rule: Rule) -> BinaryOperator {
    match rule {
        Rule::word_or => BinaryOperator::Or,
        Rule::word_and => BinaryOperator::And,
        Rule::op_equal => BinaryOperator::Equal,
        Rule::op_not_equal => BinaryOperator::NotEqual,
        Rule::op_less => BinaryOperator::Less,
        Rule::op_less_equal => BinaryOperator::LessEqual,
        Rule::op_greater => BinaryOperator::Greater,
        Rule::op_greater_equal => BinaryOperator::GreaterEqual,
        Rule::op_add => BinaryOperator::Add,
        Rule::op_subtract => BinaryOperator::Subtract,
        Rule::op_multiply => BinaryOperator::Multiply,
        Rule::op_divide => BinaryOperator::Divide,
        Rule::op_floor_divide => BinaryOperator::FloorDivide,
        Rule::op_remainder => BinaryOperator::Remainder,
        Rule::op_matrix_product => BinaryOperator::MatrixProduct,
        Rule::op_power => BinaryOperator::Power,
        other => unreachable!("the grammar has no binary operator {other:?}"),
    }
}

impl Builder<'_> {
    /// Builds something `levels` levels deeper, or reports that it is too deep.
    pub(super) fn deeper<T>(&mut self, levels: usize, place: Span, build: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.depth + levels > MAX_DEPTH {
            let message = format!("this is more than {MAX_DEPTH} levels deep");
            self.error(place, message).help =
                Some("give an inner part, or the first half of the chain, a name of its own and use that".into());
            return None;
        }
        self.depth += levels;
        let result = build(self);
        self.depth -= levels;
        Some(result)
    }

    /// `expression`: operands of `|>`.
    pub(super) fn expression(&mut self, pair: Pair<'_, Rule>) -> Expression {
        let place = self.span(&pair);
        let stages = pair.clone().into_inner().filter(|p| p.as_rule() == Rule::op_pipe).count();
        let built = self.deeper(stages + 1, place, |this| {
            let mut parts = inner(pair);
            let first = parts.next().expect("an expression has an operand");
            let mut value = this.unpiped(first);
            for part in parts {
                let call = this.unpiped(part);
                let span = value.span.to(call.span);
                value =
                    Expression { kind: ExpressionKind::Pipe { value: Box::new(value), call: Box::new(call) }, span };
            }
            value
        });
        built.unwrap_or_else(|| nothing(place))
    }

    fn unpiped(&mut self, pair: Pair<'_, Rule>) -> Expression {
        match pair.as_rule() {
            Rule::choice => self.choice(pair),
            Rule::lambda => self.lambda(pair),
            Rule::operation => self.operation(pair),
            Rule::operand => self.operand(pair),
            other => unreachable!("the grammar has no operand {other:?}"),
        }
    }

    fn operation(&mut self, pair: Pair<'_, Rule>) -> Expression {
        let place = self.span(&pair);
        let operands = |p: &Pair<'_, Rule>| matches!(p.as_rule(), Rule::operand | Rule::choice | Rule::lambda);
        let operators = pair.clone().into_inner().filter(|p| !operands(p)).count();
        if operators == 0 {
            return self.unpiped(pair.into_inner().next().expect("an operation has an operand"));
        }
        let (file, base) = (self.context.file, self.context.base);
        let span = move |p: &Pair<'_, Rule>| super::span(file, base + p.as_span().start()..base + p.as_span().end());
        let built = self.deeper(operators, place, |this| {
            PRECEDENCE
                .map_primary(|operand| this.unpiped(operand))
                .map_prefix(|sign, operand| {
                    let operator =
                        if sign.as_rule() == Rule::word_not { UnaryOperator::Not } else { UnaryOperator::Negate };
                    let span = span(&sign).to(operand.span);
                    Expression { kind: ExpressionKind::Unary { operator, operand: Box::new(operand) }, span }
                })
                .map_infix(|left, sign, right| {
                    let place = left.span.to(right.span);
                    let (left, right) = (Box::new(left), Box::new(right));
                    let kind = match sign.as_rule() {
                        Rule::op_range => ExpressionKind::Range { start: left, end: right },
                        rule => {
                            let operator = binary_operator(rule);
                            ExpressionKind::Binary { operator, left, right, operator_span: span(&sign) }
                        }
                    };
                    Expression { kind, span: place }
                })
                .parse(pair.into_inner())
        });
        built.unwrap_or_else(|| nothing(place))
    }

    /// `if` with a value.
    fn choice(&mut self, pair: Pair<'_, Rule>) -> Expression {
        let place = self.span(&pair);
        let levels = pair.clone().into_inner().filter(|p| p.as_rule() == Rule::block).count();
        let built = self.deeper(levels, place, |this| {
            let branches = this.branches(pair);
            if branches.otherwise.is_none() {
                this.error(place, "this `if` must give a value, but it has no `else`").help =
                    Some("add `else { ... }` with the value for the other case".into());
            }
            if_expression(branches, place)
        });
        built.unwrap_or_else(|| nothing(place))
    }

    /// The conditions with their blocks, and the last `else`.
    pub(super) fn branches(&mut self, pair: Pair<'_, Rule>) -> Branches {
        let mut parts = inner(pair);
        let mut conditions = Vec::new();
        let mut otherwise = None;
        while let Some(part) = parts.next() {
            if part.as_rule() == Rule::block {
                otherwise = Some(self.block(part));
                continue;
            }
            let condition = self.expression(part);
            conditions.push((condition, self.block(parts.next().expect("a condition has a block"))));
        }
        Branches { conditions, otherwise }
    }

    fn lambda(&mut self, pair: Pair<'_, Rule>) -> Expression {
        let span = self.span(&pair);
        let built = self.deeper(1, span, |this| {
            let mut parameters: Vec<Parameter> = Vec::new();
            let mut body = empty_block(span);
            for part in inner(pair) {
                match part.as_rule() {
                    Rule::parameter => parameters.push(this.parameter(part)),
                    Rule::block => body = this.block(part),
                    _ => {
                        let value = this.expression(part);
                        let span = value.span;
                        let statement = Statement { kind: StatementKind::Expression(value), doc: None, span };
                        body = Block { statements: vec![statement], span };
                    }
                }
            }
            Expression { kind: ExpressionKind::Lambda(Arc::new(Lambda { parameters, body, span })), span }
        });
        built.unwrap_or_else(|| nothing(span))
    }

    /// A primary with its calls, subscripts and fields.
    fn operand(&mut self, pair: Pair<'_, Rule>) -> Expression {
        let place = self.span(&pair);
        let levels = pair.clone().into_inner().count();
        let built = self.deeper(levels, place, |this| {
            let mut parts = pair.into_inner();
            let mut value = this.primary(parts.next().expect("an operand has a primary"));
            for part in parts {
                let span = value.span.to(this.span(&part));
                let inside = Box::new(value);
                let kind = match part.as_rule() {
                    Rule::call => ExpressionKind::Call { callee: inside, arguments: this.arguments(part) },
                    Rule::index => {
                        let subscripts = inner(part).map(|p| this.subscript(p)).collect();
                        ExpressionKind::Index { value: inside, subscripts }
                    }
                    _ => {
                        let name = part.into_inner().next().expect("a field has a name");
                        ExpressionKind::Field { value: inside, name: this.name(&name) }
                    }
                };
                value = Expression { kind, span };
            }
            value
        });
        built.unwrap_or_else(|| nothing(place))
    }

    fn arguments(&mut self, pair: Pair<'_, Rule>) -> Vec<CallArgument> {
        let mut arguments = Vec::new();
        for argument in inner(pair) {
            let mut parts: Vec<_> = inner(argument).collect();
            let value = self.expression(parts.pop().expect("an argument has a value"));
            arguments.push(CallArgument { name: parts.pop().map(|name| self.name(&name)), value });
        }
        arguments
    }

    fn subscript(&mut self, pair: Pair<'_, Rule>) -> Subscript {
        let place = self.span(&pair);
        let mut start = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::op_rest => return Subscript::Rest(place),
                Rule::slice => {
                    let (mut stop, mut step) = (None, None);
                    for part in inner(part) {
                        let is_stop = part.as_rule() == Rule::slice_stop;
                        let value = self.expression(part.into_inner().next().expect("a bound is an expression"));
                        *(if is_stop { &mut stop } else { &mut step }) = Some(value);
                    }
                    return Subscript::Slice { start, stop, step, span: place };
                }
                _ => start = Some(self.expression(part)),
            }
        }
        Subscript::At(start.expect("a subscript that is neither `..` nor a slice is an expression"))
    }

    fn primary(&mut self, pair: Pair<'_, Rule>) -> Expression {
        let span = self.span(&pair);
        let kind = match pair.as_rule() {
            Rule::number => self.number(pair.as_str(), span),
            Rule::text => ExpressionKind::Text(self.text(&pair)),
            Rule::truth => ExpressionKind::Bool(pair.as_str() == "true"),
            Rule::name | Rule::param_name | Rule::train_values => ExpressionKind::Name(pair.as_str().into()),
            Rule::group => return self.group(pair),
            Rule::list => self.list(pair),
            other => unreachable!("the grammar has no primary {other:?}"),
        };
        Expression { kind, span }
    }

    fn group(&mut self, pair: Pair<'_, Rule>) -> Expression {
        let span = self.span(&pair);
        let mut values = Vec::new();
        let mut commas = 0;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::comma => commas += 1,
                Rule::close_paren => {}
                _ => values.push(self.expression(part)),
            }
        }
        match values.pop() {
            Some(value) if commas == 0 => Expression { span, ..value },
            last => {
                values.extend(last);
                Expression { kind: ExpressionKind::Tuple(values), span }
            }
        }
    }

    fn list(&mut self, pair: Pair<'_, Rule>) -> ExpressionKind {
        let mut values = Vec::new();
        for part in inner(pair) {
            if part.as_rule() == Rule::comprehension {
                let mut parts = inner(part);
                let names = self.names(parts.next().expect("a comprehension has names"));
                let iterable = self.expression(parts.next().expect("a comprehension has a list"));
                let element = values.pop().expect("a comprehension has an element");
                return ExpressionKind::Comprehension {
                    element: Box::new(element),
                    names,
                    iterable: Box::new(iterable),
                };
            }
            values.push(self.expression(part));
        }
        ExpressionKind::List(values)
    }

    fn number(&mut self, text: &str, place: Span) -> ExpressionKind {
        let digits = text.replace('_', "");
        let integer = match digits.strip_prefix("0x") {
            Some(hexadecimal) => i64::from_str_radix(hexadecimal, 16),
            None if digits.contains(['.', 'e', 'E']) => return self.float(&digits, place),
            None => digits.parse(),
        };
        integer.map(ExpressionKind::Int).unwrap_or_else(|_| {
            self.error(place, "this integer does not fit in 64 bits")
                .notes
                .push(format!("the largest is {}", i64::MAX));
            ExpressionKind::Int(0)
        })
    }

    fn float(&mut self, digits: &str, place: Span) -> ExpressionKind {
        let value: f64 = digits.parse().unwrap_or(f64::INFINITY);
        if value.is_infinite() {
            self.error(place, "this number is too large for a float").notes.push("the largest is about 1.8e308".into());
        }
        ExpressionKind::Float(value)
    }

    /// The characters that a string literal stands for.
    pub(super) fn text(&mut self, pair: &Pair<'_, Rule>) -> Arc<str> {
        let place = self.span(pair);
        let literal = pair.as_str();
        let body = &literal[1..literal.len() - 1];
        let mut result = String::with_capacity(body.len());
        let mut rest = body;
        while let Some(backslash) = rest.find('\\') {
            result.push_str(&rest[..backslash]);
            let (character, length) = escape(&rest[backslash..]);
            let start = place.start + 1 + (body.len() - rest.len() + backslash) as u32;
            match character {
                Some(character) => result.push(character),
                None => {
                    let wrong = Span { start, end: start + length as u32, ..place };
                    self.error(wrong, "unknown escape in a string").help =
                        Some("known are `\\n`, `\\t`, `\\\"`, `\\\\` and `\\u{..}` with a hexadecimal number".into());
                }
            }
            rest = &rest[backslash + length..];
        }
        result.push_str(rest);
        result.into()
    }
}

/// The character of the escape that `text` begins with, if it is one, and its length in bytes.
fn escape(text: &str) -> (Option<char>, usize) {
    let Some(second) = text[1..].chars().next() else { return (None, 1) };
    let simple = match second {
        'n' => Some('\n'),
        't' => Some('\t'),
        '"' => Some('"'),
        '\\' => Some('\\'),
        _ => None,
    };
    if simple.is_some() || !text.starts_with("\\u{") {
        return (simple, 1 + second.len_utf8());
    }
    match text.find('}') {
        Some(end) => (u32::from_str_radix(&text[3..end], 16).ok().and_then(char::from_u32), end + 1),
        None => (None, 3),
    }
}

/// The parts of an `if`.
pub(super) struct Branches {
    /// At least one.
    pub conditions: Vec<(Expression, Block)>,
    pub otherwise: Option<Block>,
}

/// Nested expressions for `else if`.
pub(super) fn if_expression(branches: Branches, place: Span) -> Expression {
    let mut otherwise = Otherwise::Block(branches.otherwise.unwrap_or_else(|| empty_block(place)));
    let mut conditions = branches.conditions.into_iter().rev().peekable();
    while let Some((condition, then)) = conditions.next() {
        let kind = ExpressionKind::If { condition: Box::new(condition), then, otherwise: Box::new(otherwise) };
        let result = Expression { kind, span: place };
        if conditions.peek().is_none() {
            return result;
        }
        otherwise = Otherwise::If(result);
    }
    nothing(place)
}

/// Stands for an expression that was reported as wrong.
pub(super) fn nothing(span: Span) -> Expression {
    Expression { kind: ExpressionKind::Bool(false), span }
}

fn empty_block(span: Span) -> Block {
    Block { statements: Vec::new(), span }
}
