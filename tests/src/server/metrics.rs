//! The metrics that a server tells.

use std::collections::BTreeMap;

/// The metrics at one moment: `name` or `name{label="value"}` to value.
#[derive(Clone, Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Those of an answer.
    pub(super) fn parse(text: &str) -> Metrics {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.filter_map(|line| line.rsplit_once(' '));
        Metrics(samples.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect())
    }

    /// A sample; 0 if there is none yet.
    pub fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }
}
