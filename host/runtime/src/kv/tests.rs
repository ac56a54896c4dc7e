//! Values in memory keep the interface's promises.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use shoal_model::Timestamp;

fn memory() -> (Arc<MemoryKeyValue>, Arc<AtomicI64>) {
    let clock = Arc::new(AtomicI64::new(0));
    let now = Arc::clone(&clock);
    let values = MemoryKeyValue::new(move || Timestamp(now.load(Ordering::SeqCst)));
    (Arc::new(values), clock)
}

#[tokio::test]
async fn a_value_is_there_until_its_time_is_over() {
    let (values, clock) = memory();
    let second = Some(Duration::from_secs(1));
    values.set("a", vec![1], second).await.expect("set");
    values.set("b", vec![2], None).await.expect("set");
    clock.store(999, Ordering::SeqCst);
    assert_eq!(values.get("a").await, Ok(Some(vec![1])));
    clock.store(1000, Ordering::SeqCst);
    assert_eq!(values.get("a").await, Ok(None));
    assert_eq!(values.keys("").await, Ok(vec!["b".to_owned()]));
    let taken = values.swap("a", None, Some(vec![3]), None).await;
    assert_eq!(taken, Ok(true), "nobody holds it any more");
}

#[tokio::test]
async fn a_swap_changes_only_what_it_expects() {
    let (values, _) = memory();
    let swap = |expected: Option<u8>, new: Option<u8>| {
        let bytes = |byte: Option<u8>| byte.map(|byte| vec![byte]);
        values.swap("k", bytes(expected), bytes(new), None)
    };
    assert_eq!(swap(Some(1), Some(2)).await, Ok(false));
    assert_eq!(swap(None, Some(1)).await, Ok(true));
    assert_eq!(swap(None, Some(2)).await, Ok(false));
    assert_eq!(swap(Some(1), None).await, Ok(true));
    assert_eq!(values.get("k").await, Ok(None));
}

#[tokio::test]
async fn an_installation_has_so_many_keys_and_bytes() {
    let (values, _) = memory();
    for n in 0..KEYS_MAX {
        values
            .set(&format!("k{n}"), Vec::new(), None)
            .await
            .expect("room");
    }
    let full = values.set("one more", Vec::new(), None).await;
    assert!(matches!(full, Err(KeyValueError::Full(_))), "{full:?}");
    values
        .set("k0", vec![1], None)
        .await
        .expect("it is there already");
    let (values, _) = memory();
    for n in 0..15 {
        values
            .set(&format!("k{n:02}"), vec![0; VALUE_MAX_BYTES], None)
            .await
            .expect("room");
    }
    let full = values
        .swap("k15", None, Some(vec![0; VALUE_MAX_BYTES]), None)
        .await;
    assert!(matches!(full, Err(KeyValueError::Full(_))), "{full:?}");
    values.set("k00", Vec::new(), None).await.expect("less");
    let fits = values
        .swap("k15", None, Some(vec![0; VALUE_MAX_BYTES]), None)
        .await;
    assert_eq!(fits, Ok(true));
}

#[tokio::test]
async fn an_overlay_leaves_what_is_below_as_it_was() {
    let (below, _) = memory();
    for key in ["a", "b", "c"] {
        below.set(key, vec![0], None).await.expect("set");
    }
    let overlay = OverlayKeyValue::new(below.clone());
    overlay.set("a", vec![1], None).await.expect("set");
    overlay.delete("b").await.expect("deleted");
    assert_eq!(
        overlay.swap("c", Some(vec![9]), None, None).await,
        Ok(false)
    );
    assert_eq!(
        overlay.swap("c", Some(vec![0]), Some(vec![2]), None).await,
        Ok(true)
    );
    overlay.set("d", vec![3], None).await.expect("set");
    let seen = overlay.keys("").await.expect("keys");
    assert_eq!(seen, ["a", "c", "d"]);
    assert_eq!(overlay.get("c").await, Ok(Some(vec![2])));
    assert_eq!(below.keys("").await.expect("keys"), ["a", "b", "c"]);
    assert_eq!(below.get("a").await, Ok(Some(vec![0])));
    assert_eq!(overlay.changes().await.len(), 4);
}

#[test]
fn keys_and_values_have_bounds() {
    assert!(check_key(&"k".repeat(KEY_MAX_BYTES)).is_ok());
    for key in ["", "a\0b", "a\nb", &"k".repeat(KEY_MAX_BYTES + 1)] {
        assert!(
            matches!(check_key(key), Err(wit::KvError::TooLarge(_))),
            "{key:?}"
        );
    }
    assert!(check_value("k", &vec![0; VALUE_MAX_BYTES]).is_ok());
    assert!(check_value("k", &vec![0; VALUE_MAX_BYTES + 1]).is_err());
}
