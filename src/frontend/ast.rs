//! The syntax tree: what the grammar says, with a span on everything a diagnostic may point at.
//!
//! The tree is untyped; names are resolved and shapes checked by `resolve` and `elaborate`.

use std::sync::Arc;

use crate::diag::Span;

/// A name with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub text: Arc<str>,
    pub span: Span,
}

/// One `.nn` file.
#[derive(Clone, Debug)]
pub struct File {
    pub items: Vec<Item>,
}

/// A top-level item.
#[derive(Clone, Debug)]
pub enum Item {
    Use(Arc<Use>),
    /// `const name = expr`.
    Const {
        name: Name,
        value: Expression,
        doc: Doc,
    },
    Function(Arc<Definition>),
    Model(Arc<Definition>),
    Optimizer(Arc<Definition>),
    Data(Arc<DataBlock>),
    Train(Arc<TrainBlock>),
}

impl Item {
    /// The item's place; of a constant, its name's.
    pub fn span(&self) -> Span {
        match self {
            Item::Use(used) => used.span,
            Item::Const { name, .. } => name.span,
            Item::Function(d) | Item::Model(d) | Item::Optimizer(d) => d.span,
            Item::Data(block) => block.span,
            Item::Train(block) => block.span,
        }
    }
}

/// `use "path.nn"`: another file whose items are seen here.
#[derive(Clone, Debug)]
pub struct Use {
    /// As written, relative to the file that says it.
    pub path: Arc<str>,
    pub path_span: Span,
    pub what: Used,
    pub span: Span,
}

/// Which names a [`Use`] brings.
#[derive(Clone, Debug)]
pub enum Used {
    /// All of the file's own.
    All,
    /// One, for the whole file: `use "path.nn" as name`, then `name.item`.
    Module(Name),
    /// `use "path.nn" { a, b as c }`.
    Names(Vec<UsedName>),
}

/// A name that a [`Use`] asks for.
#[derive(Clone, Debug)]
pub struct UsedName {
    pub name: Name,
    /// What it is called here.
    pub alias: Option<Name>,
}

/// The lines of a `///` comment, without the slashes.
pub type Doc = Option<Arc<str>>;

/// Which keyword introduced a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefinitionKind {
    Function,
    Layer,
    Model,
    Optimizer,
}

/// `fn`, `layer`, `model` or `optimizer`.
#[derive(Clone, Debug)]
pub struct Definition {
    pub kind: DefinitionKind,
    pub name: Name,
    pub parameters: Vec<Parameter>,
    pub body: Block,
    pub doc: Doc,
    /// From the keyword to the closing bracket.
    pub span: Span,
}

/// A parameter of a definition or a lambda.
#[derive(Clone, Debug)]
pub struct Parameter {
    pub name: Name,
    pub ty: Option<TypeExpression>,
    pub default: Option<Expression>,
}

/// `f32[.., n]`, `index(classes)[batch]`, `f32[]`.
#[derive(Clone, Debug)]
pub struct TypeExpression {
    pub dtype: DTypeExpression,
    /// `..` or `..lead` may stand first.
    pub lead: Option<Lead>,
    pub dims: Vec<Expression>,
    pub span: Span,
}

/// The leading dims of a type.
#[derive(Clone, Debug)]
pub struct Lead {
    pub name: Option<Name>,
    pub span: Span,
}

/// The element type of a [`TypeExpression`].
#[derive(Clone, Debug)]
pub enum DTypeExpression {
    /// `f32`, ...: a name that the checker looks up.
    Named(Name),
    /// `index(K)`.
    Index { classes: Box<Expression>, span: Span },
}

/// Statements in braces.
#[derive(Clone, Debug)]
pub struct Block {
    pub statements: Vec<Statement>,
    /// The braces included.
    pub span: Span,
}

/// A statement with its place.
#[derive(Clone, Debug)]
pub struct Statement {
    pub kind: StatementKind,
    pub doc: Doc,
    pub span: Span,
}

