//! Packing: a manifest into a component that other tools built, and out again.

use shoal_model::grant::Kind;
use shoal_runtime::{Refusal, SignatureState, SigningKey, inspect, pack, sign, verify};

use crate::support::*;

const ANSWERS: &str = r#"
    (func (export "shoal:plugin/check@0.1.0#run") (param i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32) (result i32)
      (i32.const 1024))
"#;

fn component() -> Vec<u8> {
    Guest {
        kind: Kind::Check,
        code: ANSWERS,
        manifest: "",
    }
    .component()
}

fn manifest(id: &str) -> String {
    format!(
        "id = \"{id}\"\nversion = \"2.0.0\"\nkind = \"check\"\ntitle = \"Packed\"\ndescription = \"For tests.\"\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_manifest_takes_the_place_of_the_old_and_of_the_signature() {
    let signed = sign(&component(), &SigningKey::from_seed([1; 32]));
    let packed = pack(&signed, &manifest("packed")).expect("packed");
    let inspection = inspect(&packed).expect("a plugin");
    assert_eq!(inspection.manifest.id.to_string(), "packed");
    assert_eq!(inspection.manifest.text, manifest("packed"));
    assert_eq!(verify(&packed, &[]), SignatureState::Unsigned);
    let again = pack(&packed, &manifest("packed")).expect("packed again");
    assert_eq!(again, packed, "the same manifest gives the same bytes");
    runtime().load(packed).await.expect("it still starts");
}

#[test]
fn what_no_server_would_take_is_not_packed() {
    let wrong = pack(&component(), "id = 1").expect_err("no manifest");
    assert!(matches!(wrong, Refusal::Manifest(_)), "{wrong}");
    let other = manifest("packed").replace("\"check\"", "\"channel\"");
    let wrong = pack(&component(), &other).expect_err("another kind");
    assert!(matches!(wrong, Refusal::WrongExport { .. }), "{wrong}");
    let whole = component();
    for end in [0, 4, 8, 9, whole.len() / 2, whole.len() - 1] {
        pack(&whole[..end], &manifest("packed")).expect_err("cut off");
    }
}
