//! The order in which people put names with numbers in them: `a2` before `a10`.

use std::cmp::Ordering;

/// Compares runs of digits by their value and all else by bytes.
pub(super) fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let ((chunk_a, rest_a), (chunk_b, rest_b)) = (chunk(a), chunk(b));
        if chunk_a.is_empty() || chunk_b.is_empty() {
            return chunk_a.len().cmp(&chunk_b.len());
        }
        let order = match (digits(chunk_a), digits(chunk_b)) {
            (Some(x), Some(y)) => (x.len(), x).cmp(&(y.len(), y)).then(
                // Equal values: fewer leading zeros first.
                chunk_a.len().cmp(&chunk_b.len()),
            ),
            _ => chunk_a.cmp(chunk_b),
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

/// The first run of digits or of anything else.
fn chunk(text: &str) -> (&str, &str) {
    let is_digit = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text
        .find(|c: char| c.is_ascii_digit() != is_digit)
        .unwrap_or(text.len());
    text.split_at(end)
}

/// The digits without leading zeros.
fn digits(chunk: &str) -> Option<&str> {
    let is_number = chunk.starts_with(|c: char| c.is_ascii_digit());
    is_number.then(|| chunk.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_by_their_value() {
        let mut names = ["4m1000", "10", "4m5", "2", "4m600", ""];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["", "2", "4m5", "4m600", "4m1000", "10"]);
    }
}