/// What a statement says.
#[derive(Clone, Debug)]
pub enum StatementKind {
    /// `a = e` or `a, b = e`.
    Bind {
        names: Vec<Name>,
        value: Expression,
    },
    /// `name <- e`: the new value of a state, a parameter or (in an optimizer) `param`.
    Update {
        name: Name,
        value: Expression,
    },
    /// `param w: f32[n] = init`.
    Param {
        name: Name,
        ty: Option<TypeExpression>,
        init: Option<Expression>,
    },
    /// `state m: f32[n] = init`, and `state m = zeros` in an optimizer.
    State {
        name: Name,
        ty: Option<TypeExpression>,
        init: Option<Expression>,
    },
    Input {
        name: Name,
        ty: TypeExpression,
    },
    Target {
        name: Name,
        ty: TypeExpression,
    },
    /// `output name = e`; `output name` alone is short for `output name = name`.
    Output {
        name: Name,
        value: Expression,
    },
    Loss {
        name: Name,
        value: Expression,
    },
    Metric {
        name: Name,
        value: Expression,
    },
    /// A definition inside a body.
    Define(Arc<Definition>),
    Return(Expression),
    For {
        names: Vec<Name>,
        iterable: Expression,
        body: Block,
    },
    /// `if` without a value: statements of the taken branch belong to the surrounding scope.
    If {
        condition: Expression,
        then: Block,
        otherwise: Option<Block>,
    },
    Scan(Arc<Scan>),
    /// An expression; the last one of a body is its result.
    Expression(Expression),
}

/// `scan x in xs, y in ys axis 1 reverse carry h: T = 0 { ... yield h } -> hs`.
#[derive(Clone, Debug)]
pub struct Scan {
    pub sources: Vec<(Name, Expression)>,
    pub axis: Option<Expression>,
    pub reverse: bool,
    pub carries: Vec<Carry>,
    pub body: Block,
    /// The values of the body's `yield`.
    pub yields: Vec<Expression>,
    /// The names after `->`.
    pub results: Vec<Name>,
    pub span: Span,
}

/// A carried value of a scan.
#[derive(Clone, Debug)]
pub struct Carry {
    pub name: Name,
    pub ty: Option<TypeExpression>,
    pub initial: Expression,
}

/// An expression with its place.
#[derive(Clone, Debug)]
pub struct Expression {
    pub kind: ExpressionKind,
    pub span: Span,
}

/// What an expression says.
#[derive(Clone, Debug)]
pub enum ExpressionKind {
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(Arc<str>),
    Name(Arc<str>),
    List(Vec<Expression>),
    Tuple(Vec<Expression>),
    /// `[element for names in iterable]`.
    Comprehension {
        element: Box<Expression>,
        names: Vec<Name>,
        iterable: Box<Expression>,
    },
    /// `a..b`.
    Range {
        start: Box<Expression>,
        end: Box<Expression>,
    },
    Unary {
        operator: UnaryOperator,
        operand: Box<Expression>,
    },
    Binary {
        operator: BinaryOperator,
        left: Box<Expression>,
        right: Box<Expression>,
        operator_span: Span,
    },
    /// `x |> f` or `x |> f(a)`; `call` is the right side as written.
    Pipe {
        value: Box<Expression>,
        call: Box<Expression>,
    },
    If {
        condition: Box<Expression>,
        then: Block,
        otherwise: Box<Otherwise>,
    },
    Call {
        callee: Box<Expression>,
        arguments: Vec<CallArgument>,
    },
    Index {
        value: Box<Expression>,
        subscripts: Vec<Subscript>,
    },
    Field {
        value: Box<Expression>,
        name: Name,
    },
    /// `|x, y| e` or `|x| { statements }`.
    Lambda(Arc<Lambda>),
}

/// The `else` of an `if` expression.
#[derive(Clone, Debug)]
pub enum Otherwise {
    Block(Block),
    /// `else if`.
    If(Expression),
}

/// An anonymous layer.
#[derive(Clone, Debug)]
pub struct Lambda {
    pub parameters: Vec<Parameter>,
    /// An expression body is a block of one expression statement.
    pub body: Block,
    pub span: Span,
}

