//! Mistakes as the client shows them.

use lsp_types::{Diagnostic, DiagnosticRelatedInformation, DiagnosticSeverity};

use super::Context;
use crate::diag::{self, FileId, Severity};
use crate::frontend::ast::Item;

/// Every mistake of the document.
pub fn diagnostics(context: &Context<'_>) -> Vec<Diagnostic> {
    context.analysis.diagnostics.iter().map(|diagnostic| translate(context, diagnostic)).collect()
}

/// One mistake. What the command line prints below the source line stands below the message.
pub fn translate(context: &Context<'_>, diagnostic: &diag::Diagnostic) -> Diagnostic {
    let primary = diagnostic.labels.first().filter(|l| l.span.file == FileId(0));
    // A mistake in a used file is shown where the first one is used, and leads into it.
    let used = context.analysis.project.items().iter().find(|item| matches!(item, Item::Use(_))).map(Item::span);
    let span = primary.map(|l| l.span).or(used.filter(|_| !diagnostic.labels.is_empty()));
    let range = span.map_or_else(|| context.range(0, 0), |span| context.range(span.start, span.end));
    let mut message = diagnostic.message.clone();
    let below = primary.map(|l| &l.text).filter(|text| !text.is_empty()).into_iter().chain(&diagnostic.notes);
    for line in below {
        message.push('\n');
        message.push_str(line);
    }
    if let Some(help) = &diagnostic.help {
        message.push_str("\nhelp: ");
        message.push_str(help);
    }
    let further = diagnostic.labels.iter().skip(usize::from(primary.is_some()));
    let related: Vec<DiagnosticRelatedInformation> = further
        .filter_map(|label| {
            let message = if label.text.is_empty() { "here".to_owned() } else { label.text.clone() };
            Some(DiagnosticRelatedInformation { location: context.location(label.span)?, message })
        })
        .collect();
    Diagnostic {
        range,
        severity: Some(match diagnostic.severity {
            Severity::Error => DiagnosticSeverity::ERROR,
            Severity::Warning => DiagnosticSeverity::WARNING,
        }),
        source: Some("nnc".to_owned()),
        message,
        related_information: if related.is_empty() { None } else { Some(related) },
        ..Diagnostic::default()
    }
}
