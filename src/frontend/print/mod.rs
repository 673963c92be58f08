//! Prints the syntax tree for people.
//!
//! The text is `.nn` source again, with brackets around every operator inside another, so that it shows how the parser read
//! precedence, pipes and line ends; spans and comments other than `///` are gone. Parsing it gives the same tree.

mod expression;

use std::fmt::Write;

use super::ast::{
    Block, DTypeExpression, DataBlock, Definition, DefinitionKind, Doc, Expression, ExpressionKind, File, Item, Name,
    Parameter, Scan, SplitEntry, Statement, StatementKind, TrainBlock, TrainEntry, TrainEntryKind, TypeExpression,
    Used, UsedName,
};
use expression::{expression, inline_block, quoted};

/// The whole file, one item after the other.
pub fn print(file: &File) -> String {
    let mut printer = Printer { text: String::new(), depth: 0 };
    for (index, item) in file.items.iter().enumerate() {
        if index > 0 {
            printer.text.push('\n');
        }
        printer.item(item);
    }
    printer.text
}

/// What follows the path of a `use`.
fn used_names(what: &Used) -> String {
    let name = |used: &UsedName| match &used.alias {
        Some(alias) => format!("{} as {}", used.name.text, alias.text),
        None => used.name.text.to_string(),
    };
    match what {
        Used::All => String::new(),
        Used::Module(name) => format!(" as {}", name.text),
        Used::Names(names) => format!(" {{ {} }}", names.iter().map(name).collect::<Vec<_>>().join(", ")),
    }
}

/// Collects lines at a depth.
struct Printer {
    text: String,
    depth: usize,
}

impl Printer {
    fn line(&mut self, text: &str) {
        for _ in 0..self.depth {
            self.text.push_str("    ");
        }
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// `head {`, the lines of `body`, `}` and `tail`.
    fn braces(&mut self, head: &str, tail: &str, body: impl FnOnce(&mut Self)) {
        self.line(&format!("{head} {{"));
        self.depth += 1;
        body(self);
        self.depth -= 1;
        self.line(&format!("}}{tail}"));
    }

    fn doc(&mut self, doc: &Doc) {
        for line in doc.iter().flat_map(|doc| doc.lines()) {
            self.line(format!("/// {line}").trim_end());
        }
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Use(used) => self.line(&format!("use {}{}", quoted(&used.path), used_names(&used.what))),
            Item::Const { name, value, doc } => {
                self.doc(doc);
                self.line(&format!("const {} = {}", name.text, expression(value)));
            }
            Item::Function(definition) | Item::Model(definition) | Item::Optimizer(definition) => {
                self.doc(&definition.doc);
                self.definition(definition);
            }
            Item::Data(data) => self.data(data),
            Item::Train(train) => self.train(train),
        }
    }

    fn definition(&mut self, definition: &Definition) {
        self.braces(&definition_head(definition), "", |this| this.statements(&definition.body));
    }

