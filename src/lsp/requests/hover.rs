//! What stands under the pointer: signature, shape, documentation.

use lsp_types::{Hover, HoverContents, HoverParams, MarkupContent, MarkupKind};

use super::{Answer, Context};

pub fn hover(context: &Context<'_>, params: HoverParams) -> Answer<Option<Hover>> {
    let at = context.offset(params.text_document_position_params.position);
    Ok(context.analysis.describe_at(at).map(|(description, start, end)| Hover {
        contents: HoverContents::Markup(markdown(description.markdown())),
        range: Some(context.range(start, end)),
    }))
}

/// A text for the client to show.
pub fn markdown(value: String) -> MarkupContent {
    MarkupContent { kind: MarkupKind::Markdown, value }
}
