//! Names in words: signatures, documentation, and what a value came to.

use std::fmt::Write;

use super::Analysis;
use super::names::{Callee, Meaning, Site, SiteId, SiteKind, Use};
use super::words;
use crate::diag::{FileId, Span};
use crate::frontend::ast::{Definition, Doc, Parameter};
use crate::frontend::catalogue::Elsewhere;
use crate::frontend::doc::Entry;
use crate::frontend::facts::Kind;

/// What there is to say about a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// A line of the language: a signature, or a name with its type.
    pub code: String,
    pub doc: Option<String>,
}

impl Description {
    fn new(code: impl Into<String>, doc: Option<&str>) -> Description {
        Description { code: code.into(), doc: doc.map(str::to_owned) }
    }

    /// As Markdown: the code in a block, then the documentation.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        if !self.code.is_empty() {
            let _ = write!(out, "```nn\n{}\n```", self.code);
        }
        if let Some(doc) = &self.doc {
            let gap = if out.is_empty() { "" } else { "\n\n---\n\n" };
            let _ = write!(out, "{gap}{doc}");
        }
        out
    }
}

impl Analysis {
    /// What there is to say about the place `at`, and the place of the word itself.
    pub fn describe_at(&self, at: u32) -> Option<(Description, u32, u32)> {
        if let Some(found) = self.names.use_at(at) {
            let place = found.name.span;
            if let Some(description) = self.describe_use(found) {
                return Some((description, place.start, place.end));
            }
        }
        if let Some(site) = self.names.site_at(at) {
            let place = self.names.sites[site].name.span;
            return Some((self.describe_site(site), place.start, place.end));
        }
        let (start, end) = self.word_at(at)?;
        let word = self.slice(start, end);
        let recipe = self.in_recipe(at);
        let entry = words::keyword(word, recipe).or(words::dtype(word))?;
        Some((describe_entry(entry), start, end))
    }

    fn describe_use(&self, found: &Use) -> Option<Description> {
        let name = &*found.name.text;
        let mut description = match &found.meaning {
            Meaning::Sites(sites) => match self.is_function(sites) {
                true => self.describe_site(sites[0]),
                false => self.describe_value(found, sites),
            },
            Meaning::Elsewhere(item) => self.describe_item(item),
            Meaning::BuiltIn => self.describe_built_in(name)?,
            Meaning::DType => describe_entry(words::dtype(name)?),
            Meaning::Ambient => describe_entry(words::ambient(name)?),
            Meaning::Reader => describe_entry(words::reader(name)?),
            Meaning::Argument(callee) => self.describe_argument(callee, name)?,
            Meaning::Field(_) => {
                let whole = found.whole?;
                Description::new(self.typed(name, self.facts.at(whole.start, whole.end))?, None)
            }
            Meaning::Word | Meaning::Unknown => return None,
        };
        if let Some(whole) = found.whole.filter(|_| !matches!(found.meaning, Meaning::Field(_))) {
            // What the call came to.
            let kinds: Vec<&Kind> =
                self.facts.at(whole.start, whole.end).iter().filter(|kind| kind.has_shape()).collect();
            if !kinds.is_empty() {
                let _ = write!(description.code, "\n// gives {}", joined(&kinds));
            }
        }
        Some(description)
    }

    fn is_function(&self, sites: &[SiteId]) -> bool {
        let kinds = [SiteKind::Function, SiteKind::Layer, SiteKind::Optimizer, SiteKind::Model, SiteKind::Split];
        sites.iter().any(|s| kinds.contains(&self.names.sites[*s].kind))
    }

    /// A use of something bound: what it is here, and what was said where it was bound.
    fn describe_value(&self, found: &Use, sites: &[SiteId]) -> Description {
        let at_site = self.describe_site(sites[0]);
        let span = found.name.span;
        let site = &self.names.sites[sites[0]];
        match self.typed(&found.name.text, self.facts.at(span.start, span.end)) {
            Some(typed) => Description { code: with_word(site.kind, &typed), doc: at_site.doc },
            None => at_site,
        }
    }

    /// A definition, with what it came to.
    pub fn describe_site(&self, id: SiteId) -> Description {
        let site = &self.names.sites[id];
        let first = self.names.sites.iter().find(|s| s.symbol == site.symbol && s.doc.is_some());
        let doc = site.doc.as_ref().or(first.and_then(|s| s.doc.as_ref()));
        let code = match (&site.callee, site.kind) {
            (
                Some(Callee::Definition(d)),
                SiteKind::Function | SiteKind::Layer | SiteKind::Model | SiteKind::Optimizer,
            ) => self.signature(d),
            (_, SiteKind::Split) => format!("split {}", site.name.text),
            (_, SiteKind::Constant) => self.slice(site.whole.start, site.whole.end).trim_end().to_owned(),
            _ => self.describe_binding(site),
        };
        Description { code, doc: doc.map(|doc| doc.to_string()) }
    }

