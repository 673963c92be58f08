//! What may be written at a place.

use lsp_types::{
    CompletionItem, CompletionItemKind, CompletionItemLabelDetails, CompletionParams, CompletionResponse,
    CompletionTextEdit, Documentation, TextEdit,
};

use super::hover::markdown;
use super::{Answer, Context};
use crate::lsp::analysis::complete::{Candidate, CandidateKind};

pub fn completion(context: &Context<'_>, params: CompletionParams) -> Answer<CompletionResponse> {
    let at = context.offset(params.text_document_position.position);
    let (start, candidates) = context.analysis.complete(at);
    let range = context.range(start, at);
    let items = candidates.into_iter().map(|candidate| item(candidate, range)).collect();
    Ok(CompletionResponse::Array(items))
}

fn item(candidate: Candidate, range: lsp_types::Range) -> CompletionItem {
    let Candidate { name, kind, detail, doc, rank } = candidate;
    let text = if kind == CandidateKind::Argument { format!("{name}=") } else { name.clone() };
    CompletionItem {
        sort_text: Some(format!("{rank}{name}")),
        filter_text: Some(name.clone()),
        label: text.clone(),
        label_details: detail
            .as_ref()
            .filter(|_| kind == CandidateKind::Variable)
            .map(|detail| CompletionItemLabelDetails { detail: None, description: Some(detail.clone()) }),
        detail,
        kind: Some(match kind {
            CandidateKind::Function => CompletionItemKind::FUNCTION,
            CandidateKind::Variable => CompletionItemKind::VARIABLE,
            CandidateKind::Field => CompletionItemKind::FIELD,
            CandidateKind::Argument => CompletionItemKind::PROPERTY,
            CandidateKind::Type => CompletionItemKind::TYPE_PARAMETER,
            CandidateKind::Keyword => CompletionItemKind::KEYWORD,
        }),
        documentation: doc.map(|doc| Documentation::MarkupContent(markdown(doc))),
        text_edit: Some(CompletionTextEdit::Edit(TextEdit { range, new_text: text })),
        ..CompletionItem::default()
    }
}
