//! The part of Markdown that doc comments are written in: paragraphs, lists, blocks of code, and code inside a line.
//!
//! A line that begins with one word and a colon (`Shapes: ...`) begins a paragraph of its own, with that word as its label.

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    Paragraph { label: Option<String>, text: Vec<Inline> },
    List(Vec<Vec<Inline>>),
    Code { language: String, text: String },
}

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inline {
    Text(String),
    Code(String),
}

/// Reads a text.
pub fn parse(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut pending: Vec<&str> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let trimmed = line.trim();
        if let Some(language) = trimmed.strip_prefix("```") {
            flush(&mut pending, &mut blocks);
            let code: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
            blocks.push(Block::Code { language: language.trim().to_owned(), text: code.join("\n") });
        } else if trimmed.is_empty() {
            flush(&mut pending, &mut blocks);
        } else {
            if begins_block(trimmed, &pending) {
                flush(&mut pending, &mut blocks);
            }
            pending.push(trimmed);
        }
    }
    flush(&mut pending, &mut blocks);
    blocks
}

fn is_item(line: &str) -> bool {
    line.starts_with("- ") || line.starts_with("* ")
}

/// Whether the line cannot go on with the lines before it.
fn begins_block(line: &str, before: &[&str]) -> bool {
    let in_list = before.first().is_some_and(|first| is_item(first));
    label(line).is_some() || (is_item(line) && !in_list && !before.is_empty())
}

/// The label of a line, and what follows.
pub(super) fn label(line: &str) -> Option<(&str, &str)> {
    let (word, rest) = line.split_once(": ")?;
    let capital = word.chars().next().is_some_and(|c| c.is_ascii_uppercase());
    (capital && word.chars().count() > 1 && word.chars().all(char::is_alphanumeric)).then_some((word, rest))
}

/// Makes a block of the lines that were collected.
fn flush(pending: &mut Vec<&str>, blocks: &mut Vec<Block>) {
    let lines = std::mem::take(pending);
    let Some(first) = lines.first() else { return };
    if is_item(first) {
        let mut items: Vec<String> = Vec::new();
        for line in lines {
            match (is_item(line), items.last_mut()) {
                (false, Some(item)) => *item = format!("{item} {line}"),
                _ => items.push(line[2..].to_owned()),
            }
        }
        return blocks.push(Block::List(items.iter().map(|item| inline(item)).collect()));
    }
    let text = lines.join(" ");
    let (label, rest) = match label(&text) {
        Some((label, rest)) => (Some(label.to_owned()), rest),
        None => (None, text.as_str()),
    };
    blocks.push(Block::Paragraph { label, text: inline(rest) });
}

/// Cuts a line at its backticks; one without a partner is text.
pub fn inline(text: &str) -> Vec<Inline> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('`') {
        let Some((code, behind)) = after.split_once('`') else { break };
        if !before.is_empty() {
            pieces.push(Inline::Text(before.to_owned()));
        }
        pieces.push(Inline::Code(code.to_owned()));
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Inline::Text(rest.to_owned()));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Vec<Inline> {
        vec![Inline::Text(text.to_owned())]
    }

    #[test]
    fn paragraphs_lists_labels_and_code_are_told_apart() {
        let text = "One line,\nand more.\nShapes: `x`\n- a\n  b\n- c\n```nn\ny = x\n\nz\n```\nlast";
        let code = Block::Code { language: "nn".into(), text: "y = x\n\nz".into() };
        let wanted = vec![
            Block::Paragraph { label: None, text: plain("One line, and more.") },
            Block::Paragraph { label: Some("Shapes".into()), text: vec![Inline::Code("x".into())] },
            Block::List(vec![plain("a b"), plain("c")]),
            code,
            Block::Paragraph { label: None, text: plain("last") },
        ];
        assert_eq!(parse(text), wanted);
    }

    #[test]
    fn a_backtick_without_a_partner_is_text() {
        assert_eq!(
            inline("a `b` c`d"),
            [Inline::Text("a ".into()), Inline::Code("b".into()), Inline::Text(" c`d".into())]
        );
    }
}
