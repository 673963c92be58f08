//! What may be written at a place, with what there is to say about each.

use super::Analysis;
use super::context::{Asked, OpenCall};
use super::describe::{Description, describe_entry};
use super::names::{ScopeKind, SiteId, SiteKind};
use super::words;
use crate::diag::Span;
use crate::frontend::ast::DefinitionKind;
use crate::frontend::catalogue::Elsewhere;
use crate::frontend::doc::Entry;
use crate::frontend::facts::Kind;
use crate::frontend::model::READERS;

/// What kind of thing a candidate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateKind {
    Function,
    Variable,
    Field,
    /// The name of an argument, to be followed by `=`.
    Argument,
    Type,
    Keyword,
}

/// Something that may be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub name: String,
    pub kind: CandidateKind,
    /// A signature, or a type.
    pub detail: Option<String>,
    pub doc: Option<String>,
    /// Smaller comes first.
    pub rank: u8,
}

impl Candidate {
    fn word(entry: &Entry, kind: CandidateKind, rank: u8) -> Candidate {
        Candidate::described(&entry.name, kind, describe_entry(entry), rank)
    }

    /// A word with a line about it.
    fn plain(name: &str, doc: &str, rank: u8) -> Candidate {
        Candidate { name: name.to_owned(), kind: CandidateKind::Keyword, detail: None, doc: Some(doc.to_owned()), rank }
    }

    fn described(name: &str, kind: CandidateKind, description: Description, rank: u8) -> Candidate {
        Candidate { name: name.to_owned(), kind, detail: Some(description.code), doc: description.doc, rank }
    }
}

impl Analysis {
    /// The start of the word that is being written at `at`, and what it may become.
    pub fn complete(&self, at: u32) -> (u32, Vec<Candidate>) {
        let start = self.word_at(at).map_or(at, |(start, _)| start.min(at));
        let around = self.context_at(at);
        let mut found = Vec::new();
        if let Some(call) = around.call.as_ref().filter(|c| c.current.is_none() && around.kind == Asked::Value) {
            self.arguments(call, &mut found);
        }
        let keywords = |list: &[&str], recipe, rank| -> Vec<Candidate> {
            let entries = list.iter().filter_map(|word| words::keyword(word, recipe));
            entries.map(|entry| Candidate::word(entry, CandidateKind::Keyword, rank)).collect()
        };
        match around.kind {
            Asked::Nothing => {}
            Asked::Field { start, end } => self.fields(start, end, &mut found),
            Asked::Type => found.extend(self.types(at)),
            Asked::Value => self.values(at, &mut found),
            Asked::Statement => {
                found.extend(keywords(&self.statements(at), false, 2));
                self.values(at, &mut found);
            }
            Asked::Item => found.extend(keywords(&words::ITEMS, false, 1)),
            Asked::Entry => found.extend(keywords(&words::ENTRIES, true, 1)),
            Asked::InEntry { entry, after } => self.in_entry(at, &entry, &after, &mut found),
            Asked::Split => {
                found.extend(["train", "test"].map(|name| Candidate::plain(name, "a split of the data", 1)))
            }
            Asked::Bound => {
                let fields = [SiteKind::Input, SiteKind::Target];
                found.extend(self.visible(at, |kind| fields.contains(&kind)));
                found.extend(keywords(&["from", "take"], true, 2));
            }
            Asked::Reader => found.extend(
                READERS
                    .iter()
                    .filter_map(|name| Some(Candidate::word(words::reader(name)?, CandidateKind::Function, 1))),
            ),
        }
        found.sort_by(|a, b| (a.rank, &a.name).cmp(&(b.rank, &b.name)));
        found.dedup_by(|a, b| a.name == b.name && a.kind == b.kind);
        (start, found)
    }

