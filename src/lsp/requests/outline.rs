//! The outline of a file, and what can be folded.

use lsp_types::{
    DocumentSymbol, DocumentSymbolParams, DocumentSymbolResponse, FoldingRange, FoldingRangeKind, FoldingRangeParams,
    SymbolKind,
};

use super::{Answer, Context};
use crate::diag::Span;
use crate::frontend::ast::Item;
use crate::frontend::facts::Kind;
use crate::lsp::analysis::names::{FILE, ScopeId, Site, SiteKind};

pub fn symbols(context: &Context<'_>, _: DocumentSymbolParams) -> Answer<DocumentSymbolResponse> {
    let mut all = of_scope(context, FILE);
    for item in context.analysis.project.items() {
        let (name, span) = match item {
            Item::Train(block) => ("train", block.span),
            Item::Data(block) => ("data", block.span),
            _ => continue,
        };
        let word = Span { end: span.start + name.len() as u32, ..span };
        all.push(symbol(context, name.to_owned(), SymbolKind::NAMESPACE, None, span, word, Vec::new()));
    }
    all.sort_by_key(|s| (s.range.start.line, s.range.start.character));
    Ok(DocumentSymbolResponse::Nested(all))
}

fn of_scope(context: &Context<'_>, scope: ScopeId) -> Vec<DocumentSymbol> {
    let names = &context.analysis.names;
    let mut seen = Vec::new();
    let mut all = Vec::new();
    for site in names.sites.iter().filter(|s| s.scope == scope) {
        // What is bound anew is listed where it is bound first.
        if matches!(site.kind, SiteKind::Size | SiteKind::Argument | SiteKind::Update) || seen.contains(&site.symbol) {
            continue;
        }
        seen.push(site.symbol);
        let own = names.scopes.iter().position(|s| s.parent == Some(scope) && s.start == site.name.span.end);
        let children = own.filter(|_| site.callee.is_some()).map_or_else(Vec::new, |own| of_scope(context, own));
        let (name, detail) = (site.name.text.to_string(), detail(context, site));
        all.push(symbol(context, name, symbol_kind(site.kind), detail, site.whole, site.name.span, children));
    }
    all
}

fn detail(context: &Context<'_>, site: &Site) -> Option<String> {
    let kinds = context.analysis.facts.at(site.name.span.start, site.name.span.end);
    kinds.iter().find(|k| k.has_shape()).map(Kind::to_string)
}

fn symbol_kind(kind: SiteKind) -> SymbolKind {
    match kind {
        SiteKind::Function | SiteKind::Layer | SiteKind::Optimizer => SymbolKind::FUNCTION,
        SiteKind::Model => SymbolKind::CLASS,
        SiteKind::Constant => SymbolKind::CONSTANT,
        SiteKind::Input | SiteKind::Target | SiteKind::Parameter | SiteKind::State => SymbolKind::FIELD,
        SiteKind::Output | SiteKind::Loss | SiteKind::Metric => SymbolKind::PROPERTY,
        _ => SymbolKind::VARIABLE,
    }
}

fn symbol(
    context: &Context<'_>,
    name: String,
    kind: SymbolKind,
    detail: Option<String>,
    whole: Span,
    word: Span,
    children: Vec<DocumentSymbol>,
) -> DocumentSymbol {
    #[expect(deprecated, reason = "the field has to be given")]
    DocumentSymbol {
        name,
        detail,
        kind,
        tags: None,
        deprecated: None,
        range: context.range(whole.start.min(word.start), whole.end.max(word.end)),
        selection_range: context.range(word.start, word.end),
        children: if children.is_empty() { None } else { Some(children) },
    }
}

/// What stands in braces over several lines, and comments of several lines.
pub fn folds(context: &Context<'_>, _: FoldingRangeParams) -> Answer<Vec<FoldingRange>> {
    let (braces, comments) = context.analysis.stretches();
    let fold = |kind: Option<FoldingRangeKind>| {
        move |(start, end): (u32, u32)| {
            let range = context.range(start, end);
            // The line of the closing brace stays visible.
            let last = if kind.is_none() { range.end.line.saturating_sub(1) } else { range.end.line };
            (last > range.start.line).then(|| FoldingRange {
                start_line: range.start.line,
                end_line: last,
                kind: kind.clone(),
                ..FoldingRange::default()
            })
        }
    };
    let mut all: Vec<FoldingRange> = braces.into_iter().filter_map(fold(None)).collect();
    all.extend(comments.into_iter().filter_map(fold(Some(FoldingRangeKind::Comment))));
    all.sort_by_key(|fold| fold.start_line);
    Ok(all)
}
