//! Files that are hostile by how they are made, before anything of them runs.

use std::fmt::Write as _;
use std::time::Duration;

use super::bytes::{beside_well, custom, section, well};
use super::case::{Attack, Case, Ends};
use super::cases;

cases! {
    empty_file
    noise
    core_module
    precompiled_code
    seventeen_mebibytes
    half_a_component
    no_manifest
    two_manifests
    manifest_of_one_mebibyte
    manifest_that_is_not_utf8
    manifest_of_deep_lists
    manifest_of_a_deep_schema
    manifest_of_a_large_pattern
    contract_of_the_next_version
    contract_of_the_future
    import_of_sockets
    import_of_what_was_not_asked_for
    twenty_thousand_exports
    a_thousand_imports
    names_of_a_hundred_kilobytes
    ten_thousand_instances
    thirty_three_instances
    five_memories
    seventeen_tables
    deep_components
    deep_types
    wide_types
    aliases_of_aliases
    memory_of_64_bits
    shared_memory
    garbage_collected_types
    exceptions
    asynchronous_functions
    threads
}

/// A file that is not accepted.
fn refused(tries: &'static str, bytes: Vec<u8>, says: &'static str) -> Case {
    let by = "what is looked at before anything is compiled";
    Case::new(tries, by, Attack::bytes(bytes), Ends::Refused(says))
}

/// A component that needs more than there is, or what is switched off.
fn refused_beside(
    tries: &'static str,
    stopped_by: &'static str,
    text: &str,
    says: &'static str,
) -> Case {
    let attack = Attack::bytes(beside_well(text, 1));
    Case::new(tries, stopped_by, attack, Ends::Refused(says))
}

/// A component that costs much to compile, and may run.
pub(super) fn heavy(tries: &'static str, attack: Attack) -> Case {
    let ends = Ends::OneOf(vec![Ends::Well, Ends::Refused("")]);
    Case {
        cpu_max: Duration::from_secs(60),
        ..Case::new(tries, "time and memory of its compilation", attack, ends)
    }
}

fn empty_file() -> Case {
    refused(
        "an empty file",
        Vec::new(),
        "the file is empty, not a component: upload the .wasm file",
    )
}

fn noise() -> Case {
    let noise = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8);
    refused(
        "100 kB of noise",
        noise.collect(),
        "the file is not WebAssembly, not a component",
    )
}

fn core_module() -> Case {
    let bytes = wat::parse_str("(module)").expect("a module");
    refused(
        "a core module",
        bytes,
        "the file is a core module, not a component: build it for wasm32-wasip2",
    )
}

fn precompiled_code() -> Case {
    let engine = wasmtime::Engine::default();
    let empty = wat::parse_str("(component)").expect("a component");
    let code = engine.precompile_component(&empty).expect("machine code");
    refused(
        "machine code that a server made, which would run outside of any sandbox",
        code,
        "the file is precompiled machine code, which is never accepted",
    )
}

fn seventeen_mebibytes() -> Case {
    let mut bytes = well();
    custom(&mut bytes, "padding", &vec![0; 17 << 20]);
    refused(
        "a file of 17 MiB",
        bytes,
        "16777216 are the most: strip it, or leave data out",
    )
}

fn half_a_component() -> Case {
    let mut bytes = well();
    bytes.truncate(bytes.len() / 2);
    refused(
        "half of a component",
        bytes,
        "the component is not valid at byte ",
    )
}

/// A component with fields and a manifest, of no use as a plugin.
fn fields(fields: &str, manifest: &str) -> Vec<u8> {
    let text = format!("(component {fields})");
    let mut bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"));
    custom(&mut bytes, "shoal:manifest", manifest.as_bytes());
    bytes
}

const MANIFEST: &str =
    "id = \"x\"\nversion = \"1.0.0\"\nkind = \"check\"\ntitle = \"X\"\ndescription = \"X\"\n";
const EXPORT: &str = "(instance $empty) (export \"shoal:plugin/check@0.1.0\" (instance $empty))";

fn no_manifest() -> Case {
    let bytes = wat::parse_str("(component)").expect("a component");
    refused(
        "a component that does not say what it is",
        bytes,
        "the component carries no manifest",
    )
}

fn two_manifests() -> Case {
    let mut bytes = well();
    custom(&mut bytes, "shoal:manifest", MANIFEST.as_bytes());
    refused(
        "a component that says twice what it is",
        bytes,
        "the component carries 2 manifests",
    )
}

