//! The contract itself: every item is documented, and no change of it goes unseen.

use wit_component::WitPrinter;
use wit_parser::{PackageId, Resolve, TypeDefKind, WorldItem};

fn contract() -> (Resolve, PackageId) {
    let mut resolve = Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    let (package, _) = resolve.push_path(wit).unwrap();
    (resolve, package)
}

/// Names of everything without documentation.
#[derive(Default)]
struct Bare(Vec<String>);

impl Bare {
    fn look(&mut self, docs: &wit_parser::Docs, name: impl Into<String>) {
        if docs
            .contents
            .as_deref()
            .unwrap_or_default()
            .trim()
            .is_empty()
        {
            self.0.push(name.into());
        }
    }
}

#[test]
fn every_item_of_the_contract_is_documented() {
    let (resolve, package) = contract();
    let package = &resolve.packages[package];
    let mut bare = Bare::default();
    bare.look(&package.docs, "the package");
    for (name, world) in &package.worlds {
        let world = &resolve.worlds[*world];
        bare.look(&world.docs, name);
        let functions = world.imports.values().chain(world.exports.values());
        assert!(
            functions
                .clone()
                .all(|item| !matches!(item, WorldItem::Function(_))),
            "{name}: versioned interfaces, never bare functions"
        );
    }
    let mut items = 0;
    for (name, interface) in &package.interfaces {
        let interface = &resolve.interfaces[*interface];
        bare.look(&interface.docs, name);
        for (function, item) in &interface.functions {
            bare.look(&item.docs, format!("{name}.{function}"));
        }
        for (type_name, id) in &interface.types {
            let item = &resolve.types[*id];
            let at = format!("{name}.{type_name}");
            items += 1;
            let parts: Vec<_> = match &item.kind {
                // A `use` of another interface's type, documented there.
                TypeDefKind::Type(_) if item.docs.contents.is_none() => continue,
                TypeDefKind::Record(r) => r.fields.iter().map(|f| (&f.name, &f.docs)).collect(),
                TypeDefKind::Variant(v) => v.cases.iter().map(|c| (&c.name, &c.docs)).collect(),
                TypeDefKind::Enum(e) => e.cases.iter().map(|c| (&c.name, &c.docs)).collect(),
                TypeDefKind::Flags(f) => f.flags.iter().map(|f| (&f.name, &f.docs)).collect(),
                _ => Vec::new(),
            };
            bare.look(&item.docs, at.clone());
            for (part, docs) in parts {
                bare.look(docs, format!("{at}.{part}"));
            }
        }
    }
    assert!(items > 20, "the walk saw the contract");
    assert_eq!(bare.0, [] as [&str; 0], "without documentation");
}

#[test]
fn a_change_of_the_contract_is_seen() {
    let (resolve, package) = contract();
    let mut printer = WitPrinter::default();
    printer.emit_docs(false);
    printer.print(&resolve, package, &[]).unwrap();
    insta::assert_snapshot!("contract", String::from(printer.output));
}
