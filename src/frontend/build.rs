//! Cuts the entry points out of an elaborated graph: each gets the nodes and arguments that its results depend on.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use rustc_hash::FxHashMap;

use super::elaborate::{Elaboration, Member};
use super::model::{CheckedModel, LayerRecord, Minimize, ParameterInfo, Whole};
use crate::ir::builder::GraphBuilder;
use crate::ir::graph::{Argument, Function, FunctionResult, NodeId, ResultRole, Role, ValueId};
use crate::ir::ops::Op;
use crate::ir::types::DType;

/// The entry points, each made when it is first asked for. Dims may be symbolic. Arguments stand in the order seed, step, epoch,
/// inputs, targets, parameters, states (both in the order of [`CheckedModel::parameters`]), optimizer states; each entry has only
/// those it depends on.
#[derive(Clone)]
pub struct Entries {
    elaborated: Arc<Elaborated>,
    minimizes: bool,
    init: OnceLock<Function>,
    infer: OnceLock<Option<Function>>,
    eval: OnceLock<Option<Function>>,
    whole: OnceLock<Option<Whole>>,
    train_step: OnceLock<Option<Function>>,
}

/// A model elaborated without and with training. Of the members of the latter, `order` is the order of the weight file.
struct Elaborated {
    plain: Elaboration,
    training: Elaboration,
    order: Vec<usize>,
}

impl Entries {
    /// The first values of parameters, states and optimizer states, as `ResultRole::Initial` named as the arguments.
    pub fn init(&self) -> &Function {
        self.init.get_or_init(|| init(&self.elaborated.training, &self.elaborated.order))
    }

    /// The outputs; `None` in a model without any.
    pub fn infer(&self) -> Option<&Function> {
        self.infer.get_or_init(|| select(&self.elaborated.plain, "infer", &[ResultRole::Output])).as_ref()
    }

    /// Losses and metrics with `training` false, without those of a whole set; `None` in a model without any.
    pub fn eval(&self) -> Option<&Function> {
        let roles = [ResultRole::Loss, ResultRole::Metric];
        self.eval.get_or_init(|| select(&self.elaborated.plain, "eval", &roles)).as_ref()
    }

    /// What metrics of a whole set need; `None` in a model without any.
    pub fn whole(&self) -> Option<&Whole> {
        self.whole.get_or_init(|| whole(&self.elaborated.plain)).as_ref()
    }

    /// Losses, metrics and updates; `None` without a recipe that minimizes something.
    pub fn train_step(&self) -> Option<&Function> {
        let Elaborated { training, order, .. } = &*self.elaborated;
        self.train_step.get_or_init(|| self.minimizes.then(|| train_step(training, order))).as_ref()
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("minimizes", &self.minimizes).finish_non_exhaustive()
    }
}

/// A model elaborated without and with training.
pub(super) fn build(name: &str, mut plain: Elaboration, training: Elaboration) -> CheckedModel {
    let parameters: Vec<ParameterInfo> =
        file_order(&plain.members).iter().map(|i| parameter_info(&plain.members[*i])).collect();
    let layers = layer_records(&plain, &parameters);
    let place: HashMap<&str, usize> = parameters.iter().enumerate().map(|(i, p)| (p.path.as_str(), i)).collect();
    let recipe = training.recipe.clone().map(|mut recipe| {
        for minimize in &mut recipe.minimize {
            renumber(minimize, &training.members, &place);
        }
        recipe
    });
    CheckedModel {
        name: name.to_owned(),
        fields: std::mem::take(&mut plain.fields),
        layers,
        data: plain.data.take(),
        warnings: std::mem::take(&mut plain.diagnostics),
        entries: Entries {
            minimizes: recipe.as_ref().is_some_and(|r| !r.minimize.is_empty()),
            elaborated: Arc::new(Elaborated { order: file_order(&training.members), plain, training }),
            init: OnceLock::new(),
            infer: OnceLock::new(),
            eval: OnceLock::new(),
            whole: OnceLock::new(),
            train_step: OnceLock::new(),
        },
        parameters,
        recipe,
    }
}

