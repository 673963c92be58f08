//! What the language offers beside the user's own names, by name: for tools that show it.

use std::sync::Arc;

use super::ast::{Definition, Name};
use super::{Global, MAIN, Project, elaborate};

/// A primitive of the graph or a compile-time function.
#[derive(Clone, Debug)]
pub struct BuiltIn {
    pub name: &'static str,
    pub doc: &'static str,
    pub parameters: Vec<BuiltInParameter>,
}

/// A parameter of a [`BuiltIn`].
#[derive(Clone, Copy, Debug)]
pub struct BuiltInParameter {
    pub name: &'static str,
    /// Whether a call must give it.
    pub required: bool,
    /// What it takes, in words; empty where nothing is said.
    pub kind: &'static str,
}

/// What a name of another file is.
#[derive(Clone, Debug)]
pub enum Elsewhere {
    Definition(Arc<Definition>),
    Constant(Name),
    /// A used file, by the place of the name that it was given.
    File(Name),
}

impl Elsewhere {
    /// The name, where it is defined.
    pub fn name(&self) -> &Name {
        match self {
            Elsewhere::Definition(definition) => &definition.name,
            Elsewhere::Constant(name) | Elsewhere::File(name) => name,
        }
    }
}

impl From<&Global> for Elsewhere {
    fn from(global: &Global) -> Elsewhere {
        match global {
            Global::Definition(definition) => Elsewhere::Definition(definition.clone()),
            Global::Const(name, _) => Elsewhere::Constant(name.clone()),
            Global::Module(name, _) => Elsewhere::File(name.clone()),
        }
    }
}

impl Project {
    /// What the user's file calls `name`, where it is none of its own: an item of a used file or of the library.
    pub fn elsewhere(&self, name: &str) -> Option<Elsewhere> {
        self.global(name, MAIN).map(Elsewhere::from)
    }

    /// The item of the used file that is called `file`.
    pub fn item_of(&self, file: &str, name: &str) -> Option<Elsewhere> {
        match self.global(file, MAIN)? {
            Global::Module(_, id) => self.own_global(name, *id).map(Elsewhere::from),
            Global::Definition(_) | Global::Const(..) => None,
        }
    }

    /// The names of the items of the used file that is called `file`, in alphabetical order.
    pub fn items_of(&self, file: &str) -> Vec<&str> {
        let Some(Global::Module(_, id)) = self.global(file, MAIN) else { return Vec::new() };
        let mut names: Vec<&str> = self.user_file(*id).into_iter().flat_map(|f| f.own.keys()).map(|n| &**n).collect();
        names.sort_unstable();
        names
    }

    /// Every name that the user's file has from a used file or from the library, in alphabetical order.
    pub fn names_elsewhere(&self) -> Vec<&str> {
        let used = self.files[0].names.iter().filter(|(name, _)| !self.files[0].own.contains_key(*name));
        let mut names: Vec<&str> = used.map(|(name, _)| &**name).collect();
        names.extend(self.library.names());
        names.sort_unstable();
        names.dedup();
        names
    }

    /// A primitive or compile-time function.
    pub fn built_in(&self, name: &str) -> Option<BuiltIn> {
        if let Some((name, parameters, doc)) = elaborate::BUILTINS.iter().find(|b| b.0 == name) {
            let parameter = |name| BuiltInParameter { name, required: true, kind: "" };
            let parameters = parameters.split_whitespace().map(parameter).collect();
            return Some(BuiltIn { name, doc, parameters });
        }
        let primitive = &self.primitives[self.primitive(name)?];
        let parameter = |p: &crate::ir::ops::primitive::Parameter| BuiltInParameter {
            name: p.name,
            required: p.required,
            kind: p.kind,
        };
        let parameters = primitive.parameters.iter().map(parameter).collect();
        Some(BuiltIn { name: primitive.name, doc: primitive.doc, parameters })
    }

    /// The names of all primitives and compile-time functions, in alphabetical order.
    pub fn built_in_names(&self) -> Vec<&'static str> {
        let compile_time = elaborate::BUILTINS.iter().map(|b| b.0);
        let mut names: Vec<&str> = self.primitives.iter().map(|p| p.name).chain(compile_time).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_found() {
        let (project, _) = Project::parse("<string>", "");
        assert!(project.built_in_names().iter().all(|n| project.built_in(n).is_some_and(|b| !b.doc.is_empty())));
        assert!(project.names_elsewhere().iter().all(|n| project.elsewhere(n).is_some()));
        let dense = project.elsewhere("dense");
        assert!(matches!(&dense, Some(Elsewhere::Definition(d)) if d.doc.is_some()));
        assert!(project.built_in("shape").is_some() && project.built_in("relu").is_none());
    }

    #[test]
    fn used_files_are_looked_into() {
        let text = "use \"a.nn\"\nuse \"a.nn\" as blocks\nconst c = 1\n";
        let read = |_: &std::path::Path| Ok(b"fn half(x) { x / 2 }\n".to_vec());
        let (project, _) = Project::parse_with("m.nn", text, &read);
        assert!(matches!(project.elsewhere("half"), Some(Elsewhere::Definition(_))));
        assert!(matches!(project.elsewhere("blocks"), Some(Elsewhere::File(_))));
        assert!(matches!(project.item_of("blocks", "half"), Some(Elsewhere::Definition(_))));
        assert!(project.item_of("blocks", "dense").is_none());
        assert_eq!(project.items_of("blocks"), ["half"]);
        let names = project.names_elsewhere();
        assert!(names.contains(&"half") && names.contains(&"blocks") && !names.contains(&"c"));
    }
}
