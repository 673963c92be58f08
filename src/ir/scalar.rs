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
    ($($variant:ident $name:literal $arity:literal $rule:ident $doc:literal $derivative:literal $error:literal;)*) => {
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

            /// The gradients of the operands, as equations, or why there are none.
            pub fn derivative(self) -> &'static str {
                match self { $(ScalarFunction::$variant => $derivative,)* }
            }

            /// The largest error in f32, in units in the last place, or `exact`.
            pub fn error(self) -> &'static str {
                match self { $(ScalarFunction::$variant => $error,)* }
            }
        }
    };
}

// Each row: name, arity, dtype rule, what it computes; then its gradients and its largest error in f32.
scalar_functions! {
    Add "add" 2 Same "a + b; integers wrap"
        "da = dy, db = dy" "0.5";
    Sub "sub" 2 Same "a - b; integers wrap"
        "da = dy, db = -dy" "0.5";
    Mul "mul" 2 Same "a * b; integers wrap"
        "da = dy * b, db = dy * a" "0.5";
    Div "div" 2 Same "a / b; integers truncate toward zero, x / 0 = 0"
        "da = dy / b, db = -dy / b * y" "0.5";
    Mod "mod" 2 Same "a - floor(a / b) * b, the sign of b as in Python; x mod 0 = 0 for integers"
        "da = dy, db = -dy * floor(a / b)" "0.5 of the magnitude of a; a / b, its floor and the difference are rounded once each";
    Pow "pow" 2 Float "a to the power b"
        "da = dy * b * a^(b - 1), 0 where b = 0; db = dy * y * log(a), 0 where a = 0 and b >= 0" "0.5";
    Atan2 "atan2" 2 Float "the angle of the point (b, a)"
        "da = dy * b / (a^2 + b^2), db = -dy * a / (a^2 + b^2)" "2";
    Min "min" 2 Same "the smaller: a if a < b or a is NaN, else b"
        "dy to a where a < b, else to b" "exact";
    Max "max" 2 Same "the larger: a if a > b or a is NaN, else b"
        "dy to a where a > b, else to b" "exact";
    Equal "equal" 2 Compare "a == b"
        "none: the result is bool" "exact";
    NotEqual "not_equal" 2 Compare "a != b"
        "none: the result is bool" "exact";
    Less "less" 2 Compare "a < b"
        "none: the result is bool" "exact";
    LessEqual "less_equal" 2 Compare "a <= b"
        "none: the result is bool" "exact";
    Greater "greater" 2 Compare "a > b"
        "none: the result is bool" "exact";
    GreaterEqual "greater_equal" 2 Compare "a >= b"
        "none: the result is bool" "exact";
    And "and" 2 Logic "a and b, bitwise for integers"
        "none: no float" "exact";
    Or "or" 2 Logic "a or b, bitwise for integers"
        "none: no float" "exact";
    Not "not" 1 Logic "not a, bitwise for integers"
        "none: no float" "exact";
    Select "select" 3 Select "if c { a } else { b }"
        "dy to a where c, else to b" "exact";
    Neg "neg" 1 Same "-x"
        "dx = -dy" "exact";
    Abs "abs" 1 Same "the magnitude"
        "dx = dy * sign(x)" "exact";
    Sign "sign" 1 Same "-1, 0 or 1; NaN stays NaN"
        "0" "exact";
    Floor "floor" 1 Float "the largest whole number not above x"
        "0" "exact";
    Ceil "ceil" 1 Float "the smallest whole number not below x"
        "0" "exact";
    Round "round" 1 Float "the nearest whole number, halves to even"
        "0" "exact";
    Sqrt "sqrt" 1 Float "the square root"
        "dx = dy / (2 y)" "0.5";
    Rsqrt "rsqrt" 1 Float "1 / sqrt(x)"
        "dx = dy * y / (-2 x)" "1.5";
    Exp "exp" 1 Float "e to the power x"
        "dx = dy * y" "1.02";
    Log "log" 1 Float "the natural logarithm"
        "dx = dy / x" "0.88";
    Log1p "log1p" 1 Float "log(1 + x) without cancellation"
        "dx = dy / (1 + x)" "1.2";
    Expm1 "expm1" 1 Float "exp(x) - 1 without cancellation"
        "dx = dy * (y + 1)" "1.61";
    Sin "sin" 1 Float "the sine of x radians"
        "dx = dy * cos(x)" "0.5";
    Cos "cos" 1 Float "the cosine of x radians"
        "dx = -dy * sin(x)" "0.5";
    Tan "tan" 1 Float "the tangent of x radians"
        "dx = dy * (1 + y^2)" "0.5";
    Atan "atan" 1 Float "the angle in (-pi/2, pi/2) whose tangent is x"
        "dx = dy / (1 + x^2)" "1.2";
    Tanh "tanh" 1 Float "the hyperbolic tangent"
        "dx = dy * (1 - y^2)" "1.42";
    Sigmoid "sigmoid" 1 Float "1 / (1 + exp(-x))"
        "dx = dy * y * (1 - y)" "1.97";
    Erf "erf" 1 Float "the error function 2/sqrt(pi) * integral of exp(-t^2) from 0 to x"
        "dx = dy * 2/sqrt(pi) * exp(-x^2)" "1.1";
    Fma "fma" 3 Float "a * b + c, rounded once"
        "da = dy * b, db = dy * a, dc = dy" "0.5";
    Xor "xor" 2 Integer "bitwise exclusive or"
        "none: no float" "exact";
    ShiftLeft "shift_left" 2 Integer "a << b for 0 <= b < bits"
        "none: no float" "exact";
    ShiftRight "shift_right" 2 Integer "a >> b for 0 <= b < bits; keeps the sign of signed integers"
        "none: no float" "exact";
    MulHigh "mul_high" 2 Integer "the upper half of the double-width product"
        "none: no float" "exact";
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
