//! `nnc summary F.nn`: the layers with their shapes and parameters, and the totals.

use serde::Serialize;

use super::Failure;
use super::console::Console;
use super::model::{ModelArguments, any_number_of_steps};
use crate::driver::{Compiled, Entry};

/// A table of the layers: output shapes, parameters, work per sample
#[derive(Debug, clap::Args)]
pub struct Summary {
    #[command(flatten)]
    model: ModelArguments,
}

/// The table as an object.
#[derive(Serialize)]
struct Table {
    event: &'static str,
    model: String,
    layers: Vec<Layer>,
    /// Numbers in all parameters and states.
    parameters: usize,
    trainable: usize,
    not_trainable: usize,
    /// Operations of inference for each sample; absent in a model without outputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    flops: Option<u64>,
    /// Bytes of one sample's inputs and outputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

#[derive(Serialize)]
struct Layer {
    name: String,
    layer: String,
    /// A number, or text for a size that is not known yet (`batch`), per dim of the first result.
    output: Vec<serde_json::Value>,
    #[serde(skip)]
    output_text: String,
    parameters: usize,
}

impl Summary {
    /// Runs the command.
    pub fn run(&self, console: &Console) -> Result<(), Failure> {
        let compiled = self.model.open(console, any_number_of_steps)?;
        let table = Table::new(&compiled)?;
        console.object(&table);
        console.result(&table.text());
        Ok(())
    }
}

impl Table {
    fn new(compiled: &Compiled) -> Result<Table, Failure> {
        let model = compiled.model();
        let layout = compiled.parameter_layout()?;
        let elements = |path: &str| layout.find(path).map_or(0, |slot| slot.shape.iter().product::<usize>());
        let layers = model.layers.iter().map(|record| {
            let dims = record.output.first().map(|ty| ty.shape.as_slice()).unwrap_or_default();
            let texts: Vec<String> = record.output.iter().map(ToString::to_string).collect();
            Layer {
                name: record.path.clone(),
                layer: record.layer.clone(),
                output: dims.iter().map(|d| d.constant().map_or(d.to_string().into(), Into::into)).collect(),
                output_text: texts.join(", "),
                parameters: record.parameters.iter().map(|&i| elements(&model.parameters[i].path)).sum(),
            }
        });
        let layers = layers.collect();
        let (mut parameters, mut trainable) = (0, 0);
        for parameter in &model.parameters {
            parameters += elements(&parameter.path);
            trainable += if parameter.trainable { elements(&parameter.path) } else { 0 };
        }
        let not_trainable = parameters - trainable;
        let cost = match compiled.function(Entry::Infer) {
            Ok(_) => compiled.cost(Entry::Infer, 1)?,
            Err(_) => None,
        };
        Ok(Table {
            event: "summary",
            model: model.name.clone(),
            layers,
            parameters,
            trainable,
            not_trainable,
            flops: cost.map(|c| c.flops),
            bytes: cost.map(|c| c.bytes),
        })
    }

    /// The table for people.
    fn text(&self) -> String {
        let heads = ["layer".to_owned(), "output".to_owned(), "parameters".to_owned()];
        let rows = self.layers.iter().map(|layer| {
            [format!("{} ({})", layer.name, layer.layer), layer.output_text.clone(), layer.parameters.to_string()]
        });
        let rows: Vec<[String; 3]> = std::iter::once(heads).chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (first, second, third) = (width(0), width(1), width(2));
        let rule = "─".repeat(first + second + third + 4);
        let mut text = format!("model {}\n{rule}\n", self.model);
        for (number, [layer, output, parameters]) in rows.iter().enumerate() {
            text.push_str(&format!("{layer:<first$}  {output:<second$}  {parameters:>third$}\n"));
            if number == 0 {
                text.push_str(&format!("{rule}\n"));
            }
        }
        text.push_str(&format!("{rule}\nparameters     {}\n", self.parameters));
        text.push_str(&format!("  trainable    {}\n", self.trainable));
        text.push_str(&format!("  not trained  {}", self.not_trainable));
        if let (Some(flops), Some(bytes)) = (self.flops, self.bytes) {
            text.push_str(&format!("\nper sample     {flops} operations, {bytes} bytes in and out"));
        }
        text
    }
}