    fn describe_binding(&self, site: &Site) -> String {
        let span = site.name.span;
        let typed = self.typed(&site.name.text, self.facts.at(span.start, span.end));
        with_word(site.kind, &typed.unwrap_or_else(|| self.first_line(site)))
    }

    /// The text of a definition of which nothing is known.
    fn first_line(&self, site: &Site) -> String {
        let text = match site.kind {
            SiteKind::Argument => self.slice(site.whole.start, site.whole.end),
            _ => &site.name.text,
        };
        text.lines().next().unwrap_or_default().to_owned()
    }

    /// `x: f32[batch, 3]`, or `n = 3` for a compile-time value; several kinds are listed.
    fn typed(&self, name: &str, kinds: &[Kind]) -> Option<String> {
        let shaped: Vec<&Kind> = kinds.iter().filter(|k| k.has_shape()).collect();
        if !shaped.is_empty() {
            return Some(format!("{name}: {}", joined(&shaped)));
        }
        let (first, all) = (kinds.first()?, kinds.iter().collect::<Vec<_>>());
        let text = joined(&all);
        match first {
            Kind::Layer { path: Some(path), .. } => {
                let members = self.facts.members_of(path).map(|(name, m)| format!("\n//   {name}: {}", m.ty));
                Some(format!("{name} = {text}{}", members.collect::<String>()))
            }
            _ => Some(format!("{name} = {text}")),
        }
    }

    /// An item of the library or of a used file.
    pub fn describe_item(&self, item: &Elsewhere) -> Description {
        let name = item.name();
        match item {
            Elsewhere::Definition(definition) => {
                Description { code: self.signature(definition), doc: text_of(&definition.doc) }
            }
            Elsewhere::Constant(_) => {
                let text = self.source(name.span.file).get(name.span.start as usize..);
                let line = text.and_then(|text| text.lines().next());
                Description::new(format!("const {}", line.unwrap_or(&name.text)), None)
            }
            Elsewhere::File(_) => Description::new(&*name.text, Some("a used file")),
        }
    }

    /// A primitive or compile-time function.
    pub fn describe_built_in(&self, name: &str) -> Option<Description> {
        let built_in = self.project.built_in(name)?;
        let parameters: Vec<String> = built_in
            .parameters
            .iter()
            .map(|p| if p.required { p.name.to_owned() } else { format!("{}?", p.name) })
            .collect();
        let code = format!("{name}({})", parameters.join(", "));
        let kinds = built_in.parameters.iter().filter(|p| !p.kind.is_empty());
        let list: String = kinds.map(|p| format!("\n- `{}`: {}", p.name, p.kind)).collect();
        let gap = if list.is_empty() { "" } else { "\n" };
        Some(Description::new(code, Some(&format!("{}{gap}{list}", built_in.doc))))
    }

    fn describe_argument(&self, callee: &Callee, name: &str) -> Option<Description> {
        if let Callee::BuiltIn(function) = callee {
            let built_in = self.project.built_in(function)?;
            let parameter = built_in.parameters.iter().find(|p| p.name == name)?;
            return Some(Description::new(format!("{name}: argument of {function}"), Some(parameter.kind)));
        }
        let parameter = callee.parameters().iter().find(|p| *p.name.text == *name)?;
        let span = whole_parameter(parameter);
        let code = format!("argument {}", self.source(span.file).get(span.start as usize..span.end as usize)?);
        let of = match callee {
            Callee::Definition(d) => Some(format!("Of `{}`.", d.name.text)),
            _ => None,
        };
        Some(Description { code, doc: of })
    }

    /// The signature of what a call calls, and its documentation.
    pub fn describe_callee(&self, callee: &Callee) -> (String, Option<String>) {
        match callee {
            Callee::Definition(definition) => (self.signature(definition), text_of(&definition.doc)),
            Callee::Lambda(lambda) => {
                let names: Vec<&str> = lambda.parameters.iter().map(|p| &*p.name.text).collect();
                (format!("|{}|", names.join(", ")), None)
            }
            Callee::BuiltIn(name) => {
                let description = self.describe_built_in(name).unwrap_or_default();
                (description.code, description.doc)
            }
        }
    }