    fn statements(&mut self, block: &Block) {
        for statement in &block.statements {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &Statement) {
        self.doc(&statement.doc);
        match &statement.kind {
            StatementKind::Define(definition) => self.definition(definition),
            StatementKind::For { names, iterable, body } => {
                let head = format!("for {} in {}", name_list(names), expression(iterable));
                self.braces(&head, "", |this| this.statements(body));
            }
            StatementKind::If { condition, then, otherwise } => {
                let head = format!("if {}", expression(condition));
                self.choice(&head, then, otherwise.as_ref());
            }
            StatementKind::Scan(scan) => {
                self.braces(&scan_head(scan), &scan_tail(scan), |this| {
                    this.statements(&scan.body);
                    if let Some(line) = scan_yield(scan) {
                        this.line(&line);
                    }
                });
            }
            kind => self.line(&one_line(kind)),
        }
    }

    fn choice(&mut self, head: &str, then: &Block, otherwise: Option<&Block>) {
        let Some(otherwise) = otherwise else {
            return self.braces(head, "", |this| this.statements(then));
        };
        self.line(&format!("{head} {{"));
        self.depth += 1;
        self.statements(then);
        self.depth -= 1;
        if let [Statement { kind: StatementKind::If { condition, then, otherwise }, .. }] =
            otherwise.statements.as_slice()
        {
            return self.choice(&format!("}} else if {}", expression(condition)), then, otherwise.as_ref());
        }
        self.braces("} else", "", |this| this.statements(otherwise));
    }

    fn data(&mut self, data: &DataBlock) {
        self.braces(&headed("data", data.model.as_ref()), "", |this| {
            for split in &data.splits {
                this.braces(&split.name.text, "", |this| {
                    for entry in &split.contents {
                        this.line(&split_entry(entry));
                    }
                });
            }
        });
    }

    fn train(&mut self, train: &TrainBlock) {
        self.braces(&headed("train", train.model.as_ref()), "", |this| this.entries(&train.entries));
    }

    fn entries(&mut self, entries: &[TrainEntry]) {
        for entry in entries {
            match &entry.kind {
                TrainEntryKind::Phase { name, entries } => {
                    self.braces(&format!("phase {}", quoted(name)), "", |this| this.entries(entries));
                }
                kind => self.line(&train_entry(kind)),
            }
        }
    }
}

/// `layer dense(x, units)`
fn definition_head(definition: &Definition) -> String {
    let keyword = match definition.kind {
        DefinitionKind::Function => "fn",
        DefinitionKind::Layer => "layer",
        DefinitionKind::Model => "model",
        DefinitionKind::Optimizer => "optimizer",
    };
    let parameters: Vec<String> = definition.parameters.iter().map(parameter).collect();
    format!("{keyword} {}({})", definition.name.text, parameters.join(", "))
}

fn headed(word: &str, model: Option<&Name>) -> String {
    model.map_or_else(|| word.to_owned(), |model| format!("{word} {}", model.text))
}

fn name_list(names: &[Name]) -> String {
    names.iter().map(|name| &*name.text).collect::<Vec<_>>().join(", ")
}

fn expression_list(values: &[Expression]) -> String {
    values.iter().map(expression).collect::<Vec<_>>().join(", ")
}

fn parameter(parameter: &Parameter) -> String {
    declaration(&parameter.name, parameter.ty.as_ref(), parameter.default.as_ref())
}

/// `w: f32[n] = zeros`
fn declaration(name: &Name, ty: Option<&TypeExpression>, value: Option<&Expression>) -> String {
    let mut text = name.text.to_string();
    if let Some(ty) = ty {
        let _ = write!(text, ": {}", type_expression(ty));
    }
    if let Some(value) = value {
        let _ = write!(text, " = {}", expression(value));
    }
    text
}

fn type_expression(ty: &TypeExpression) -> String {
    let dtype = match &ty.dtype {
        DTypeExpression::Named(name) => name.text.to_string(),
        DTypeExpression::Index { classes, .. } => format!("index({})", expression(classes)),
    };
    let lead = ty.lead.as_ref().map(|lead| format!("..{}", lead.name.as_ref().map_or("", |name| &name.text)));
    let dims: Vec<String> = lead.into_iter().chain(ty.dims.iter().map(expression)).collect();
    format!("{dtype}[{}]", dims.join(", "))
}

fn scan_head(scan: &Scan) -> String {
    let sources: Vec<String> =
        scan.sources.iter().map(|(name, value)| format!("{} in {}", name.text, expression(value))).collect();
    let mut head = format!("scan {}", sources.join(", "));
    if let Some(axis) = &scan.axis {
        let _ = write!(head, " axis {}", expression(axis));
    }
    if scan.reverse {
        head.push_str(" reverse");
    }
    for (index, carry) in scan.carries.iter().enumerate() {
        let sign = if index == 0 { " carry" } else { "," };
        let _ = write!(head, "{sign} {}", declaration(&carry.name, carry.ty.as_ref(), Some(&carry.initial)));
    }
    head
}

fn scan_yield(scan: &Scan) -> Option<String> {
    (!scan.yields.is_empty()).then(|| format!("yield {}", expression_list(&scan.yields)))
}

fn scan_tail(scan: &Scan) -> String {
    if scan.results.is_empty() { String::new() } else { format!(" -> {}", name_list(&scan.results)) }
}

/// A statement on one line, also one with a block.
fn one_line(kind: &StatementKind) -> String {
    let named = |word: &str, name: &Name, value: &Expression| format!("{word} {} = {}", name.text, expression(value));
    match kind {
        StatementKind::Bind { names, value } => format!("{} = {}", name_list(names), expression(value)),
        StatementKind::Update { name, value } => format!("{} <- {}", name.text, expression(value)),
        StatementKind::Param { name, ty, init } => format!("param {}", declaration(name, ty.as_ref(), init.as_ref())),
        StatementKind::State { name, ty, init } => format!("state {}", declaration(name, ty.as_ref(), init.as_ref())),
        StatementKind::Input { name, ty } => format!("input {}", declaration(name, Some(ty), None)),
        StatementKind::Target { name, ty } => format!("target {}", declaration(name, Some(ty), None)),
        StatementKind::Output { name, value } => named("output", name, value),
        StatementKind::Loss { name, value } => named("loss", name, value),
        StatementKind::Metric { name, value } => named("metric", name, value),
        StatementKind::Return(value) => format!("return {}", expression(value)),
        // Brackets, so that a sign does not continue the line before and an `if` stays a value.
        StatementKind::Expression(value) => match value.kind {
            ExpressionKind::Unary { .. } | ExpressionKind::If { .. } => format!("({})", expression(value)),
            _ => expression(value),
        },
        StatementKind::For { names, iterable, body } => {
            format!("for {} in {} {}", name_list(names), expression(iterable), inline_block(body))
        }
        StatementKind::If { condition, then, otherwise } => {
            let otherwise =
                otherwise.as_ref().map(|block| format!(" else {}", inline_block(block))).unwrap_or_default();
            format!("if {} {}{otherwise}", expression(condition), inline_block(then))
        }
        StatementKind::Scan(scan) => {
            let mut lines: Vec<String> = scan.body.statements.iter().map(|s| one_line(&s.kind)).collect();
            lines.extend(scan_yield(scan));
            format!("{} {{ {} }}{}", scan_head(scan), lines.join("; "), scan_tail(scan))
        }
        StatementKind::Define(definition) => {
            format!("{} {}", definition_head(definition), inline_block(&definition.body))
        }
    }
}

fn split_entry(entry: &SplitEntry) -> String {
    match entry {
        SplitEntry::Bind { name, reader } => format!("{} = {}", name.text, expression(reader)),
        SplitEntry::From { split } => format!("from {}", split.text),
        SplitEntry::Take { place: Some(place), amount } => format!("take {} {}", place.text, expression(amount)),
        SplitEntry::Take { place: None, amount } => format!("take {}", expression(amount)),
    }
}

fn train_entry(kind: &TrainEntryKind) -> String {
    match kind {
        TrainEntryKind::Epochs(value) => format!("epochs {}", expression(value)),
        TrainEntryKind::Steps(value) => format!("steps {}", expression(value)),
        TrainEntryKind::Batch(value) => format!("batch {}", expression(value)),
        TrainEntryKind::Seed(value) => format!("seed {}", expression(value)),
        TrainEntryKind::Shuffle(value) => format!("shuffle {}", expression(value)),
        TrainEntryKind::Validate(value) => format!("validate {}", expression(value)),
        TrainEntryKind::Minimize { loss, over, with, times } => {
            let over = if over.is_empty() { String::new() } else { format!(" over {}", expression_list(over)) };
            let times = times.as_ref().map(|times| format!(" times {}", expression(times))).unwrap_or_default();
            format!("minimize {}{over} with {}{times}", loss.text, expression(with))
        }
        TrainEntryKind::Clip { what, limit } => format!("clip {} {}", what.text, expression(limit)),
        TrainEntryKind::Accumulate(value) => format!("accumulate {}", expression(value)),
        TrainEntryKind::Freeze(values) => format!("freeze {}", expression_list(values)),
        TrainEntryKind::Load { path, into } => {
            let into = into.as_ref().map(|into| format!(" into {}", expression(into))).unwrap_or_default();
            format!("load {}{into}", expression(path))
        }
        TrainEntryKind::StopWhen(value) => format!("stop when {}", expression(value)),
        TrainEntryKind::StopNotImproved { metric, count, unit } => {
            format!("stop when {} has not improved for {} {}", expression(metric), expression(count), unit.text)
        }
        TrainEntryKind::KeepBest(value) => format!("keep best {}", expression(value)),
        TrainEntryKind::Checkpoint { every, unit } => format!("checkpoint every {} {}", expression(every), unit.text),
        TrainEntryKind::Average { what, decay } => format!("average {} {}", what.text, expression(decay)),
        TrainEntryKind::Phase { name, entries } => {
            let entries: Vec<String> = entries.iter().map(|entry| train_entry(&entry.kind)).collect();
            format!("phase {} {{ {} }}", quoted(name), entries.join("; "))
        }
    }
}