/// An argument of a call.
#[derive(Clone, Debug)]
pub struct CallArgument {
    pub name: Option<Name>,
    pub value: Expression,
}

/// One subscript of `x[...]`.
#[derive(Clone, Debug)]
pub enum Subscript {
    At(Expression),
    /// `start:stop:step`, each optional; `:` is the whole axis.
    Slice {
        start: Option<Expression>,
        stop: Option<Expression>,
        step: Option<Expression>,
        span: Span,
    },
    /// `..`: as many whole axes as are left.
    Rest(Span),
}

/// A unary operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOperator {
    Negate,
    Not,
}

/// A binary operator (`|>` is a node of its own).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOperator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    MatrixProduct,
    Power,
}

impl BinaryOperator {
    /// The operator as written.
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOperator::Or => "or",
            BinaryOperator::And => "and",
            BinaryOperator::Equal => "==",
            BinaryOperator::NotEqual => "!=",
            BinaryOperator::Less => "<",
            BinaryOperator::LessEqual => "<=",
            BinaryOperator::Greater => ">",
            BinaryOperator::GreaterEqual => ">=",
            BinaryOperator::Add => "+",
            BinaryOperator::Subtract => "-",
            BinaryOperator::Multiply => "*",
            BinaryOperator::Divide => "/",
            BinaryOperator::FloorDivide => "//",
            BinaryOperator::Remainder => "%",
            BinaryOperator::MatrixProduct => "@",
            BinaryOperator::Power => "^",
        }
    }
}

/// `data Name { split { field = reader } ... }`.
#[derive(Clone, Debug)]
pub struct DataBlock {
    /// The model meant, in a file with several.
    pub model: Option<Name>,
    pub splits: Vec<Split>,
    pub span: Span,
}

/// One split of a data block.
#[derive(Clone, Debug)]
pub struct Split {
    pub name: Name,
    pub contents: Vec<SplitEntry>,
    pub span: Span,
}

/// What a split holds.
#[derive(Clone, Debug)]
pub enum SplitEntry {
    /// `field = idx("...")`; the reader is a call expression whose arguments are compile-time values.
    Bind { name: Name, reader: Expression },
    /// `from train`.
    From { split: Name },
    /// `take 0.2`, `take first 1000`, `take last 1000`.
    Take { place: Option<Name>, amount: Expression },
}

/// `train Name { ... }`.
#[derive(Clone, Debug)]
pub struct TrainBlock {
    pub model: Option<Name>,
    pub entries: Vec<TrainEntry>,
    pub span: Span,
}

/// One line of a recipe with its place.
#[derive(Clone, Debug)]
pub struct TrainEntry {
    pub kind: TrainEntryKind,
    pub span: Span,
}

/// What a line of a recipe says.
#[derive(Clone, Debug)]
pub enum TrainEntryKind {
    Epochs(Expression),
    Steps(Expression),
    Batch(Expression),
    Seed(Expression),
    Shuffle(Expression),
    /// A fraction of the training rows (the last ones) or the name of a split.
    Validate(Expression),
    Minimize {
        loss: Name,
        over: Vec<Expression>,
        with: Expression,
        times: Option<Expression>,
    },
    /// `clip norm X` or `clip value X`; the word is kept for the checker.
    Clip {
        what: Name,
        limit: Expression,
    },
    Accumulate(Expression),
    Freeze(Vec<Expression>),
    Load {
        path: Expression,
        into: Option<Expression>,
    },
    /// `stop when EXPR`.
    StopWhen(Expression),
    /// `stop when METRIC has not improved for N epochs`.
    StopNotImproved {
        metric: Expression,
        count: Expression,
        unit: Name,
    },
    KeepBest(Expression),
    Checkpoint {
        every: Expression,
        unit: Name,
    },
    Average {
        what: Name,
        decay: Expression,
    },
    Phase {
        name: Arc<str>,
        entries: Vec<TrainEntry>,
    },
}
