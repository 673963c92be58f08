//! What elaboration finds out about the places of the user's file, for tools that show it while a file is being written.
//!
//! [`observe`] checks every model of a project, as [`check`](super::check) does for one, and keeps what each expression, binding and
//! declaration came to. It also looks at what is left of a file that could not be read in full.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustc_hash::FxHashMap;

use super::elaborate::{self, Elaboration, Recorder};
use super::{Project, Settings, on_large_stack, same_members, sorted};
use crate::diag::{Diagnostic, Severity, Span};
use crate::ir::types::TensorType;

/// How many different kinds of value one place remembers.
pub const MOST_KINDS: usize = 4;

/// What a place came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Tensor(TensorType),
    /// A tuple, or a list in brackets.
    Several {
        list: bool,
        items: Vec<Kind>,
    },
    /// A compile-time value, as it is written or in words.
    Value(String),
    /// A layer bound to its arguments. `path` is that of its parameters, once it has been applied.
    Layer {
        text: String,
        path: Option<String>,
    },
}

impl Kind {
    /// Whether it is a tensor, or holds one.
    pub fn has_shape(&self) -> bool {
        match self {
            Kind::Tensor(_) => true,
            Kind::Several { items, .. } => items.iter().any(Kind::has_shape),
            Kind::Value(_) | Kind::Layer { .. } => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Tensor(ty) => write!(out, "{ty}"),
            Kind::Several { list, items } => {
                let (open, close) = if *list { ('[', ']') } else { ('(', ')') };
                let items: Vec<String> = items.iter().map(Kind::to_string).collect();
                write!(out, "{open}{}{close}", items.join(", "))
            }
            Kind::Value(text) | Kind::Layer { text, .. } => out.write_str(text),
        }
    }
}

/// A parameter or state of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberFact {
    pub path: String,
    pub ty: TensorType,
    /// False for a state.
    pub is_parameter: bool,
    /// Where it is declared.
    pub span: Span,
}

/// What is known about the places of the user's file.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    kinds: FxHashMap<(u32, u32), Vec<Kind>>,
    pub members: Vec<MemberFact>,
}

impl Facts {
    /// What the text `start..end` came to: several kinds where it was run several times with different values.
    pub fn at(&self, start: u32, end: u32) -> &[Kind] {
        self.kinds.get(&(start, end)).map_or(&[], Vec::as_slice)
    }

    /// The parameters and states of the layer with this path, inner layers' included, with their names inside of it.
    pub fn members_of<'a>(&'a self, path: &str) -> impl Iterator<Item = (&'a str, &'a MemberFact)> {
        let prefix = format!("{path}.");
        self.members.iter().filter_map(move |m| Some((m.path.strip_prefix(&prefix)?, m)))
    }

    /// Adds what `earlier` knows of places about which nothing is known now. `place` says where they are by now.
    pub fn fill_from(&mut self, earlier: &Facts, place: impl Fn(u32, u32) -> Option<(u32, u32)>) {
        for ((start, end), kinds) in &earlier.kinds {
            if let Some(now) = place(*start, *end) {
                self.kinds.entry(now).or_insert_with(|| kinds.clone());
            }
        }
        for member in &earlier.members {
            if self.members.iter().all(|m| m.path != member.path) {
                self.members.push(member.clone());
            }
        }
    }

    fn add(&mut self, place: (u32, u32), kinds: Vec<Kind>) {
        let known = self.kinds.entry(place).or_default();
        for kind in kinds {
            if known.len() < MOST_KINDS && !known.contains(&kind) {
                known.push(kind);
            }
        }
    }

    fn take(&mut self, run: &Elaboration, recorder: Option<Recorder>) {
        for (place, kinds) in recorder.into_iter().flat_map(Recorder::into_kinds) {
            self.add(place, kinds);
        }
        for member in &run.members {
            if self.members.iter().all(|m| m.path != member.path) {
                self.members.push(MemberFact {
                    path: member.path.clone(),
                    ty: member.ty.clone(),
                    is_parameter: member.is_parameter,
                    span: member.span,
                });
            }
        }
    }
}

/// What a look at every model of a file yields.
#[derive(Debug, Default)]
pub struct Observation {
    /// Without those that [`Project::parse`] has reported. None if the file could not be read in full.
    pub diagnostics: Vec<Diagnostic>,
    pub facts: Facts,
}