    /// The parameters of what a call calls.
    pub fn parameters_of(&self, callee: &Callee) -> Vec<ParameterText> {
        if let Callee::BuiltIn(name) = callee {
            let parameters = self.project.built_in(name).map(|b| b.parameters).unwrap_or_default();
            let text = |p: &crate::frontend::catalogue::BuiltInParameter| ParameterText {
                name: p.name.to_owned(),
                text: if p.required { p.name.to_owned() } else { format!("{}?", p.name) },
                doc: Some(p.kind.to_owned()).filter(|kind| !kind.is_empty()),
            };
            return parameters.iter().map(text).collect();
        }
        let text = |p: &Parameter| {
            let span = whole_parameter(p);
            let written = self.source(span.file).get(span.start as usize..span.end as usize).unwrap_or_default();
            let text = written.split_whitespace().collect::<Vec<_>>().join(" ");
            ParameterText { name: p.name.text.to_string(), text, doc: None }
        };
        callee.parameters().iter().map(text).collect()
    }

    /// Where what stands at `at` is defined, in the file or in the library.
    pub fn definitions_at(&self, at: u32) -> Vec<Span> {
        let here = |sites: &[SiteId]| sites.iter().map(|s| self.names.sites[*s].name.span).collect();
        let Some(found) = self.names.use_at(at) else {
            let Some(site) = self.names.site_at(at) else { return Vec::new() };
            // A new value of a state leads to where the state is declared.
            let symbol = self.names.sites[site].symbol;
            let declared = match self.names.sites[site].kind {
                SiteKind::Update => self.names.sites.iter().position(|s| s.symbol == symbol),
                _ => Some(site),
            };
            return here(declared.as_slice());
        };
        match &found.meaning {
            Meaning::Sites(sites) => here(sites),
            Meaning::Elsewhere(item) => vec![item.name().span],
            Meaning::Argument(callee) => {
                let parameter = callee.parameters().iter().find(|p| p.name.text == found.name.text);
                parameter.map(|p| p.name.span).into_iter().collect()
            }
            Meaning::Field(value) => self.member_place(*value, &found.name.text).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Where the parameter or state `name` of a layer is declared.
    fn member_place(&self, value: Span, name: &str) -> Option<Span> {
        self.facts.at(value.start, value.end).iter().find_map(|kind| {
            let Kind::Layer { path: Some(path), .. } = kind else { return None };
            self.facts.members_of(path).find(|(n, _)| *n == name).map(|(_, member)| member.span)
        })
    }

    /// The head of a definition as it is written, on one line if it is short.
    pub fn signature(&self, definition: &Definition) -> String {
        let (span, body) = (definition.span, definition.body.span);
        let head = self.source(span.file).get(span.start as usize..body.start as usize).unwrap_or_default();
        head.split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(").replace(" )", ")").replace(",)", ")")
    }

    /// The text of a file of the project.
    pub fn source(&self, file: FileId) -> &str {
        &self.project.sources.get(file).text
    }

    /// Whether a place is in a `train` or `data` block.
    pub fn in_recipe(&self, at: u32) -> bool {
        use super::names::ScopeKind;
        matches!(self.names.scopes[self.names.scope_at(at)].kind, ScopeKind::Train | ScopeKind::Data)
    }
}

/// A parameter in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterText {
    pub name: String,
    /// With its type and default.
    pub text: String,
    pub doc: Option<String>,
}

/// A parameter with its type and default.
fn whole_parameter(parameter: &Parameter) -> Span {
    let end = parameter.default.as_ref().map(|d| d.span).or(parameter.ty.as_ref().map(|t| t.span));
    parameter.name.span.to(end.unwrap_or(parameter.name.span))
}

/// What the reference says of a word.
pub fn describe_entry(entry: &Entry) -> Description {
    Description::new(&*entry.signature, Some(&entry.doc))
}

fn text_of(doc: &Doc) -> Option<String> {
    doc.as_ref().map(|doc| doc.to_string())
}

/// Declarations open with their word.
fn with_word(kind: SiteKind, text: &str) -> String {
    match kind {
        SiteKind::Binding | SiteKind::Round | SiteKind::Size => text.to_owned(),
        other => format!("{} {text}", other.word()),
    }
}

fn joined(kinds: &[&Kind]) -> String {
    kinds.iter().map(|k| k.to_string()).collect::<Vec<_>>().join(" or ")
}
