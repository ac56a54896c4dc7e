//! Changes over windows whose bounds stand at samples (anchored) or between them (smoothed) instead of being
//! extrapolated. Windows come with samples around them.

use crate::ast::Bounds;
use crate::eval::Window;

/// How many neighbours are a change, from the last sample at or before the window on.
pub(super) fn count(window: Window<'_>, is_change: impl Fn(f64, f64) -> bool) -> Option<f64> {
    let (first, last) = ends(window, Bounds::Anchored)?;
    let pairs = window.values[first..=last].windows(2);
    Some(pairs.filter(|pair| is_change(pair[0], pair[1])).count() as f64)
}

/// The change from bound to bound.
pub(super) fn increase(window: Window<'_>, bounds: Bounds, is_counter: bool) -> Option<f64> {
    let (mut first, mut last) = ends(window, bounds)?;
    let (times, values) = (window.times_ms, window.values);
    let is_smoothed = bounds == Bounds::Smoothed;
    let left = match is_smoothed && times[first] < window.start_ms {
        true => between(window, first, window.start_ms, is_counter),
        false => values[first],
    };
    let right = match is_smoothed && last > 0 && times[last] > window.end_ms {
        true => between(window, last - 1, window.end_ms, is_counter),
        false => values[last],
    };
    let mut change = right - left;
    if !is_counter {
        return Some(change);
    }
    // Both bounds are accounted for; between them stand the samples inside.
    if times[first] <= window.start_ms {
        first += 1;
    }
    let end = if times[last] >= window.end_ms {
        last
    } else {
        last + 1
    };
    if first > end {
        // Both bounds lie between the same two samples, and so does a reset, if there is one.
        return Some(change);
    }
    last = end;
    let mut before = left;
    for value in &values[first..last] {
        if *value < before {
            change += before;
        }
        before = *value;
    }
    if right < before {
        change += before;
    }
    Some(change)
}

/// The samples at or around the bounds.
fn ends(window: Window<'_>, bounds: Bounds) -> Option<(usize, usize)> {
    let times = window.times_ms;
    let newest = times.len().checked_sub(1)?;
    let inside = times[..newest].partition_point(|time| *time <= window.start_ms);
    let first = inside.saturating_sub(1);
    let last = match bounds {
        Bounds::Smoothed => times[..newest].partition_point(|time| *time < window.end_ms),
        Bounds::Anchored => newest,
    };
    let is_outside = times[last] <= window.start_ms || times[first] > window.end_ms;
    (!is_outside).then_some((first, last))
}

/// The value at a time between a sample and the next one. After a reset a counter began at zero.
fn between(window: Window<'_>, before: usize, time_ms: i64, is_counter: bool) -> f64 {
    let (times, values) = (window.times_ms, window.values);
    let Some(next) = values.get(before + 1) else {
        return values[before];
    };
    let is_reset = is_counter && *next < values[before];
    let from = if is_reset { 0.0 } else { values[before] };
    let part = (time_ms - times[before]) as f64 / (times[before + 1] - times[before]) as f64;
    from + (next - from) * part
}
