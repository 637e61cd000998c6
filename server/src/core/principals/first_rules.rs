//! The rules that a new account has: read once for each domain, and shared by all who have put none of
//! their own, who are most.

use std::sync::Arc;

use impp_acl::{RuleSet, RulesError, default_rules};
use impp_protocol::Domain;

use crate::core::DashMap;

/// Rules as they were read, and their text.
#[derive(Clone, Debug)]
pub(super) struct RulesRead {
    pub rules: Arc<RuleSet>,
    pub text: Arc<str>,
}

impl RulesRead {
    pub(super) fn parse(text: &str) -> Result<RulesRead, RulesError> {
        Ok(RulesRead { rules: Arc::new(RuleSet::parse(text)?), text: text.into() })
    }
}

/// See the module. It holds as many as domains were ever hosted since the start.
#[derive(Debug, Default)]
pub(super) struct FirstRules(DashMap<Domain, RulesRead>);

impl FirstRules {
    /// Those of an account of this domain.
    pub(super) fn of(&self, domain: &Domain) -> RulesRead {
        if let Some(read) = self.0.get(domain) {
            return read.clone();
        }
        // A test reads them for every kind of domain; rules that could not be read would grant nothing.
        let nothing = || RulesRead { rules: Arc::default(), text: Arc::default() };
        let read = RulesRead::parse(&default_rules(domain)).unwrap_or_else(|_| nothing());
        self.0.entry(domain.clone()).or_insert(read).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_put_no_rules_shares_those_of_the_domain() {
        let (first, domain) = (FirstRules::default(), |name| Domain::parse(name).unwrap());
        let [one, two] = [first.of(&domain("a.example")), first.of(&domain("a.example"))];
        assert!(Arc::ptr_eq(&one.rules, &two.rules) && Arc::ptr_eq(&one.text, &two.text));
        for name in ["b.example", "localhost", "xn--bcher-kva.example"] {
            let (read, text) = (first.of(&domain(name)), default_rules(&domain(name)));
            assert_eq!(&*read.text, text);
            assert_eq!(*read.rules, RuleSet::parse(&text).unwrap());
        }
    }
}
