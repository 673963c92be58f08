//! Where a name is defined, in the file or in the library, and where it is used.

use lsp_types::{
    DocumentHighlight, DocumentHighlightParams, GotoDefinitionParams, GotoDefinitionResponse, Location, ReferenceParams,
};

use super::{Answer, Context};
use crate::diag::Span;
use crate::lsp::analysis::names::SiteKind;

pub fn definition(context: &Context<'_>, params: GotoDefinitionParams) -> Answer<Option<GotoDefinitionResponse>> {
    let at = context.offset(params.text_document_position_params.position);
    let places = context.analysis.definitions_at(at);
    let found: Vec<Location> = places.into_iter().filter_map(|span| context.location(span)).collect();
    Ok(if found.is_empty() { None } else { Some(GotoDefinitionResponse::Array(found)) })
}

pub fn references(context: &Context<'_>, params: ReferenceParams) -> Answer<Option<Vec<Location>>> {
    let at = context.offset(params.text_document_position.position);
    let Some(places) = places(context, at) else { return Ok(None) };
    let names = &context.analysis.names;
    let declared = params.context.include_declaration;
    let is_declaration =
        |span: &Span| names.site_of(*span).is_some_and(|site| !matches!(names.sites[site].kind, SiteKind::Update));
    let kept = places.into_iter().filter(|span| declared || !is_declaration(span));
    Ok(Some(kept.filter_map(|span| context.location(span)).collect()))
}

pub fn highlights(context: &Context<'_>, params: DocumentHighlightParams) -> Answer<Option<Vec<DocumentHighlight>>> {
    let at = context.offset(params.text_document_position_params.position);
    let range = |span: Span| DocumentHighlight { range: context.range(span.start, span.end), kind: None };
    Ok(places(context, at).map(|places| places.into_iter().map(range).collect()))
}

/// Every place of the symbol at `at`.
fn places(context: &Context<'_>, at: u32) -> Option<Vec<Span>> {
    let names = &context.analysis.names;
    let site = names.meant_at(at).first().copied()?;
    Some(names.places_of(names.sites[site].symbol))
}
