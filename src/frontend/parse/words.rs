//! The grammar's rules in the user's words.

use super::Rule;

/// Whether a rule is a keyword or a sign that holds nothing.
pub(super) fn is_mark(rule: Rule) -> bool {
    word(rule).is_some() || sign(rule).is_some() || matches!(rule, Rule::op_pipe | Rule::separator | Rule::EOI)
}

/// What a rule of the grammar asks for, as it stands in a sentence. Rules that are never all that is missing give nothing.
pub(super) fn phrase(rule: Rule) -> Option<String> {
    let phrase = match rule {
        Rule::expression | Rule::expressions | Rule::operation | Rule::operand | Rule::argument => "a value",
        Rule::name | Rule::names | Rule::parameter | Rule::carry | Rule::scan_source | Rule::used_name => "a name",
        Rule::field_name => "the name of a field",
        Rule::type_expression => "a type such as `f32[n]`",
        Rule::index_dtype | Rule::lead => return None,
        Rule::block | Rule::scan_body => "`{`",
        Rule::parameters => "`(`",
        Rule::use_alias => "`as`",
        Rule::use_names => "`{`",
        Rule::statement => "a statement",
        Rule::separator | Rule::EOI => "the end of the statement",
        Rule::item | Rule::definition | Rule::const_item => {
            "`model`, `layer`, `fn`, `optimizer`, `data`, `train`, `const` or `use`"
        }
        Rule::split_name | Rule::split => "the name of a split, such as `train`",
        Rule::train_entry => "an entry of a recipe, such as `epochs 12`",
        Rule::subscript => "an index",
        Rule::text => "a string in double quotes",
        rule if is_operator(rule) => "an operator",
        rule => return word(rule).or(sign(rule)).map(|word| format!("`{word}`")),
    };
    Some(phrase.to_owned())
}

/// Whether a rule is what may follow an operand.
pub(super) fn is_operator(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::op_add
            | Rule::op_subtract
            | Rule::op_multiply
            | Rule::op_divide
            | Rule::op_floor_divide
            | Rule::op_remainder
            | Rule::op_matrix_product
            | Rule::op_power
            | Rule::op_equal
            | Rule::op_not_equal
            | Rule::op_less
            | Rule::op_less_equal
            | Rule::op_greater
            | Rule::op_greater_equal
            | Rule::op_range
            | Rule::op_pipe
            | Rule::word_or
            | Rule::word_and
            | Rule::call
            | Rule::index
            | Rule::field
    )
}

/// The sign of a punctuation rule.
fn sign(rule: Rule) -> Option<&'static str> {
    Some(match rule {
        Rule::colon => ":",
        Rule::assign => "=",
        Rule::bar => "|",
        Rule::comma => ",",
        Rule::op_arrow => "->",
        Rule::op_update => "<-",
        Rule::open_brace => "{",
        Rule::close_brace => "}",
        Rule::open_bracket => "[",
        Rule::close_bracket => "]",
        Rule::close_paren => ")",
        _ => return None,
    })
}

/// The word of a keyword rule.
pub(super) fn word(rule: Rule) -> Option<&'static str> {
    Some(match rule {
        Rule::word_use => "use",
        Rule::word_const => "const",
        Rule::word_fn => "fn",
        Rule::word_layer => "layer",
        Rule::word_model => "model",
        Rule::word_optimizer => "optimizer",
        Rule::word_data => "data",
        Rule::word_train => "train",
        Rule::word_input => "input",
        Rule::word_target => "target",
        Rule::word_param => "param",
        Rule::word_state => "state",
        Rule::word_output => "output",
        Rule::word_loss => "loss",
        Rule::word_metric => "metric",
        Rule::word_if => "if",
        Rule::word_else => "else",
        Rule::word_for => "for",
        Rule::word_in => "in",
        Rule::word_scan => "scan",
        Rule::word_return => "return",
        Rule::word_and => "and",
        Rule::word_or => "or",
        Rule::word_not => "not",
        Rule::word_over => "over",
        Rule::word_with => "with",
        Rule::word_as => "as",
        Rule::word_index => "index",
        Rule::word_axis => "axis",
        Rule::word_reverse => "reverse",
        Rule::word_carry => "carry",
        Rule::word_yield => "yield",
        Rule::word_from => "from",
        Rule::word_take => "take",
        Rule::word_epochs => "epochs",
        Rule::word_steps => "steps",
        Rule::word_batch => "batch",
        Rule::word_seed => "seed",
        Rule::word_shuffle => "shuffle",
        Rule::word_validate => "validate",
        Rule::word_minimize => "minimize",
        Rule::word_times => "times",
        Rule::word_clip => "clip",
        Rule::word_accumulate => "accumulate",
        Rule::word_freeze => "freeze",
        Rule::word_load => "load",
        Rule::word_into => "into",
        Rule::word_stop => "stop",
        Rule::word_when => "when",
        Rule::word_has => "has",
        Rule::word_improved => "improved",
        Rule::word_keep => "keep",
        Rule::word_best => "best",
        Rule::word_checkpoint => "checkpoint",
        Rule::word_every => "every",
        Rule::word_average => "average",
        Rule::word_phase => "phase",
        _ => return None,
    })
}