fn manifest_of_one_mebibyte() -> Case {
    let manifest = format!("{MANIFEST}# {}", "x".repeat(1 << 20));
    refused(
        "a manifest of 1 MiB",
        fields(EXPORT, &manifest),
        " are the most",
    )
}

fn manifest_that_is_not_utf8() -> Case {
    let mut bytes = wat::parse_str("(component)").expect("a component");
    custom(&mut bytes, "shoal:manifest", &[0xff, 0xfe]);
    refused("a manifest that is not UTF-8", bytes, "not UTF-8 at byte 0")
}

fn manifest_of_deep_lists() -> Case {
    let manifest = format!(
        "{MANIFEST}[example]\na = {}{}",
        "[".repeat(20_000),
        "]".repeat(20_000)
    );
    refused(
        "a manifest of 20,000 lists in each other",
        fields(EXPORT, &manifest),
        "plugin.toml",
    )
}

fn manifest_of_a_deep_schema() -> Case {
    let mut path = "settings".to_owned();
    let mut manifest = format!("{MANIFEST}[settings]\ntype = \"object\"\n");
    for _ in 0..60 {
        path += ".properties.a";
        let _ = write!(manifest, "[{path}]\ntype = \"object\"\n");
    }
    refused(
        "settings that hold each other 60 deep",
        fields(EXPORT, &manifest),
        "plugin.toml: ",
    )
}

fn manifest_of_a_large_pattern() -> Case {
    let manifest = format!(
        "{MANIFEST}[settings]\ntype = \"object\"\n[settings.properties.a]\ntype = \"string\"\npattern = \"((a{{1,1000}}){{1,1000}}){{1,1000}}\"\n"
    );
    refused(
        "a pattern that unfolds to gigabytes",
        fields(EXPORT, &manifest),
        "plugin.toml: settings",
    )
}

fn contract_of_the_next_version() -> Case {
    let export = EXPORT.replace("@0.1.0", "@0.2.0");
    refused(
        "a component built for the contract's next version",
        fields(&export, MANIFEST),
        "the component was built for shoal:plugin/check@0.2.0, this server speaks shoal:plugin@0.1",
    )
}

fn contract_of_the_future() -> Case {
    let import = "(import \"wasi:cli/stderr@0.3.0\" (instance))";
    refused(
        "a component built for another WASI",
        fields(&format!("{import} {EXPORT}"), MANIFEST),
        "this server speaks WASI 0.2: build for wasm32-wasip2",
    )
}

fn import_of_sockets() -> Case {
    let import = "(import \"wasi:sockets/tcp@0.2.6\" (instance))";
    refused(
        "a component that wants sockets of its own",
        fields(&format!("{import} {EXPORT}"), MANIFEST),
        "the component imports wasi:sockets/tcp@0.2.6, which no check gets",
    )
}

fn import_of_what_was_not_asked_for() -> Case {
    let import = "(import \"wasi:http/outgoing-handler@0.2.6\" (instance))";
    refused(
        "a component that imports HTTP and does not ask for it",
        fields(&format!("{import} {EXPORT}"), MANIFEST),
        "but plugin.toml does not ask for it: add [[capabilities]] with kind = \"http\" and a reason",
    )
}

/// A short refusal, however long the names in the file are.
fn twenty_thousand_exports() -> Case {
    let mut exports = format!(
        "{} (type $t (enum \"a\"))",
        EXPORT.replace("check@", "channel@")
    );
    for i in 0..20_000 {
        let _ = write!(exports, "(export \"e{i}\" (type $t))");
    }
    refused(
        "20,000 exports",
        fields(&exports, MANIFEST),
        "the component must export shoal:plugin/check@0.1.0",
    )
}

fn a_thousand_imports() -> Case {
    let mut imports = String::new();
    for i in 0..1500 {
        let _ = write!(imports, "(import \"a:b/i{i}\" (instance))");
    }
    refused(
        "1,500 imports",
        fields(&format!("{imports}{EXPORT}"), MANIFEST),
        "instances count exceeds limit of 1000",
    )
}

fn names_of_a_hundred_kilobytes() -> Case {
    let import = format!("(import \"a:b/{}\" (instance))", "x".repeat(99_000));
    refused(
        "an import whose name has 99 kB",
        fields(&format!("{import}{EXPORT}"), MANIFEST),
        "",
    )
}

const MANY: &str = "core instances, memories and tables of one component";

