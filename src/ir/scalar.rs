//! The table of scalar functions: name, arity, meaning in f64, and the dtypes they work on.
//!
//! Elementwise tensor functions (the `map` op), loop instructions and both interpreters share this table.
//! What each function computes is in [`meaning`], its gradient in [`derivative`]; how it is
//! expanded into simpler ones for code generation is in `passes/expand_math`.

use super::types::DType;

pub mod derivative;
pub mod meaning;

/// The dtype rule of a scalar function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// All operands of one dtype, which is the result's.
    Same,
    /// As `Same`, floats only.
    Float,
    /// Two operands of one dtype; the result is `bool`.
    Compare,
    /// `bool` operands and result, or integers of one dtype bitwise.
    Logic,
    /// A `bool`, then two of one dtype, which is the result's.
    Select,
    /// As `Same`, integers only.
    Integer,
}

macro_rules! scalar_functions {
    ($($variant:ident $name:literal $arity:literal $rule:ident $doc:literal;)*) => {
        /// A function of scalars. The low-level ones at the end exist for expansions and random numbers only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ScalarFunction { $(#[doc = $doc] $variant,)* }

        impl ScalarFunction {
            /// All functions, in the order of the table.
            pub const ALL: &'static [ScalarFunction] = &[$(ScalarFunction::$variant,)*];

            /// The name in text forms and, where it has no operator, in the language.
            pub fn name(self) -> &'static str {
                match self { $(ScalarFunction::$variant => $name,)* }
            }

            /// The number of operands.
            pub fn arity(self) -> usize {
                match self { $(ScalarFunction::$variant => $arity,)* }
            }

            /// The dtype rule.
            pub fn rule(self) -> Rule {
                match self { $(ScalarFunction::$variant => Rule::$rule,)* }
            }

            /// One line: what it computes.
            pub fn doc(self) -> &'static str {
                match self { $(ScalarFunction::$variant => $doc,)* }
            }
        }
    };
}

scalar_functions! {
    Add "add" 2 Same "a + b; integers wrap";
    Sub "sub" 2 Same "a - b; integers wrap";
    Mul "mul" 2 Same "a * b; integers wrap";
    Div "div" 2 Same "a / b; integers truncate toward zero, x / 0 = 0";
    Mod "mod" 2 Same "a - floor(a / b) * b, the sign of b as in Python; x mod 0 = 0 for integers";
    Pow "pow" 2 Float "a to the power b";
    Atan2 "atan2" 2 Float "the angle of the point (b, a)";
    Min "min" 2 Same "the smaller: a if a < b or a is NaN, else b";
    Max "max" 2 Same "the larger: a if a > b or a is NaN, else b";
    Equal "equal" 2 Compare "a == b";
    NotEqual "not_equal" 2 Compare "a != b";
    Less "less" 2 Compare "a < b";
    LessEqual "less_equal" 2 Compare "a <= b";
    Greater "greater" 2 Compare "a > b";
    GreaterEqual "greater_equal" 2 Compare "a >= b";
    And "and" 2 Logic "a and b, bitwise for integers";
    Or "or" 2 Logic "a or b, bitwise for integers";
    Not "not" 1 Logic "not a, bitwise for integers";
    Select "select" 3 Select "if c { a } else { b }";
    Neg "neg" 1 Same "-x";
    Abs "abs" 1 Same "the magnitude";
    Sign "sign" 1 Same "-1, 0 or 1; NaN stays NaN";
    Floor "floor" 1 Float "the largest whole number not above x";
    Ceil "ceil" 1 Float "the smallest whole number not below x";
    Round "round" 1 Float "the nearest whole number, halves to even";
    Sqrt "sqrt" 1 Float "the square root";
    Rsqrt "rsqrt" 1 Float "1 / sqrt(x)";
    Exp "exp" 1 Float "e to the power x";
    Log "log" 1 Float "the natural logarithm";
    Log1p "log1p" 1 Float "log(1 + x) without cancellation";
    Expm1 "expm1" 1 Float "exp(x) - 1 without cancellation";
    Sin "sin" 1 Float "the sine of x radians";
    Cos "cos" 1 Float "the cosine of x radians";
    Tan "tan" 1 Float "the tangent of x radians";
    Atan "atan" 1 Float "the angle in (-pi/2, pi/2) whose tangent is x";
    Tanh "tanh" 1 Float "the hyperbolic tangent";
    Sigmoid "sigmoid" 1 Float "1 / (1 + exp(-x))";
    Erf "erf" 1 Float "the error function 2/sqrt(pi) * integral of exp(-t^2) from 0 to x";
    Fma "fma" 3 Float "a * b + c, rounded once";
    Xor "xor" 2 Integer "bitwise exclusive or";
    ShiftLeft "shift_left" 2 Integer "a << b for 0 <= b < bits";
    ShiftRight "shift_right" 2 Integer "a >> b for 0 <= b < bits; keeps the sign of signed integers";
    MulHigh "mul_high" 2 Integer "the upper half of the double-width product";
}

impl ScalarFunction {
    /// The function called `name`.
    pub fn from_name(name: &str) -> Option<ScalarFunction> {
        Self::ALL.iter().copied().find(|f| f.name() == name)
    }

    /// The dtype of the result for operands of the given dtypes, which are assumed to obey the rule.
    pub fn result_dtype(self, operands: &[DType]) -> DType {
        match self.rule() {
            Rule::Compare => DType::Bool,
            Rule::Select => operands[1],
            _ => operands[0],
        }
    }

    /// Whether operands of the given dtypes obey the rule.
    pub fn accepts(self, operands: &[DType]) -> bool {
        if operands.len() != self.arity() {
            return false;
        }
        let same = |d: &[DType]| d.windows(2).all(|p| p[0] == p[1]);
        match self.rule() {
            Rule::Same => same(operands) && operands[0] != DType::Bool,
            Rule::Float => same(operands) && operands[0].is_float(),
            Rule::Compare => same(operands),
            Rule::Logic => same(operands) && !operands[0].is_float(),
            Rule::Select => operands[0] == DType::Bool && same(&operands[1..]),
            Rule::Integer => same(operands) && operands[0].is_integer(),
        }
    }
}

/// A commutative fold with a neutral element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Monoid {
    Sum,
    Prod,
    Max,
    Min,
    /// The index (`i32`) of the first largest element along one axis; NaN counts as largest, as in NumPy.
    ArgMax,
    /// The index (`i32`) of the first smallest element along one axis; NaN counts as smallest, as in NumPy.
    ArgMin,
}

impl Monoid {
    /// All monoids with the names they have in text forms and in the language.
    pub const ALL: [(&'static str, Monoid); 6] = [
        ("sum", Monoid::Sum),
        ("prod", Monoid::Prod),
        ("max", Monoid::Max),
        ("min", Monoid::Min),
        ("argmax", Monoid::ArgMax),
        ("argmin", Monoid::ArgMin),
    ];

    /// The name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, m)| *m == self).map(|(n, _)| *n).expect("every monoid is in the table")
    }
}

impl Monoid {
    /// The monoid called `name`.
    pub fn from_name(name: &str) -> Option<Monoid> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, m)| *m)
    }

    /// The fold of no elements of `dtype`; for the index folds, the value that every element beats or equals.
    pub fn neutral(self, dtype: DType) -> f64 {
        match self {
            Monoid::Sum => 0.0,
            Monoid::Prod => 1.0,
            Monoid::Max | Monoid::ArgMax => meaning::range(dtype).0,
            Monoid::Min | Monoid::ArgMin => meaning::range(dtype).1,
        }
    }
}
