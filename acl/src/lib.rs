//! Access rules and delivery rules: rules, a watcher and a time make a decision; a decision makes
//! a view of a document (RFC 4745, RFC 5025).
//!
//! Storing rules, knowing who a watcher is, contact lists, clocks and sending are left to the
//! callers: nothing here does I/O, and time is an argument.
//!
//! Rules only grant and their order does not matter: what no rule grants is hidden, and the
//! largest handling that any matching rule gives wins. [`View`] is the permission to send: it
//! comes out of a [`Decision`] and from nowhere else.

mod conditions;
mod confided;
mod confined;
mod content;
mod decide;
mod defaults;
mod delegation;
mod delivery;
mod domain;
mod edit;
mod error;
mod explain;
mod grants;
mod identity;
mod marks;
mod matched;
mod named;
mod outline;
mod parse;
mod permit;
mod rules;
mod things;
mod view;

pub use conditions::{Conditions, Validity};
pub use confined::Widened;
pub use content::{Content, Disclosed};
pub use decide::{Decision, Purpose, Question, decide, decide_unsure};
pub use defaults::default_rules;
pub use delegation::{Beyond, Delegate, Mandate, Needs, Right};
pub use delivery::{DeliveryDecision, DeliveryQuestion, decide_delivery, decide_delivery_unsure};
pub use domain::DomainPolicy;
pub use edit::{
    DeliveryRuling, NotGrouped, Ruling, with_decision, with_delivery_decision, with_group,
};
pub use error::RulesError;
pub use explain::{
    DeliveryExplanation, Explanation, RuleTrace, explain, explain_delivery,
    explain_delivery_unsure, explain_unsure,
};
pub use grants::{Depth, FieldSet, Grants, PartSet, Parts, Selected, Selector};
pub use identity::{Grant, Group, Watcher, Who};
pub use marks::Marks;
pub use matched::Matched;
pub use named::Named;
pub use outline::Outline;
pub use permit::{Acting, By, NotYours, scope};
pub use rules::{
    DeliveryAction, DeliveryRule, FIELDS_MAX, GROUP_MEMBERS_MAX, GROUPS_MAX, Handling,
    ID_BYTES_MAX, RULES_BYTES_MAX, RULES_MAX, Rate, Rule, RuleSet, SELECTORS_MAX, SPHERES_MAX,
    VALIDITIES_MAX, WHO_MAX,
};
pub use things::{Ask, Pace, Permit, Thing, needs, thing};
pub use view::{View, ViewKey};
