//! Doc comments as the library writes them: sentences, labelled lines, blocks of code.

/// A comment in its parts.
#[derive(Default)]
pub struct Comment {
    /// The sentences before the first label.
    pub text: String,
    labelled: Vec<(String, String)>,
    /// The blocks that are marked as `nn`.
    pub examples: Vec<String>,
}

impl Comment {
    /// Reads a comment, which is without its `///`.
    pub fn parse(text: &str) -> Comment {
        let mut comment = Comment::default();
        let mut lines = text.lines();
        let mut in_label = false;
        while let Some(line) = lines.next() {
            if let Some(language) = line.trim().strip_prefix("```") {
                let block: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
                if language == "nn" {
                    comment.examples.push(block.join("\n"));
                }
            } else if let Some((label, rest)) = label(line) {
                in_label = true;
                comment.labelled.push((label.to_owned(), rest.to_owned()));
            } else {
                let into = match comment.labelled.last_mut() {
                    Some((_, text)) if in_label => text,
                    _ => &mut comment.text,
                };
                if !into.is_empty() {
                    into.push(' ');
                }
                into.push_str(line.trim());
            }
        }
        comment
    }

    /// The text after `LABEL: `.
    pub fn labelled(&self, label: &str) -> Option<&str> {
        self.labelled.iter().find(|(own, _)| own == label).map(|(_, text)| text.trim())
    }
}

/// A line that begins with a capitalised word and a colon begins a labelled part.
fn label(line: &str) -> Option<(&str, &str)> {
    let (word, rest) = line.trim().split_once(": ")?;
    let is_word = word.chars().all(char::is_alphanumeric) && word.starts_with(|c: char| c.is_ascii_uppercase());
    (is_word && word.len() > 1).then_some((word, rest))
}

#[test]
fn a_comment_has_parts() {
    let text = "Adds.\nMore.\nEquation: y = a\n  + b\nSource: NumPy\n```nn\nx = 1\n```\n```text\nno\n```";
    let comment = Comment::parse(text);
    assert_eq!(comment.text, "Adds. More.");
    assert_eq!(comment.labelled("Equation"), Some("y = a + b"));
    assert_eq!(comment.labelled("Source"), Some("NumPy"));
    assert_eq!(comment.labelled("Shapes"), None);
    assert_eq!(comment.examples, ["x = 1"]);
}