/// Elaborates every model of the project and keeps what it finds. Ends early once `stop` is set.
pub fn observe(project: &Project, stop: &Arc<AtomicBool>) -> Observation {
    let mut observation = Observation::default();
    let work = || {
        let mut facts = Facts::default();
        let models = project.models().map(|model| observe_model(project, &model.name.text, model, stop, &mut facts));
        let diagnostics: Vec<Diagnostic> = models.flatten().collect();
        Ok((diagnostics, facts))
    };
    match on_large_stack(work) {
        Ok((diagnostics, facts)) => {
            observation.facts = facts;
            if project.readable {
                observation.diagnostics = without_repetitions(diagnostics);
            }
        }
        Err(diagnostics) => observation.diagnostics = diagnostics,
    }
    observation
}

fn observe_model(
    project: &Project,
    name: &str,
    model: &Arc<super::ast::Definition>,
    stop: &Arc<AtomicBool>,
    facts: &mut Facts,
) -> Vec<Diagnostic> {
    // A schedule may ask for the number of steps, which only the data says.
    let settings = Settings { model: Some(name.to_owned()), total_steps: Some(1), ..Settings::default() };
    let run = |training| {
        elaborate::elaborate_recorded(project, &settings, model, training, Some(Recorder::new(stop.clone())))
    };
    let (plain, recorder) = run(false);
    facts.take(&plain, recorder);
    if plain.failed || project.problems.iter().any(|d| d.severity == Severity::Error) {
        return sorted(plain.diagnostics);
    }
    let (training, recorder) = run(true);
    facts.take(&training, recorder);
    let mut found = same_members(&plain, &training);
    found.extend(training.diagnostics);
    sorted(found)
}

/// Models that share layers make the same mistakes.
fn without_repetitions(diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut kept: Vec<Diagnostic> = Vec::new();
    for diagnostic in diagnostics {
        if kept.iter().all(|k| k.span() != diagnostic.span() || k.message != diagnostic.message) {
            kept.push(diagnostic);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(text: &str) -> (Facts, Vec<Diagnostic>) {
        let (project, _) = Project::parse("<string>", text);
        let observation = observe(&project, &Arc::default());
        (observation.facts, observation.diagnostics)
    }

    /// The kinds of the place where `what` stands first.
    fn kinds(text: &str, what: &str) -> Vec<String> {
        let start = text.find(what).expect("it stands in the text") as u32;
        facts(text).0.at(start, start + what.len() as u32).iter().map(Kind::to_string).collect()
    }

    const TEXT: &str = "layer twice(value) {
    doubled = 2 * value
    doubled
}
model M(units = 4) {
    input x: f32[batch, 3]
    net = dense(units)
    hidden = net(x) |> relu
    a, b = twice(hidden), twice(x)
    for i in 0..2 { hidden = hidden |> dense(5 + i) }
    output hidden
}
";

    #[test]
    fn places_come_to_their_shapes() {
        assert_eq!(kinds(TEXT, "x"), ["f32[batch, 3]"]);
        assert_eq!(kinds(TEXT, "hidden"), ["f32[batch, 4]"]);
        assert_eq!(kinds(TEXT, "doubled"), ["f32[batch, 4]", "f32[batch, 3]"]);
        assert_eq!(kinds(TEXT, "units"), ["4"]);
        assert_eq!(kinds(TEXT, "hidden |> dense(5 + i)"), ["f32[batch, 5]", "f32[batch, 6]"]);
        assert_eq!(kinds(TEXT, "batch"), ["batch"]);
    }

    #[test]
    fn a_layer_knows_its_parameters() {
        let (facts, diagnostics) = facts(TEXT);
        assert!(diagnostics.is_empty(), "{diagnostics:#?}");
        let at = TEXT.find("net").expect("it is there") as u32;
        let [Kind::Layer { path: Some(path), .. }] = facts.at(at, at + 3) else { panic!("{:?}", facts.at(at, at + 3)) };
        let names: Vec<String> = facts.members_of(path).map(|(name, m)| format!("{name}: {}", m.ty)).collect();
        assert_eq!(names, ["w: f32[3, 4]", "b: f32[4]"]);
    }

    #[test]
    fn what_comes_before_a_mistake_is_known() {
        let text = TEXT.replace("output hidden", "broken = hidden @ x\n    output hidden");
        assert_eq!(kinds(&text, "hidden"), ["f32[batch, 4]"]);
        assert_eq!(facts(&text).1.len(), 1);
        let text = TEXT.replace("output hidden", "broken = hidden @\n    output hidden = )");
        assert_eq!(kinds(&text, "hidden"), ["f32[batch, 4]"]);
    }

    #[test]
    fn a_stopped_look_ends_early() {
        let (project, _) = Project::parse("<string>", TEXT);
        let observation = observe(&project, &Arc::new(AtomicBool::new(true)));
        assert!(observation.facts.at(0, 5).is_empty());
        assert!(observation.facts.members.is_empty());
    }
}
