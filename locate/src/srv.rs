//! Which targets of SRV records are tried, and in which order (RFC 2782): pure.
//!
//! Asking for the records is left to `dns`, the targets' addresses to `locator`.

use crate::target::is_host_name;

/// Targets of one domain and service that are tried at most; the first ones by the order.
pub const TARGETS_MAX: usize = 8;

/// One SRV record; its target without the dot at the end, empty for the root.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SrvRecord {
    /// Lower ones come first.
    pub priority: u16,
    /// The share among those of one priority.
    pub weight: u16,
    /// The port of the target.
    pub port: u16,
    /// The name of a host.
    pub target: String,
}

/// What is made of the SRV records of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The targets to try, the first one first; at most [`TARGETS_MAX`].
    pub targets: Vec<SrvRecord>,
    /// Records that are not used, and why; at most `SKIPPED_MAX`.
    pub skipped: Vec<(SrvRecord, &'static str)>,
    /// Usable targets above [`TARGETS_MAX`].
    pub left_out: usize,
    /// The records say that the domain does not have this service: a root target, and no other.
    pub not_offered: bool,
}

/// Skipped records that are told one by one.
const SKIPPED_MAX: usize = 8;

impl std::fmt::Display for SrvRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} {}.", self.priority, self.weight, self.port, self.target)
    }
}

/// Chooses among records. `dice` gives a number from 0 up to its argument, that included.
pub fn choose(records: &[SrvRecord], mut dice: impl FnMut(u32) -> u32) -> Choice {
    let mut choice = Choice::default();
    let mut usable: Vec<&SrvRecord> = Vec::new();
    let mut by_priority: Vec<&SrvRecord> = records.iter().collect();
    by_priority.sort_by_key(|record| record.priority);
    let mut seen = std::collections::HashSet::new();
    let mut root = false;
    for record in by_priority {
        let why = if record.target.is_empty() {
            root = true;
            "the target is the root"
        } else if record.port == 0 {
            "port 0"
        } else if !is_host_name(&record.target) {
            "the target is no name of a host"
        } else if !seen.insert((record.target.to_ascii_lowercase(), record.port)) {
            "said twice"
        } else {
            usable.push(record);
            continue;
        };
        if choice.skipped.len() < SKIPPED_MAX {
            choice.skipped.push((record.clone(), why));
        }
    }
    choice.not_offered = root && usable.is_empty();
    choice.left_out = usable.len().saturating_sub(TARGETS_MAX);
    while let Some(first) = usable.first().filter(|_| choice.targets.len() < TARGETS_MAX) {
        let same = usable.iter().take_while(|record| record.priority == first.priority).count();
        let drawn = draw(&usable[..same], &mut dice);
        choice.targets.push(usable.remove(drawn).clone());
    }
    choice
}

/// Draws one of the records of one priority by weight: those of weight 0 stand first, so that
/// they have a small chance beside others, as RFC 2782 wants it.
fn draw(records: &[&SrvRecord], dice: &mut impl FnMut(u32) -> u32) -> usize {
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.sort_by_key(|index| records[*index].weight != 0);
    let total: u32 = records.iter().map(|record| u32::from(record.weight)).sum();
    let thrown = dice(total);
    let mut sum = 0;
    for index in &order {
        sum += u32::from(records[*index].weight);
        if sum >= thrown {
            return *index;
        }
    }
    order.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, port: u16, target: &str) -> SrvRecord {
        SrvRecord { priority, weight, port, target: target.to_owned() }
    }

    fn names(choice: &Choice) -> Vec<&str> {
        choice.targets.iter().map(|target| &*target.target).collect()
    }

    #[test]
    fn lower_priorities_come_first_whatever_the_weights() {
        let records = [
            record(20, 65_535, 1, "c.example"),
            record(10, 0, 1, "b.example"),
            record(0, 1, 1, "a.example"),
        ];
        for thrown in [0, 1, u32::MAX] {
            let choice = choose(&records, |max| thrown.min(max));
            assert_eq!(names(&choice), ["a.example", "b.example", "c.example"]);
        }
    }

    #[test]
    fn weights_are_shares() {
        let records = [record(0, 1, 1, "a.example"), record(0, 3, 1, "b.example")];
        let first = |thrown: u32| names(&choose(&records, |_| thrown))[0].to_owned();
        assert_eq!([0, 1, 2, 3, 4].map(first).concat().matches("b.").count(), 3);
    }

    #[test]
    fn f5_weight_zero_has_a_small_chance_and_none_is_divided_by() {
        let records = [record(0, 9, 1, "a.example"), record(0, 0, 1, "b.example")];
        assert_eq!(names(&choose(&records, |_| 0)), ["b.example", "a.example"]);
        assert_eq!(names(&choose(&records, |_| 1)), ["a.example", "b.example"]);
        let zeros = [record(0, 0, 1, "a.example"), record(0, 0, 1, "b.example")];
        assert_eq!(names(&choose(&zeros, |max| max)).len(), 2);
        let full: Vec<SrvRecord> =
            (0..1000).map(|n| record(0, u16::MAX, 1, &format!("h{n}.example"))).collect();
        assert_eq!(choose(&full, |max| max).targets.len(), TARGETS_MAX);
    }

    #[test]
    fn f5_port_zero_duplicates_and_odd_targets_are_dropped() {
        let records = [
            record(0, 0, 0, "a.example"),
            record(5, 0, 2778, "b.example"),
            record(0, 0, 2778, "B.example"),
            record(0, 0, 2778, "127.0.0.1"),
            record(0, 0, 2778, "two words.example"),
        ];
        let choice = choose(&records, |_| 0);
        assert_eq!(names(&choice), ["B.example"]);
        assert_eq!(choice.skipped.len(), 4);
        assert!(!choice.not_offered);
    }

    #[test]
    fn f5_a_root_target_means_not_offered_unless_another_stands_beside_it() {
        assert!(choose(&[record(0, 0, 0, "")], |_| 0).not_offered);
        let beside = choose(&[record(0, 0, 0, ""), record(1, 0, 1, "a.example")], |_| 0);
        assert!(!beside.not_offered);
        assert_eq!(names(&beside), ["a.example"]);
        assert!(!choose(&[], |_| 0).not_offered);
    }

    #[test]
    fn f5_of_a_thousand_records_eight_are_tried() {
        let records: Vec<SrvRecord> =
            (0..1000).map(|n| record(n, 0, 1, &format!("h{n}.example"))).collect();
        let choice = choose(&records, |_| 0);
        assert_eq!((choice.targets.len(), choice.left_out), (TARGETS_MAX, 992));
        assert_eq!(choice.targets[0].target, "h0.example");
    }
}
