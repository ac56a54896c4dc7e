//! From matchers to series numbers, the same for the head and for segments.

use roaring::RoaringBitmap;

use crate::matcher::Matcher;

/// An inverted index: which series have which label.
pub(crate) trait LabelIndex {
    /// Why it cannot be read.
    type Error;

    /// Every series.
    fn all(&self) -> Result<RoaringBitmap, Self::Error>;

    /// The series that have a label with this value.
    fn with_value(&self, name: &str, value: &str) -> Result<RoaringBitmap, Self::Error>;

    /// The series that have the label with a value that `is_wanted`.
    fn with_values(
        &self,
        name: &str,
        is_wanted: &mut dyn FnMut(&str) -> bool,
    ) -> Result<RoaringBitmap, Self::Error>;
}

/// The series that satisfy all matchers; without matchers every series.
pub(crate) fn matching<I: LabelIndex>(
    index: &I,
    matchers: &[Matcher],
) -> Result<RoaringBitmap, I::Error> {
    // Series without the label satisfy some matchers. Those take away, the others select; selecting first keeps the
    // sets small.
    let (taking, selecting): (Vec<_>, Vec<_>) = matchers
        .iter()
        .partition(|matcher| matcher.matches_absent());
    let mut found: Option<RoaringBitmap> = None;
    for matcher in selecting {
        let set = match matcher.only_value() {
            Some(value) => index.with_value(matcher.name(), value)?,
            None => index.with_values(matcher.name(), &mut |value| matcher.matches(value))?,
        };
        let both = match found {
            Some(found) => found & set,
            None => set,
        };
        if both.is_empty() {
            return Ok(both);
        }
        found = Some(both);
    }
    let mut found = match found {
        Some(found) => found,
        None => index.all()?,
    };
    for matcher in taking {
        if found.is_empty() {
            break;
        }
        found -= match matcher.only_excluded() {
            Some(value) => index.with_value(matcher.name(), value)?,
            None => index.with_values(matcher.name(), &mut |value| !matcher.matches(value))?,
        };
    }
    Ok(found)
}
