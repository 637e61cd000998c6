//! Explain: what the rules say about somebody, and why.

use crate::address::Address;
use crate::schema::fields;

fields! {
    /// What one rule had to say.
    pub struct RuleTrace {
        /// The rule's id.
        1 id: String,
        /// Whether it matched.
        2 matched: bool,
        /// Why it did or did not.
        3 why: String,
        /// What it granted.
        4 grants: Vec<String>,
    }
}

fields! {
    /// The answer to a FETCH of explain.
    pub struct Explanation {
        /// Whose rules.
        1 owner: Address,
        /// About whom.
        2 watcher: Address,
        /// The handling of who follows, or for delivery the action.
        3 decision: String,
        /// The fields that they see who follow; `all` for all.
        4 fields: Vec<String>,
        /// Every rule, in the order of the text, as it takes who follows.
        5 rules: Vec<RuleTrace>,
        /// The handling of who looks once; not for delivery.
        6 fetch_decision: Option<String>,
        /// The fields that they see who look once.
        7 fetch_fields: Vec<String>,
        /// Every rule, as it takes who looks once.
        8 fetch_rules: Vec<RuleTrace>,
        /// What selects the parts that they see who follow: `tuples:class:work`; `tuples:all` for
        /// all, `devices:by-fields` for those of which a granted field shows.
        9 parts: Vec<String>,
        /// What selects the parts that they see who look once.
        10 fetch_parts: Vec<String>,
        /// Delivery: how many messages are let in, if the rules limit them.
        11 rate: Option<String>,
    }
}