fn instances(count: u32) -> Vec<u8> {
    beside_well(
        "(component (core module $m) (core instance (instantiate $m)))",
        count,
    )
}

fn ten_thousand_instances() -> Case {
    let attack = Attack::bytes(instances(10_000));
    Case::new("10,000 instances", MANY, attack, Ends::Refused(""))
}

fn thirty_three_instances() -> Case {
    let attack = Attack::bytes(instances(33));
    Case::new(
        "33 instances beside its own",
        MANY,
        attack,
        Ends::Refused(
            "contains 34 core module instances, which exceeds the configured maximum of 32",
        ),
    )
}

fn five_memories() -> Case {
    let text = "(component (core module $m (memory 0) (memory 0) (memory 0) (memory 0) (memory 0)) (core instance (instantiate $m)))";
    refused_beside(
        "five memories",
        MANY,
        text,
        "exceeds the per-instance limit of 4",
    )
}

fn seventeen_tables() -> Case {
    let tables = "(table 0 funcref) ".repeat(17);
    let text = format!("(component (core module $m {tables}) (core instance (instantiate $m)))");
    refused_beside(
        "17 tables",
        MANY,
        &text,
        "exceeds the per-instance limit of 16",
    )
}

fn deep_components() -> Case {
    // Made from the inside out, because text of such depth is none for a parser.
    let mut inner = wat::parse_str("(component)").expect("a component");
    for _ in 0..900 {
        let mut outer = inner[..8].to_vec();
        section(&mut outer, 4, &inner);
        inner = outer;
    }
    let mut bytes = well();
    section(&mut bytes, 4, &inner);
    heavy("900 components in each other", Attack::bytes(bytes))
}

fn deep_types() -> Case {
    let mut types = "(type $t0 u8)".to_owned();
    for i in 1..5000 {
        let _ = write!(types, "(type $t{i} (list $t{}))", i - 1);
    }
    let text = format!("(component {types} (type (func (param \"a\" $t4999))))");
    heavy(
        "a list of lists of lists, 5,000 deep",
        Attack::bytes(beside_well(&text, 1)),
    )
}

fn wide_types() -> Case {
    let mut types = "(type $t0 (tuple u8 u8))".to_owned();
    for i in 1..100 {
        let _ = write!(types, "(type $t{i} (tuple $t{0} $t{0} $t{0} $t{0}))", i - 1);
    }
    heavy(
        "a type of 4 to the power of 100 parts, written in 100 lines",
        Attack::bytes(beside_well(&format!("(component {types})"), 1)),
    )
}

fn aliases_of_aliases() -> Case {
    let mut text = "(component (type $t0 u8)".to_owned();
    for i in 1..50 {
        let _ = write!(
            text,
            "(component (alias outer 1 0 (type $t{i})) (export \"x\" (type $t{i}))"
        );
    }
    text += &")".repeat(50);
    heavy(
        "a type handed on through 50 components",
        Attack::bytes(beside_well(&text, 1)),
    )
}

const SWITCHED_OFF: &str = "features that are switched off";

fn memory_of_64_bits() -> Case {
    let text = "(component (core module $m (memory i64 1)) (core instance (instantiate $m)))";
    refused_beside(
        "a memory of 64-bit addresses",
        SWITCHED_OFF,
        text,
        "memory64",
    )
}

fn shared_memory() -> Case {
    let text = "(component (core module $m (memory 1 2 shared)) (core instance (instantiate $m)))";
    refused_beside("memory shared between threads", SWITCHED_OFF, text, "")
}

fn garbage_collected_types() -> Case {
    let text = "(component (core module $m (type $s (struct (field i32))) (func (drop (struct.new $s (i32.const 1))))) (core instance (instantiate $m)))";
    refused_beside("garbage-collected types", SWITCHED_OFF, text, "")
}

fn exceptions() -> Case {
    let text =
        "(component (core module $m (tag $e) (func (throw $e))) (core instance (instantiate $m)))";
    refused_beside("exceptions", SWITCHED_OFF, text, "")
}

fn asynchronous_functions() -> Case {
    let text = r#"(component (core func (canon task.return)))"#;
    refused_beside(
        "asynchronous functions and their tasks",
        SWITCHED_OFF,
        text,
        "",
    )
}

fn threads() -> Case {
    let text = r#"(component (core type $start (func (param i32))) (core func (canon thread.available_parallelism)))"#;
    refused_beside("threads", SWITCHED_OFF, text, "")
}
