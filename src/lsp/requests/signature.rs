//! The parameters of the call that is being written.

use lsp_types::{
    Documentation, ParameterInformation, ParameterLabel, SignatureHelp, SignatureHelpParams, SignatureInformation,
};

use super::hover::markdown;
use super::{Answer, Context};

pub fn help(context: &Context<'_>, params: SignatureHelpParams) -> Answer<Option<SignatureHelp>> {
    let at = context.offset(params.text_document_position_params.position);
    let analysis = context.analysis;
    let Some(call) = analysis.context_at(at).call else { return Ok(None) };
    let Some(callee) = analysis.callee_at(&call) else { return Ok(None) };
    let (label, doc) = analysis.describe_callee(&callee);
    let parameters = analysis.parameters_of(&callee);
    let active = match &call.current {
        Some(name) => parameters.iter().position(|p| p.name == *name),
        None => Some(call.before + usize::from(call.piped)),
    };
    let listed = parameters.iter().map(|p| ParameterInformation {
        label: ParameterLabel::Simple(p.text.clone()),
        documentation: p.doc.clone().map(Documentation::String),
    });
    let signature = SignatureInformation {
        label,
        documentation: doc.map(|doc| Documentation::MarkupContent(markdown(doc))),
        parameters: Some(listed.collect()),
        active_parameter: active.and_then(|at| u32::try_from(at).ok()),
    };
    Ok(Some(SignatureHelp { signatures: vec![signature], active_signature: Some(0), active_parameter: None }))
}
