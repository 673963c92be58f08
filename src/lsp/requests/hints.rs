//! The shape of each binding, shown behind its name.

use lsp_types::{InlayHint, InlayHintKind, InlayHintLabel, InlayHintParams};

use super::{Answer, Context};
use crate::frontend::facts::Kind;
use crate::lsp::analysis::names::{Site, SiteKind};

/// The longest hint; longer ones are left to the hover.
const LONGEST: usize = 60;

pub fn hints(context: &Context<'_>, params: InlayHintParams) -> Answer<Vec<InlayHint>> {
    let (start, end) = (context.offset(params.range.start), context.offset(params.range.end));
    let analysis = context.analysis;
    let shown = analysis.names.sites.iter().filter(|s| start <= s.name.span.end && s.name.span.end <= end);
    let mut hints: Vec<InlayHint> = shown
        .filter_map(|site| {
            let text = shape(context, site)?;
            let span = site.name.span;
            Some(InlayHint {
                position: context.range(span.end, span.end).start,
                label: InlayHintLabel::String(format!(": {text}")),
                kind: Some(InlayHintKind::TYPE),
                text_edits: None,
                tooltip: None,
                padding_left: None,
                padding_right: None,
                data: None,
            })
        })
        .collect();
    hints.sort_by_key(|hint| (hint.position.line, hint.position.character));
    Ok(hints)
}

/// What is not written beside the name already.
fn shape(context: &Context<'_>, site: &Site) -> Option<String> {
    let analysis = context.analysis;
    let untyped = match site.kind {
        SiteKind::Binding
        | SiteKind::Output
        | SiteKind::Loss
        | SiteKind::Metric
        | SiteKind::Element
        | SiteKind::Round => true,
        // `x: f32[n]` says it, though a name in it may stand for something.
        SiteKind::Argument | SiteKind::Carry => {
            !analysis.text[site.name.span.end as usize..].trim_start().starts_with(':')
        }
        SiteKind::State => !analysis.text[site.name.span.end as usize..].trim_start().starts_with(':'),
        _ => false,
    };
    if !untyped {
        return None;
    }
    let kinds: Vec<&Kind> =
        analysis.facts.at(site.name.span.start, site.name.span.end).iter().filter(|k| k.has_shape()).collect();
    let text = kinds.iter().map(|k| k.to_string()).collect::<Vec<_>>().join(" or ");
    match (kinds.len(), text.len()) {
        (0, _) => None,
        (_, length) if length <= LONGEST => Some(text),
        (1, _) => None,
        _ => Some(format!("{} or others", kinds[0])),
    }
}
