//! What stands in columns: the words and `=` of statements in consecutive lines.
//!
//! ```text
//! input  image: u8[batch, 28, 28]        output probs = softmax(logits)
//! target label: index(10)[batch]         loss   ce    = cross_entropy(logits, label)
//! ```

use super::spacing::Spacing;
use super::tokens::Token;
use crate::frontend::parse::lexeme::Lexeme;

/// The widest cell that takes part in a column. It also bounds how much longer a text gets.
const WIDEST: usize = 40;

/// A column that statements may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    /// What follows `input` or `target`.
    Field,
    /// What follows `output`, `loss` or `metric`, and then the `=`.
    Result,
    ResultValue,
    /// The `=` of an equation or of a `const`.
    Equation,
    Constant,
    /// What follows the first word of a recipe's entry; in `minimize` then `over` and `with`.
    Entry,
    Over,
    With,
    WithAfterOver,
    /// The `{` of a split.
    Split,
}

impl Column {
    /// Whether a comment on a line of its own ends the column, as a blank line ends every one.
    fn ends_at_comment(self) -> bool {
        matches!(self, Column::Result | Column::ResultValue | Column::Equation | Column::Constant)
    }
}

/// What the statements of a block are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Items,
    /// Of a `model`: equations, whose `=` stand in a column.
    Model,
    /// Of anything else: steps, one after the other.
    Body,
    Splits,
    /// Of a split: what binds the inputs.
    Bindings,
    Entries,
}

/// A bracket that is open.
struct Open {
    /// `None` for brackets other than `{`.
    kind: Option<Kind>,
    /// The first and last token of each statement so far.
    statements: Vec<(usize, usize)>,
}

/// A statement with the columns that it may take part in: for each the token that stands there and the width of what is
/// before it in the line, up to the column before.
struct Row {
    columns: Vec<(Column, usize, usize)>,
    /// Whether it has its lines for itself.
    alone: bool,
    after_blank: bool,
    after_comment: bool,
}

impl Row {
    fn column(&self, number: usize) -> Option<Column> {
        self.columns.get(number).filter(|_| self.alone).map(|(column, ..)| *column)
    }

    /// Whether it shares a column with the row before.
    fn goes_on(&self, before: &Row, number: usize) -> bool {
        let Some(column) = self.column(number) else { return false };
        let ended = self.after_blank || self.after_comment && column.ends_at_comment();
        before.column(number) == Some(column) && !ended
    }
}

/// The number of blanks to add before each token.
pub(super) fn padding(tokens: &[Token<'_>], spacing: &Spacing) -> Vec<usize> {
    let mut columns = Columns { tokens, spacing, padding: vec![0; tokens.len()] };
    let mut stack = vec![Open { kind: Some(Kind::Items), statements: Vec::new() }];
    for (index, token) in tokens.iter().enumerate() {
        if token.closes() && stack.len() > 1 {
            stack.pop().into_iter().for_each(|open| columns.align(&open));
        }
        let Some(block) = stack.iter_mut().rev().find(|open| open.kind.is_some()) else { continue };
        if token.begins_statement {
            block.statements.push((index, index));
        } else if let Some(last) = block.statements.last_mut().filter(|_| !token.is_comment() && !token.is(";")) {
            last.1 = index;
        }
        if token.opens() {
            let kind = (token.lexeme == Lexeme::Open(b'{')).then(|| inner_kind(tokens, block));
            stack.push(Open { kind, statements: Vec::new() });
        }
    }
    stack.iter().for_each(|open| columns.align(open));
    columns.padding
}

/// What the block holds whose `{` stands in the last statement of `outer`.
fn inner_kind(tokens: &[Token<'_>], outer: &Open) -> Kind {
    let word = outer.statements.last().map(|(first, _)| tokens[*first].text);
    match (outer.kind, word) {
        (Some(Kind::Items), Some("data")) => Kind::Splits,
        (Some(Kind::Items), Some("train")) | (Some(Kind::Entries), Some("phase")) => Kind::Entries,
        (Some(Kind::Items), Some("model")) => Kind::Model,
        (Some(Kind::Splits), _) => Kind::Bindings,
        _ => Kind::Body,
    }
}

struct Columns<'a> {
    tokens: &'a [Token<'a>],
    spacing: &'a Spacing,
    padding: Vec<usize>,
}