    /// Keywords that can begin a statement of the body around.
    fn statements(&self, at: u32) -> Vec<&'static str> {
        let kinds = self.names.scopes_from(self.names.scope_at(at)).map(|s| self.names.scopes[s].kind);
        let around = kinds.into_iter().find(|k| !matches!(k, ScopeKind::Inner | ScopeKind::Scan | ScopeKind::Lambda));
        let fits = |word: &str| match around {
            Some(ScopeKind::Layer) => !matches!(word, "input" | "target" | "output" | "loss" | "metric"),
            Some(ScopeKind::Function) => matches!(word, "return" | "for" | "scan" | "fn" | "layer"),
            Some(ScopeKind::Optimizer) => matches!(word, "state" | "for" | "scan" | "fn"),
            Some(ScopeKind::Model) => word != "return",
            _ => true,
        };
        words::STATEMENTS.iter().chain(&["if"]).copied().filter(|word| fits(word)).collect()
    }

    /// Every name that is a value here.
    fn values(&self, at: u32, found: &mut Vec<Candidate>) {
        let no_values = [SiteKind::Split, SiteKind::Model, SiteKind::Optimizer];
        found.extend(self.visible(at, |kind| !no_values.contains(&kind)));
        let hidden =
            |name: &str, found: &[Candidate]| found.iter().any(|c| c.name == name && c.kind != CandidateKind::Argument);
        for name in self.project.names_elsewhere() {
            let item = self.project.elsewhere(name);
            if let Some(item) = item.filter(|item| !is_optimizer(item) && !hidden(name, found)) {
                found.push(Candidate::described(name, CandidateKind::Function, self.describe_item(&item), 4));
            }
        }
        for name in self.project.built_in_names() {
            if !hidden(name, found) {
                let description = self.describe_built_in(name);
                found.extend(description.map(|d| Candidate::described(name, CandidateKind::Function, d, 5)));
            }
        }
        found.extend(words::dtypes().map(|entry| Candidate::word(entry, CandidateKind::Type, 6)));
        let inner = ["if", "not", "true", "false", "and", "or"];
        let inner = inner.iter().filter_map(|word| words::keyword(word, false));
        found.extend(inner.map(|entry| Candidate::word(entry, CandidateKind::Keyword, 7)));
        found.extend(words::ambient("training").map(|entry| Candidate::word(entry, CandidateKind::Variable, 6)));
    }

    /// Names of the file that are visible at a place.
    fn visible(&self, at: u32, wanted: impl Fn(SiteKind) -> bool) -> Vec<Candidate> {
        let word = self.word_at(at);
        // The word that is being written may have been taken for a binding.
        let is_this = |span: Span| word.is_some_and(|(start, end)| span.start == start && span.end == end);
        let sites = self.names.visible_at(at).into_iter();
        let kept = sites.filter(|s| wanted(self.names.sites[*s].kind) && !is_this(self.names.sites[*s].name.span));
        kept.map(|site| self.candidate(site)).collect()
    }

    fn candidate(&self, id: SiteId) -> Candidate {
        let site = &self.names.sites[id];
        let kind = match site.kind {
            SiteKind::Function | SiteKind::Layer | SiteKind::Optimizer => CandidateKind::Function,
            _ => CandidateKind::Variable,
        };
        let description = self.describe_site(id);
        let known = self.facts.at(site.name.span.start, site.name.span.end);
        let detail = match (kind, known.iter().find(|k| k.has_shape()).or(known.first())) {
            (CandidateKind::Variable, Some(kind)) => kind.to_string(),
            _ => description.code,
        };
        Candidate { name: site.name.text.to_string(), kind, detail: Some(detail), doc: description.doc, rank: 3 }
    }

    /// Names of arguments that the call does not give yet.
    fn arguments(&self, call: &OpenCall, found: &mut Vec<Candidate>) {
        let Some(callee) = self.callee_at(call) else { return };
        let given = call.before.saturating_sub(call.named.len()) + usize::from(call.piped);
        let parameters = self.parameters_of(&callee);
        for parameter in parameters.into_iter().skip(given).filter(|p| !call.named.contains(&p.name)) {
            found.push(Candidate {
                name: parameter.name,
                kind: CandidateKind::Argument,
                detail: Some(parameter.text),
                doc: parameter.doc,
                rank: 1,
            });
        }
    }

    fn types(&self, at: u32) -> Vec<Candidate> {
        let signature =
            matches!(self.names.scopes[self.names.scope_at(at)].kind, ScopeKind::Layer | ScopeKind::Function);
        let fits = |name: &str| signature || name != "float";
        let kept = words::dtypes().filter(|entry| fits(&entry.name));
        kept.map(|entry| Candidate::word(entry, CandidateKind::Type, 1)).collect()
    }

    /// The parameters and inner layers of the layer that the text `start..end` names; in a recipe, what is measured.
    fn fields(&self, start: u32, end: u32, found: &mut Vec<Candidate>) {
        let owner = self.slice(start, end);
        if self.in_recipe(start) && matches!(owner, "val" | "train") {
            found.extend(self.visible(start, |kind| matches!(kind, SiteKind::Loss | SiteKind::Metric)));
            return;
        }
        for name in self.project.items_of(owner) {
            let item = self.project.item_of(owner, name);
            found.extend(item.map(|i| Candidate::described(name, CandidateKind::Function, self.describe_item(&i), 1)));
        }
        let named = self.names.visible_at(start).into_iter().filter(|s| *self.names.sites[*s].name.text == *owner);
        for site in named {
            let span = self.names.sites[site].name.span;
            for kind in self.facts.at(span.start, span.end) {
                let Kind::Layer { path: Some(path), .. } = kind else { continue };
                found.extend(self.facts.members_of(path).filter(|(name, _)| !name.contains('.')).map(
                    |(name, member)| {
                        let word = if member.is_parameter { "param" } else { "state" };
                        let code = format!("{word} {name}: {}", member.ty);
                        Candidate::described(name, CandidateKind::Field, Description { code, doc: None }, 1)
                    },
                ));
            }
        }
    }

    fn in_entry(&self, at: u32, entry: &str, after: &str, found: &mut Vec<Candidate>) {
        match (entry, after) {
            ("minimize", "minimize") => found.extend(self.visible(at, |kind| kind == SiteKind::Loss)),
            ("minimize", "with") => {
                found.extend(self.visible(at, |kind| kind == SiteKind::Optimizer));
                for name in self.project.names_elsewhere() {
                    if let Some(item) = self.project.elsewhere(name).filter(is_optimizer) {
                        found.push(Candidate::described(name, CandidateKind::Function, self.describe_item(&item), 2));
                    }
                }
            }
            ("minimize" | "freeze" | "load", _) => {
                found.extend(self.visible(at, |kind| matches!(kind, SiteKind::Binding | SiteKind::Parameter)));
                let further: &[(&str, &str)] = match entry {
                    "minimize" => &[
                        ("over", "which layers and parameters the objective trains"),
                        ("with", "the optimizer"),
                        ("times", "how many of its steps come in one step of the recipe"),
                    ],
                    "load" => &[("into", "the layers that the weights are for")],
                    _ => &[],
                };
                found.extend(further.iter().map(|(word, doc)| Candidate::plain(word, doc, 2)));
            }
            ("stop" | "keep", _) => {
                let first = if entry == "keep" { ("best", "the best epoch") } else { ("when", "the condition") };
                let measured = [first, ("val", "the rows held out"), ("train", "the training rows")];
                found.extend(measured.map(|(word, doc)| Candidate::plain(word, doc, 2)));
                found.extend(self.visible(at, |kind| matches!(kind, SiteKind::Loss | SiteKind::Metric)));
            }
            ("clip", "clip") => {
                let kinds = [("norm", "of all gradients together"), ("value", "of each element of a gradient")];
                found.extend(kinds.map(|(word, doc)| Candidate::plain(word, doc, 1)));
            }
            _ => self.values(at, found),
        }
    }
}

fn is_optimizer(item: &Elsewhere) -> bool {
    matches!(item, Elsewhere::Definition(d) if d.kind == DefinitionKind::Optimizer)
}
