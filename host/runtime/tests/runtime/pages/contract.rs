//! The contract as a page: worlds, then interfaces with their functions and types.

use std::fmt::Write as _;

use wit_parser::{
    Docs, Function, FunctionKind, Handle, Interface, PackageId, Resolve, Type, TypeDef,
    TypeDefKind, TypeId, World, WorldItem, WorldKey,
};

use super::settle;

/// What reads first: what every kind shares, then the kinds, then what plugins may call; others follow by name.
const ORDER: [&str; 7] = [
    "types",
    "receiver",
    "check",
    "channel",
    "billing-rule",
    "telemetry",
    "log",
];

#[test]
fn the_page_of_the_contract_says_what_the_contract_says() {
    let mut resolve = Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    let (package, _) = resolve.push_path(wit).unwrap();
    settle("contract.md", &Page::of(&resolve, package));
}

struct Page<'a> {
    resolve: &'a Resolve,
    text: String,
}

impl Page<'_> {
    fn of(resolve: &Resolve, package: PackageId) -> String {
        let mut page = Page {
            resolve,
            text: String::new(),
        };
        let package = &resolve.packages[package];
        page.line(format_args!("# The contract: `{}`", package.name));
        page.line("<!-- Written by `cargo xtask docs` from `wit/`; change it there. -->");
        page.paragraph(&package.docs);
        page.line("## Worlds");
        page.line("| world | exports | may import |\n|---|---|---|");
        for world in package.worlds.values() {
            page.world(&resolve.worlds[*world]);
        }
        page.text.push('\n');
        let mut names: Vec<&String> = package.interfaces.keys().collect();
        let place = |name: &str| ORDER.iter().position(|first| *first == name);
        names.sort_by_key(|name| (place(name).unwrap_or(ORDER.len()), name.as_str()));
        for name in names {
            page.interface(name, &resolve.interfaces[package.interfaces[name]]);
        }
        format!("{}\n", page.text.trim_end())
    }

    /// A line, and an empty one after what is no row of a table.
    fn line(&mut self, text: impl ToString) {
        let text = text.to_string();
        let end = if text.starts_with('|') { "\n" } else { "\n\n" };
        self.text.push_str(&text);
        self.text.push_str(end);
    }

    fn paragraph(&mut self, docs: &Docs) {
        let text = docs.contents.as_deref().unwrap_or_default().trim();
        if !text.is_empty() {
            self.line(text);
        }
    }

    fn world(&mut self, world: &World) {
        let list = |items: &mut dyn Iterator<Item = (&WorldKey, &WorldItem)>| {
            let names = items.filter_map(|(_, item)| match item {
                WorldItem::Interface { id, .. } => self.resolve.interfaces[*id].name.clone(),
                _ => None,
            });
            // What only holds types comes along by itself.
            let names = names.filter(|name| !matches!(name.as_str(), "types" | "telemetry"));
            names
                .map(|name| format!("[`{name}`](#{name})"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let exports = list(&mut world.exports.iter());
        let imports = list(&mut world.imports.iter());
        self.line(format_args!("| `{}` | {exports} | {imports} |", world.name));
    }

    fn interface(&mut self, name: &str, interface: &Interface) {
        self.line(format_args!("## {name}"));
        self.paragraph(&interface.docs);
        let free = |function: &&Function| function.kind.resource().is_none();
        for function in interface.functions.values().filter(free) {
            self.function(function);
        }
        for (name, id) in &interface.types {
            self.type_of(name, *id, interface);
        }
    }

    fn function(&mut self, function: &Function) {
        let name = function.item_name();
        self.line(format_args!("### {name}"));
        let inherent = matches!(
            function.kind,
            FunctionKind::Method(_) | FunctionKind::AsyncMethod(_)
        );
        let parameters: Vec<String> = function
            .params
            .iter()
            .skip(usize::from(inherent))
            .map(|one| format!("{}: {}", one.name, self.name_of(&one.ty)))
            .collect();
        let result = match &function.result {
            Some(result) => format!(" -> {}", self.name_of(result)),
            None => String::new(),
        };
        let signature = format!("{name}: func({}){result}", parameters.join(", "));
        self.line(format_args!("```wit\n{signature}\n```"));
        self.paragraph(&function.docs);
    }

    fn type_of(&mut self, name: &str, id: TypeId, interface: &Interface) {
        let item: &TypeDef = &self.resolve.types[id];
        if matches!(item.kind, TypeDefKind::Type(_)) && item.docs.contents.is_none() {
            return; // A `use` of another interface's type, shown there.
        }
        self.line(format_args!("### {name}"));
        self.paragraph(&item.docs);
        match &item.kind {
            TypeDefKind::Record(record) => {
                self.line("| field | type | |\n|---|---|---|");
                for field in &record.fields {
                    let of = self.name_of(&field.ty);
                    self.row(&[&field.name, &of], &field.docs);
                }
            }
            TypeDefKind::Variant(variant) => {
                self.line("| case | carries | |\n|---|---|---|");
                for case in &variant.cases {
                    let of = case.ty.as_ref().map(|of| self.name_of(of));
                    self.row(&[&case.name, &of.unwrap_or_default()], &case.docs);
                }
            }
            TypeDefKind::Enum(cases) => {
                self.line("| case | |\n|---|---|");
                for case in &cases.cases {
                    self.row(&[&case.name], &case.docs);
                }
            }
            TypeDefKind::Resource => {
                let own = |function: &&Function| function.kind.resource() == Some(id);
                for function in interface.functions.values().filter(own) {
                    self.function(function);
                }
            }
            other => {
                let form = self.form_of(other);
                self.line(format_args!("```wit\ntype {name} = {form}\n```"));
            }
        }
        if !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    fn row(&mut self, code: &[&str], docs: &Docs) {
        let docs = docs.contents.as_deref().unwrap_or_default();
        let docs = docs.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut row = String::from("|");
        for word in code {
            let cell = if word.is_empty() {
                String::new()
            } else {
                format!("`{word}`")
            };
            write!(row, " {cell} |").unwrap();
        }
        self.line(format_args!("{row} {} |", docs.replace('|', "\\|")));
    }

    /// A type as WIT writes it.
    fn name_of(&self, of: &Type) -> String {
        let Type::Id(id) = of else {
            return format!("{of:?}").to_lowercase();
        };
        let item = &self.resolve.types[*id];
        if let Some(name) = &item.name {
            return name.clone();
        }
        self.form_of(&item.kind)
    }

    /// A type without a name of its own.
    fn form_of(&self, kind: &TypeDefKind) -> String {
        let part = |part: &Option<Type>| part.as_ref().map(|part| self.name_of(part));
        match kind {
            TypeDefKind::Type(of) => self.name_of(of),
            TypeDefKind::List(of) => format!("list<{}>", self.name_of(of)),
            TypeDefKind::Option(of) => format!("option<{}>", self.name_of(of)),
            TypeDefKind::Tuple(tuple) => {
                let types: Vec<_> = tuple.types.iter().map(|of| self.name_of(of)).collect();
                format!("tuple<{}>", types.join(", "))
            }
            TypeDefKind::Result(result) => match (part(&result.ok), part(&result.err)) {
                (None, None) => "result".to_owned(),
                (Some(ok), None) => format!("result<{ok}>"),
                (ok, Some(err)) => format!("result<{}, {err}>", ok.as_deref().unwrap_or("_")),
            },
            TypeDefKind::Handle(Handle::Own(id)) => self.name_of(&Type::Id(*id)),
            TypeDefKind::Handle(Handle::Borrow(id)) => {
                format!("borrow<{}>", self.name_of(&Type::Id(*id)))
            }
            other => panic!("a page has no form for a {}", other.as_str()),
        }
    }
}
