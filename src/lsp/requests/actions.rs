//! Quick fixes: what a `did you mean` suggests.

use std::collections::HashMap;

use lsp_types::{CodeAction, CodeActionKind, CodeActionOrCommand, CodeActionParams, TextEdit, WorkspaceEdit};

use super::{Answer, Context, diagnostics};
use crate::diag::{Diagnostic, FileId};

pub fn actions(context: &Context<'_>, params: CodeActionParams) -> Answer<Vec<CodeActionOrCommand>> {
    let (start, end) = (context.offset(params.range.start), context.offset(params.range.end));
    let touches = |d: &&Diagnostic| d.span().is_some_and(|s| s.file == FileId(0) && s.start <= end && start <= s.end);
    let found = context.analysis.diagnostics.iter().filter(touches);
    Ok(found.filter_map(|diagnostic| fix(context, diagnostic)).map(CodeActionOrCommand::CodeAction).collect())
}

/// Replaces the word that the diagnostic underlines by the one that it suggests.
fn fix(context: &Context<'_>, diagnostic: &Diagnostic) -> Option<CodeAction> {
    let suggested = diagnostic.help.as_ref()?.strip_prefix("did you mean `")?.split('`').next()?;
    let span = diagnostic.span().filter(|span| span.file == FileId(0))?;
    let written = context.analysis.slice(span.start, span.end);
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_word(written) || !is_word(suggested) {
        return None;
    }
    let edit = TextEdit { range: context.range(span.start, span.end), new_text: suggested.to_owned() };
    Some(CodeAction {
        title: format!("Change `{written}` to `{suggested}`"),
        kind: Some(CodeActionKind::QUICKFIX),
        diagnostics: Some(vec![diagnostics::translate(context, diagnostic)]),
        edit: Some(edits(context, vec![edit])),
        is_preferred: Some(true),
        ..CodeAction::default()
    })
}

/// Changes of the document.
#[expect(clippy::mutable_key_type, reason = "the protocol's type; a URI keeps what it says")]
pub fn edits(context: &Context<'_>, edits: Vec<TextEdit>) -> WorkspaceEdit {
    let changes = HashMap::from([(context.uri.clone(), edits)]);
    WorkspaceEdit { changes: Some(changes), ..WorkspaceEdit::default() }
}
