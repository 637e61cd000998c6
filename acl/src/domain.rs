//! The policy of a domain, above its users' rules: a floor, which grants as one more rule of each, and
//! a ceiling, above which nobody's rules grant.
//!
//! The file is its administrator's; which one it is, and when it is read again, is the server's.

use std::sync::{Arc, LazyLock};

use crate::conditions::Conditions;
use crate::decide::Purpose;
use crate::error::RulesError;
use crate::grants::FieldSet;
use crate::parse;
use crate::rules::{Handling, Rule};

/// What a domain's administrator lays down for all its users; empty where nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainPolicy {
    pub(crate) floors: Vec<Rule>,
    pub(crate) ceilings: Vec<Ceiling>,
}

/// The most that rules can grant to those whom it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ceiling {
    pub(crate) id: String,
    pub(crate) conditions: Conditions,
    pub(crate) handling: Handling,
    pub(crate) fetch: Option<Handling>,
    pub(crate) fields: FieldSet,
}

static NONE: LazyLock<Arc<DomainPolicy>> = LazyLock::new(Arc::default);

impl DomainPolicy {
    /// Reads the administrator's text.
    ///
    /// # Errors
    /// [`RulesError`] naming the line; also for a text that lays down nothing, which is rather a file
    /// that was lost than a wish.
    pub fn parse(text: &str) -> Result<DomainPolicy, RulesError> {
        parse::domain::parse(text)
    }

    /// That of a domain whose administrator has none.
    pub fn none() -> &'static Arc<DomainPolicy> {
        &NONE
    }
}

impl Ceiling {
    pub(crate) fn handling_for(&self, purpose: Purpose) -> Handling {
        match purpose {
            Purpose::Subscribe => self.handling,
            Purpose::Fetch => self.fetch.unwrap_or(self.handling),
        }
    }
}