/// Members in the order of the weight file: size of the dtype descending, then path.
fn file_order(members: &[Member]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|i| file_key(members[*i].ty.dtype, &members[*i].path));
    order
}

fn file_key(dtype: DType, path: &str) -> (std::cmp::Reverse<usize>, String) {
    (std::cmp::Reverse(dtype.bytes()), path.to_owned())
}

fn parameter_info(member: &Member) -> ParameterInfo {
    ParameterInfo {
        path: member.path.clone(),
        ty: member.ty.clone(),
        trainable: member.is_parameter && !member.frozen,
        is_parameter: member.is_parameter,
        span: member.span,
    }
}

fn layer_records(plain: &Elaboration, parameters: &[ParameterInfo]) -> Vec<LayerRecord> {
    let record = |r: &super::elaborate::Record| {
        let own = |p: &str| p == r.path || p.strip_prefix(&r.path).is_some_and(|rest| rest.starts_with('.'));
        let parameters = parameters.iter().enumerate().filter(|(_, p)| own(&p.path)).map(|(i, _)| i).collect();
        LayerRecord { path: r.path.clone(), layer: r.layer.clone(), output: r.output.clone(), parameters }
    };
    plain.records.iter().map(record).collect()
}

fn renumber(minimize: &mut Minimize, members: &[Member], place: &HashMap<&str, usize>) {
    minimize.parameters =
        minimize.parameters.iter().filter_map(|i| place.get(members[*i].path.as_str()).copied()).collect();
    minimize.parameters.sort_unstable();
}

/// A result still in the elaborated graph; an update names the argument by its value.
struct Wanted {
    name: String,
    role: ResultRole,
    value: ValueId,
    updates: Option<ValueId>,
}

fn select(elaboration: &Elaboration, name: &str, roles: &[ResultRole]) -> Option<Function> {
    let wanted = results(elaboration, roles);
    if wanted.is_empty() { None } else { Some(cut(elaboration, name, wanted)) }
}

/// Results with one of the roles: losses before metrics, else in the order of the file.
fn results(elaboration: &Elaboration, roles: &[ResultRole]) -> Vec<Wanted> {
    let of_role = |role: &ResultRole| {
        let role = *role;
        elaboration.results.iter().filter(move |r| r.role == role && !r.whole).map(move |r| Wanted {
            name: r.name.clone(),
            role,
            value: r.value,
            updates: None,
        })
    };
    roles.iter().flat_map(of_role).collect()
}

/// The two parts of metrics of a whole set.
fn whole(plain: &Elaboration) -> Option<Whole> {
    let metric = |r: &super::elaborate::ModelResult| Wanted {
        name: r.name.clone(),
        role: ResultRole::Metric,
        value: r.value,
        updates: None,
    };
    let metrics: Vec<Wanted> = plain.results.iter().filter(|r| r.whole).map(metric).collect();
    if metrics.is_empty() {
        return None;
    }
    let finish = cut(plain, "finish", metrics);
    let needed = |name: &str| finish.arguments.iter().any(|a| a.name == name);
    let gathered = plain.gathered.iter().filter(|g| needed(&g.name)).map(|g| Wanted {
        name: g.name.clone(),
        role: ResultRole::Output,
        value: g.value,
        updates: None,
    });
    let mut wanted = results(plain, &[ResultRole::Loss, ResultRole::Metric]);
    wanted.extend(gathered);
    Some(Whole { gather: cut(plain, "gather", wanted), finish })
}

fn init(elaboration: &Elaboration, order: &[usize]) -> Function {
    let members = order.iter().map(|i| &elaboration.members[*i]).chain(&elaboration.optimizer_states);
    let wanted = members.filter_map(|m| {
        let value = m.initial?;
        Some(Wanted { name: m.path.clone(), role: ResultRole::Initial, value, updates: None })
    });
    cut(elaboration, "init", wanted.collect())
}

