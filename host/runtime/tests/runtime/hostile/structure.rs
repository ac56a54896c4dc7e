//! Files that are hostile by how they are made, before anything of them runs.

use std::fmt::Write as _;
use std::time::Duration;

use shoal_model::grant::Kind;
use wasmparser::{Parser, Payload};

use super::case::{Attack, Case, Ends};
use super::cases;
use crate::support::{Guest, well_after};

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
    five_thousand_functions
    one_long_function
    ten_thousand_blocks_in_each_other
    a_jump_table_of_half_a_million
    fifty_thousand_locals
    eight_megabytes_of_data
    fifty_thousand_pieces_of_data
    name_that_unfolds
    name_of_ninety_kilobytes
    debug_information_that_is_none
    debug_information_that_unfolds
}

/// The bytes of a check that says that all is well.
pub(super) fn well() -> Vec<u8> {
    Guest::check(&well_after("")).component()
}

/// That check, with a component of this text beside it that is instantiated so often.
pub(super) fn beside_well(text: &str, instances: u32) -> Vec<u8> {
    let mut bytes = well();
    let before = components(&bytes);
    let inner = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
    section(&mut bytes, 4, &inner);
    let mut made = leb(instances);
    for _ in 0..instances {
        made.push(0);
        made.extend(leb(before));
        made.extend(leb(0));
    }
    section(&mut bytes, 5, &made);
    bytes
}

/// How many components a component has, so that the next one's number is known.
fn components(bytes: &[u8]) -> u32 {
    let (mut depth, mut count) = (0, 0);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.expect("well formed") {
            Payload::ComponentSection { .. } if depth == 1 => count += 1,
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            _ => {}
        }
    }
    count
}

/// Adds a section to a component.
pub(super) fn section(bytes: &mut Vec<u8>, id: u8, content: &[u8]) {
    bytes.push(id);
    bytes.extend(leb(u32::try_from(content.len()).expect("small")));
    bytes.extend(content);
}

/// Adds a custom section.
pub(super) fn custom(bytes: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut named = leb(u32::try_from(name.len()).expect("short"));
    named.extend(name.as_bytes());
    named.extend(content);
    section(bytes, 0, &named);
}

