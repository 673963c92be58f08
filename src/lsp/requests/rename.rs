//! Another name for what the file defines, everywhere in it.

use lsp_types::{PrepareRenameResponse, RenameParams, TextDocumentPositionParams, TextEdit, WorkspaceEdit};

use super::actions::edits;
use super::{Answer, Context, Refusal};
use crate::lsp::analysis::names::{SiteId, SiteKind};
use crate::lsp::analysis::words;

pub fn prepare(context: &Context<'_>, params: TextDocumentPositionParams) -> Answer<PrepareRenameResponse> {
    let at = context.offset(params.position);
    renamable(context, at)?;
    let (start, end) = context.analysis.word_at(at).ok_or_else(|| Refusal::new("there is no name here"))?;
    Ok(PrepareRenameResponse::Range(context.range(start, end)))
}

pub fn rename(context: &Context<'_>, params: RenameParams) -> Answer<WorkspaceEdit> {
    let at = context.offset(params.text_document_position.position);
    let site = renamable(context, at)?;
    let new = params.new_name;
    let mut characters = new.bytes();
    let begins = characters.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !begins || !characters.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(Refusal::new(format!("`{new}` is not a name")));
    }
    if words::is_reserved(&new) {
        return Err(Refusal::new(format!("`{new}` is a keyword")));
    }
    let names = &context.analysis.names;
    let symbol = names.sites[site].symbol;
    let places = names.places_of(symbol);
    for place in &places {
        let taken = names.visible_at(place.end).into_iter().find(|s| *names.sites[*s].name.text == *new);
        if taken.is_some_and(|s| names.sites[s].symbol != symbol) {
            return Err(Refusal::new(format!("`{new}` is the name of something else here")));
        }
    }
    let edit = |span: crate::diag::Span| TextEdit { range: context.range(span.start, span.end), new_text: new.clone() };
    Ok(edits(context, places.into_iter().map(edit).collect()))
}

/// The definition of the name at `at`, if it is the file's.
fn renamable(context: &Context<'_>, at: u32) -> Answer<SiteId> {
    let analysis = context.analysis;
    if let Some(site) = analysis.names.meant_at(at).first().copied() {
        return match analysis.names.sites[site].kind {
            SiteKind::Split if &*analysis.names.sites[site].name.text == "train" => {
                Err(Refusal::new("the split `train` is what training reads"))
            }
            _ => Ok(site),
        };
    }
    let word = analysis.word_at(at).map(|(start, end)| analysis.slice(start, end)).unwrap_or_default();
    let of_library = analysis.project.elsewhere(word).is_some() || analysis.project.built_in(word).is_some();
    Err(Refusal::new(match (word, of_library) {
        ("", _) => "there is no name here".to_owned(),
        (_, true) => format!("`{word}` is a name of the library or of another file"),
        (_, false) => format!("`{word}` is not defined in this file"),
    }))
}