fn train_step(elaboration: &Elaboration, order: &[usize]) -> Function {
    let mut wanted = results(elaboration, &[ResultRole::Loss, ResultRole::Metric]);
    let members = order.iter().map(|i| &elaboration.members[*i]).chain(&elaboration.optimizer_states);
    let changed = members.filter(|m| m.current != m.argument);
    wanted.extend(changed.map(|m| Wanted {
        name: m.path.clone(),
        role: ResultRole::Update(0),
        value: m.current,
        updates: Some(m.argument),
    }));
    cut(elaboration, "train_step", wanted)
}

/// The function of the wanted results: only the nodes and arguments that they need, arguments in their documented order.
fn cut(elaboration: &Elaboration, name: &str, wanted: Vec<Wanted>) -> Function {
    let graph = elaboration.builder.graph();
    let mut needed = vec![false; graph.len()];
    let mut waiting: Vec<NodeId> =
        wanted.iter().flat_map(|w| [Some(w.value), w.updates]).flatten().map(|v| v.node).collect();
    while let Some(id) = waiting.pop() {
        if !std::mem::replace(&mut needed[id.0 as usize], true) {
            waiting.extend(graph.node(id).inputs.iter().map(|v| v.node));
        }
    }
    let argument_of = |id: NodeId| match &graph.node(id).op {
        Op::Argument(argument) => Some(argument.index),
        _ => None,
    };
    let in_use = graph.nodes().filter(|(id, _)| needed[id.0 as usize]);
    let mut used: Vec<u32> = in_use.filter_map(|(id, _)| argument_of(id)).collect();
    used.sort_by_cached_key(|i| argument_key(elaboration, *i));
    let position: FxHashMap<u32, u32> = used.iter().enumerate().map(|(new, old)| (*old, new as u32)).collect();
    let arguments: Vec<Argument> = used.iter().map(|i| elaboration.arguments[*i as usize].clone()).collect();

    let mut builder = GraphBuilder::new();
    // Where each node went; outputs keep their numbers.
    let mut moved: Vec<NodeId> = vec![NodeId(u32::MAX); graph.len()];
    for old in &used {
        let ty = elaboration.arguments[*old as usize].ty.clone();
        moved[elaboration.argument_value(*old).node.0 as usize] = builder.argument(position[old], ty).node;
    }
    let place = |moved: &[NodeId], v: ValueId| ValueId { node: moved[v.node.0 as usize], output: v.output };
    for (id, node) in graph.nodes() {
        if needed[id.0 as usize] && argument_of(id).is_none() {
            let inputs = node.inputs.iter().map(|v| place(&moved, *v)).collect();
            moved[id.0 as usize] = builder.copy_node(node, inputs);
        }
    }
    let results = wanted
        .into_iter()
        .map(|w| {
            let role = match w.updates.and_then(|v| argument_of(v.node)) {
                Some(index) => ResultRole::Update(position[&index]),
                None => w.role,
            };
            FunctionResult { name: w.name, role, value: place(&moved, w.value) }
        })
        .collect();
    Function { name: name.to_owned(), arguments, graph: builder.finish(), results }
}

/// Seed, step, epoch, inputs, targets, parameters, states, optimizer states; fields as declared, the others as in the weight file.
fn argument_key(elaboration: &Elaboration, index: u32) -> (u8, std::cmp::Reverse<usize>, String, u32) {
    let argument = &elaboration.arguments[index as usize];
    let rank = match argument.role {
        Role::Seed => 0,
        Role::Step => 1,
        Role::Epoch => 2,
        Role::Input => 3,
        Role::Target => 4,
        Role::Parameter => 5,
        Role::State => 6,
        Role::OptimizerState => 7,
    };
    if rank < 5 {
        return (rank, std::cmp::Reverse(0), String::new(), index);
    }
    let (bytes, path) = file_key(argument.ty.dtype, &argument.name);
    (rank, bytes, path, index)
}
