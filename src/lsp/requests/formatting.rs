//! The canonical layout of the document, as `nnc fmt` makes it.

use lsp_types::{DocumentFormattingParams, TextEdit};

use super::{Answer, Context, Refusal};
use crate::diag::FileId;
use crate::frontend::format::format;

/// One edit of the stretch that changes; none for a text that is laid out. A text that cannot be read stays as it is.
pub fn formatting(context: &Context<'_>, _: DocumentFormattingParams) -> Answer<Vec<TextEdit>> {
    let old = &context.analysis.text;
    let new = format(old, FileId(0)).map_err(|_| Refusal::new("a file with mistakes of syntax keeps its layout"))?;
    if **old == *new {
        return Ok(Vec::new());
    }
    let same = old.bytes().zip(new.bytes()).take_while(|(a, b)| a == b).count();
    let start = old.floor_char_boundary(same).min(new.floor_char_boundary(same));
    let rest = (old[start..].bytes().rev(), new[start..].bytes().rev());
    let behind = rest.0.zip(rest.1).take_while(|(a, b)| a == b).count();
    // Both texts end in the same bytes, so that a boundary of one is a boundary of the other.
    let end = old.ceil_char_boundary(old.len() - behind);
    let new_text = new[start..new.len() - (old.len() - end)].to_owned();
    Ok(vec![TextEdit { range: context.range(start as u32, end as u32), new_text }])
}
