//! What is wrong with a layout, and where.

/// A layout that is not accepted. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {what}")]
pub struct DiskoError {
    /// Where in the JSON: `disk.ssd.content.partitions.zfs.size`; the whole of it is `disko.devices`.
    pub path: String,
    /// What is wrong there.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl DiskoError {
    /// Puts the three parts together; an empty path is the layout as a whole.
    pub(crate) fn new(path: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let path = if path.is_empty() { "disko.devices" } else { path };
        Self { path: path.to_owned(), what: what.into(), remedy: remedy.into() }
    }
}
