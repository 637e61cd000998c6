//! The largest set of rules that a text has room for, and ten thousand who watch: reading it, and deciding
//! about each of them.
//!
//! What a presentity does with the decisions is counted with the operation `put-rules` (`lib`).

use impp_acl::{Decision, DomainPolicy, Purpose, Question, RULES_MAX, RuleSet, Watcher, decide};
use impp_protocol::hashing::HashSet;
use impp_protocol::state::Grant;
use impp_protocol::{Address, Timestamp};

/// Members of each group: as many as one may have.
const MEMBERS: usize = 1000;
/// Groups: with so many of them the text is nearly as long as it may be.
const GROUPS: usize = 3;
/// Who watch; most of them are in no group.
const WATCHERS: usize = 10_000;
/// Each of the rules grants one of them.
const FIELDS: [&str; 8] =
    ["note", "mood", "activities", "place-is", "place-type", "privacy", "sphere", "class"];

/// See the module.
#[derive(Debug)]
pub struct Compiled {
    text: String,
    owner: Address,
    watchers: Vec<Watcher>,
}

impl Compiled {
    /// `None` if what stands here is no rule and no address.
    pub fn new() -> Option<Compiled> {
        let mut text = "[groups]\n".to_owned();
        for group in 0..GROUPS {
            let members = group * MEMBERS..(group + 1) * MEMBERS;
            let members: Vec<String> = members.map(|n| format!("\"{}\"", name(n))).collect();
            text += &format!("g{group}=[{}]\n", members.join(","));
        }
        for rule in 0..RULES_MAX {
            let (group, field) = (rule % GROUPS, FIELDS[rule / GROUPS % FIELDS.len()]);
            text += &format!(
                "[[rule]]\nid=\"{rule}\"\nwho=[\"group:g{group}\"]\nhandling=\"allow\"\n\
                 fields=[\"{field}\"]\n"
            );
        }
        let watcher = |n| Address::parse(&name(n)).ok().map(Watcher::Principal);
        let watchers = (0..WATCHERS).map(watcher).collect::<Option<_>>()?;
        Some(Compiled { text, owner: Address::parse("alice@a.b").ok()?, watchers })
    }

    /// Does it: this is what is counted. How many views there are, with that of those who see nothing.
    #[inline(never)]
    pub fn counted(&self) -> Option<usize> {
        let rules = RuleSet::parse(&self.text).ok()?;
        let decided = self.watchers.iter().map(|watcher| self.decide(&rules, watcher));
        let views: HashSet<_> = decided.map(|decision| decision.view_key()).collect();
        Some(views.len())
    }

    fn decide(&self, rules: &RuleSet, watcher: &Watcher) -> Decision {
        decide(
            rules,
            &Question {
                owner: &self.owner,
                watcher,
                purpose: Purpose::Subscribe,
                now: Timestamp::from_millis(1_700_000_000_000),
                sphere: None,
                contact: Grant::None,
                domain: DomainPolicy::none(),
            },
        )
    }
}

fn name(index: usize) -> String {
    format!("u{index}@a.b")
}

#[cfg(test)]
mod tests {
    use impp_acl::Grants;

    use super::*;

    /// Who is in a group sees something, who is not nothing; and no text could be much longer.
    #[test]
    fn the_largest_set_of_rules_is_one_and_tells_its_watchers_apart() {
        let compiled = Compiled::new().unwrap();
        assert_eq!(compiled.counted(), Some(2));
        assert!(compiled.text.len() > impp_acl::RULES_BYTES_MAX * 4 / 5);
        let rules = RuleSet::parse(&compiled.text).unwrap();
        let decided = compiled.watchers.iter().map(|who| compiled.decide(&rules, who));
        let some = decided.filter(|decision| decision.grants() != &Grants::nothing()).count();
        assert_eq!(some, GROUPS * MEMBERS);
    }
}