impl Columns<'_> {
    /// Aligns the statements of one block.
    fn align(&mut self, block: &Open) {
        let Some(kind) = block.kind else { return };
        let rows: Vec<Row> = (0..block.statements.len()).map(|at| self.row(kind, &block.statements, at)).collect();
        let columns = rows.iter().map(|row| row.columns.len()).max().unwrap_or(0);
        for number in 0..columns {
            for run in rows.chunk_by(|before, row| row.goes_on(before, number)) {
                let cells = || run.iter().filter(|row| row.alone).filter_map(|row| row.columns.get(number));
                let widest = cells().map(|(.., width)| *width).max().unwrap_or(0);
                for (_, token, width) in cells() {
                    self.padding[*token] = widest - width;
                }
            }
        }
    }

    fn row(&self, kind: Kind, statements: &[(usize, usize)], at: usize) -> Row {
        let (first, last) = statements[at];
        let before = if at == 0 { first } else { statements[at - 1].1 + 1 };
        let between = &self.tokens[before..=first];
        let begins_line = |token: &Token<'_>| token.lines > 0 || token.at == 0;
        let begins_block = first > 0 && self.tokens[first - 1].opens();
        let next = statements.get(at + 1).map(|(next, _)| &self.tokens[*next]);
        Row {
            columns: self.columns(kind, first, last),
            alone: (begins_line(&self.tokens[first]) || begins_block) && next.is_none_or(begins_line),
            after_blank: between.iter().any(|token| token.lines > 1),
            after_comment: between.iter().any(|token| token.is_comment() && token.lines > 0),
        }
    }

    /// The columns of the statement from one token to another.
    fn columns(&self, kind: Kind, first: usize, last: usize) -> Vec<(Column, usize, usize)> {
        let statement = &self.tokens[first..=last];
        let one_line = statement.iter().skip(1).all(|token| token.lines == 0);
        let is = |offset: usize, symbol: &str| statement.get(offset).is_some_and(|token| token.is(symbol));
        let columns: Vec<(Column, usize)> = match (kind, statement[0].text) {
            (Kind::Items, "const") if one_line && is(2, "=") => vec![(Column::Constant, 2)],
            (Kind::Model, "input" | "target") => vec![(Column::Field, 1)],
            (Kind::Model, "output" | "loss" | "metric") if is(2, "=") => {
                vec![(Column::Result, 1), (Column::ResultValue, 2)]
            }
            (Kind::Model, "output" | "loss" | "metric") => vec![(Column::Result, 1)],
            (Kind::Model | Kind::Bindings, _) if one_line && is(1, "=") => vec![(Column::Equation, 1)],
            (Kind::Splits, _) if self.goes_on_behind_brace(first + 1) => vec![(Column::Split, 1)],
            (Kind::Entries, "minimize") => minimize_columns(statement),
            (Kind::Entries, word) if word != "phase" => vec![(Column::Entry, 1)],
            _ => Vec::new(),
        };
        self.measured(first, last, &columns)
    }

    /// Whether there is a `{` at `token` with something behind it in its line.
    fn goes_on_behind_brace(&self, token: usize) -> bool {
        let is_brace = self.tokens.get(token).is_some_and(|brace| brace.lexeme == Lexeme::Open(b'{'));
        is_brace && self.tokens.get(token + 1).is_some_and(|next| next.lines == 0 && !next.is_comment())
    }

    /// The columns with their widths, up to one that is too wide or begins a line.
    fn measured(&self, first: usize, last: usize, columns: &[(Column, usize)]) -> Vec<(Column, usize, usize)> {
        let mut start = first;
        let mut measured = Vec::new();
        for (column, offset) in columns {
            let end = first + offset;
            if end > last || self.tokens[start + 1..=end].iter().any(|token| token.lines > 0) {
                break;
            }
            let width = self.width(start, end);
            if width > WIDEST {
                break;
            }
            measured.push((*column, end, width));
            start = end;
        }
        measured
    }

    /// The columns that the tokens from `start` to before `end` take.
    fn width(&self, start: usize, end: usize) -> usize {
        let blank = |at: usize| usize::from(at > start && self.spacing.between(&self.tokens[at - 1], &self.tokens[at]));
        (start..end).map(|at| self.tokens[at].width() + blank(at)).sum()
    }
}

/// `minimize critic_loss over critic with adam`
fn minimize_columns(statement: &[Token<'_>]) -> Vec<(Column, usize)> {
    let place = |word: &str| statement.iter().position(|token| token.is_word(word));
    let mut columns = vec![(Column::Entry, 1)];
    match (place("over"), place("with")) {
        (Some(over), Some(with)) => columns.extend([(Column::Over, over), (Column::WithAfterOver, with)]),
        (None, Some(with)) => columns.push((Column::With, with)),
        _ => {}
    }
    columns
}