/// A number as WebAssembly writes it.
fn leb(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
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
fn heavy(tries: &'static str, attack: Attack) -> Case {
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

fn five_thousand_functions() -> Case {
    let functions: String = (0..5000)
        .map(|i| format!("(func (param i32) (result i32) (i32.add (local.get 0) (i32.const {i})))"))
        .collect();
    heavy("5,000 functions", Attack::check_with(&functions, ""))
}

fn one_long_function() -> Case {
    let body =
        "(local.set $a (i32.mul (i32.add (local.get $a) (local.get $b)) (i32.load (local.get $a))))
        (local.set $b (i32.xor (local.get $a) (i32.load offset=8 (local.get $b))))"
            .repeat(10_000);
    let function = format!("(func (param $a i32) (param $b i32) {body})");
    heavy(
        "one function of 300 kB without a branch",
        Attack::check_with(&function, ""),
    )
}

fn ten_thousand_blocks_in_each_other() -> Case {
    let function = format!(
        "(func {} {})",
        "block ".repeat(10_000),
        "end ".repeat(10_000)
    );
    heavy(
        "10,000 blocks in each other",
        Attack::check_with(&function, ""),
    )
}

fn a_jump_table_of_half_a_million() -> Case {
    let function = format!(
        "(func (param i32) (block (br_table {} (local.get 0))))",
        "0 ".repeat(500_000)
    );
    heavy(
        "a jump table of half a million entries",
        Attack::check_with(&function, ""),
    )
}

fn fifty_thousand_locals() -> Case {
    let function = format!(
        "(func $f {} ) (func (call $f))",
        "(local i64)".repeat(50_000)
    );
    heavy(
        "a function of 50,000 variables",
        Attack::check_with(&function, ""),
    )
}

fn eight_megabytes_of_data() -> Case {
    let data = format!("(data (i32.const 65536) \"{}\")", "x".repeat(8 << 20));
    let attack = Attack::check_with(&data, "").base(
        "(memory $memory (export \"memory\") 4)",
        "(memory $memory (export \"memory\") 200)",
    );
    Case::new(
        "8 MiB of data, in each of ten calls",
        "nothing: it may",
        attack.times(10),
        Ends::Well,
    )
}

fn fifty_thousand_pieces_of_data() -> Case {
    let data: String = (0..50_000)
        .map(|i| format!("(data (i32.const {}) \"x\")", 70_000 + i * 3))
        .collect();
    heavy("50,000 pieces of data", Attack::check_with(&data, ""))
}

/// Crashes in a function of this name.
fn crashing_in(name: &str) -> Attack {
    Attack::check_with(
        &format!("(func $f (@name \"{name}\") unreachable)"),
        "(call $f)",
    )
}

fn name_that_unfolds() -> Case {
    // Each `St4pair…` stands for twice the one before, which is the part of the name with this number.
    let mut name = "_Z1fSt4pairIiiE".to_owned();
    for i in 0..30 {
        let before = format!("S{}_", base36(2 * i));
        let _ = write!(name, "St4pairI{before}{before}E");
    }
    Case::new(
        "a crash in a function whose name in C++ unfolds to gigabytes when it is shown",
        "300 bytes for each line of a backtrace",
        crashing_in(&name),
        Ends::Failed("trapped", "wasm `unreachable` instruction executed"),
    )
}

/// A number as C++ writes that of a part of a name.
fn base36(number: u32) -> String {
    let digit = |d: u32| {
        char::from_digit(d, 36)
            .expect("below 36")
            .to_ascii_uppercase()
    };
    if number < 36 {
        digit(number).to_string()
    } else {
        format!("{}{}", digit(number / 36), digit(number % 36))
    }
}

fn name_of_ninety_kilobytes() -> Case {
    Case::new(
        "a crash in a function whose name has 90 kB",
        "300 bytes for each line of a backtrace",
        crashing_in(&"x".repeat(90_000)),
        Ends::Failed("trapped", "wasm `unreachable` instruction executed"),
    )
}

fn debug_information_that_is_none() -> Case {
    let noise: String = (0..4000u32)
        .map(|i| format!("\\{:02x}", (i.wrapping_mul(2_654_435_761) >> 11) as u8))
        .collect();
    let sections: String = [
        ".debug_info",
        ".debug_abbrev",
        ".debug_line",
        ".debug_str",
        ".debug_ranges",
    ]
    .map(|name| format!("(@custom \"{name}\" \"{noise}\")"))
    .concat();
    Case::new(
        "a crash in a component whose debug information is noise",
        "whoever reads it stops at the first error",
        Attack::guest(
            Kind::Check,
            format!(
                "(func $f unreachable) {} {sections}",
                well_after("(call $f)")
            ),
        ),
        Ends::Failed("trapped", "wasm `unreachable` instruction executed"),
    )
}

fn debug_information_that_unfolds() -> Case {
    // One unit (DWARF 4) for all addresses, whose table of lines has a row for each of twelve million bytes: a space moves
    // on by one address.
    let abbreviations = [1, 0x11, 0, 0x10, 0x17, 0x11, 1, 0x12, 6, 0, 0, 0];
    let mut unit = vec![4, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    unit.extend(0x00ff_ffff_u32.to_le_bytes());
    let mut header = vec![1, 1, 1, 0xfb, 14, 13, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0];
    header.extend(b"a.rs\0\0\0\0\0");
    let mut lines = vec![4, 0];
    lines.extend(u32::try_from(header.len()).expect("short").to_le_bytes());
    lines.extend(header);
    lines.extend([0, 5, 2, 0, 0, 0, 0]);
    let rows = 12_000_000;
    let end = [0, 1, 1];
    let length = |bytes: usize| u32::try_from(bytes).expect("below 4 GiB").to_le_bytes();
    let quoted =
        |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("\\{byte:02x}")).collect() };
    let sections = format!(
        "(@custom \".debug_abbrev\" \"{}\") (@custom \".debug_info\" \"{}{}\") (@custom \".debug_line\" \"{}{}{}{}\")",
        quoted(&abbreviations),
        quoted(&length(unit.len())),
        quoted(&unit),
        quoted(&length(lines.len() + rows + end.len())),
        quoted(&lines),
        " ".repeat(rows),
        quoted(&end),
    );
    Case::new(
        "a crash in a component whose debug information unfolds to hundreds of megabytes",
        "size of what is read of it",
        Attack::guest(
            Kind::Check,
            format!(
                "(func $f unreachable) {} {sections}",
                well_after("(call $f)")
            ),
        )
        .times(3),
        Ends::Failed("trapped", "wasm `unreachable` instruction executed"),
    )
}
