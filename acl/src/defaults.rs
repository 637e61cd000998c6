//! The rules of a new account, in the words that its owner will see and edit.
//!
//! What a new contact list entry grants is left to the server.

use impp_protocol::Domain;

/// The text of a new account's rules; it parses, and says what it means.
pub fn default_rules(own: &Domain) -> String {
    format!(
        r#"# Who sees my presence, and who may write to me.
# Rules only grant; their order means nothing. Where several match, the largest handling wins:
# block < confirm < polite-block < allow. What no rule grants is blocked.

# Those in my contact list see what their entry grants.
[[rule]]
id = "contacts"
who = ["contacts"]
handling = "allow"

# Others whose identity is proven may ask; I am told, and decide.
[[rule]]
id = "authenticated"
who = ["authenticated"]
handling = "confirm"

# Everybody else sees nothing.
[[rule]]
id = "anyone"
who = ["anyone"]
handling = "block"

# Messages: the largest action wins too, refuse < drop < hold < accept.

# People of my own domain may write to me.
[[delivery]]
id = "own-domain"
who = ["domain:{own}"]
action = "accept"

# Messages from other domains wait until I decide.
[[delivery]]
id = "other-domains"
who = ["authenticated"]
except = ["domain:{own}"]
action = "hold"

# Nobody writes without a name.
[[delivery]]
id = "anonymous"
who = ["anonymous"]
action = "refuse"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        DeliveryAction, DeliveryQuestion, FieldSet, Grant, Handling, Purpose, Question, RuleSet,
        Watcher, decide, decide_delivery,
    };
    use impp_protocol::{Address, Timestamp};

    fn ask(watcher: &str, contact: Grant) -> (Handling, FieldSet, DeliveryAction) {
        let rules = RuleSet::parse(&default_rules(&Domain::parse("a.example").unwrap())).unwrap();
        let owner = &Address::parse("alice@a.example").unwrap();
        let watcher = &Address::parse(watcher).map_or(Watcher::Anonymous, Watcher::Principal);
        let now = Timestamp::from_millis(0);
        let purpose = Purpose::Subscribe;
        let domain = crate::DomainPolicy::none();
        let question = Question { owner, watcher, purpose, now, sphere: None, contact, domain };
        let letter = DeliveryQuestion { owner, sender: watcher, now, sphere: None, contact };
        let decision = decide(&rules, &question);
        let fields = decision.grants().fields().clone();
        (decision.handling(), fields, decide_delivery(&rules, &letter).action())
    }

    #[test]
    fn a_new_account_shows_contacts_their_grant_asks_about_others_and_blocks_the_unproven() {
        let none = FieldSet::nothing();
        let expect = [
            ("bob@a.example", Grant::All, Handling::Allow, FieldSet::All, DeliveryAction::Accept),
            ("bob@a.example", Grant::None, Handling::Confirm, none.clone(), DeliveryAction::Accept),
            (
                "x@b.example",
                Grant::Status,
                Handling::Allow,
                FieldSet::status(),
                DeliveryAction::Hold,
            ),
            ("x@b.example", Grant::None, Handling::Confirm, none.clone(), DeliveryAction::Hold),
            ("", Grant::None, Handling::Block, none, DeliveryAction::Refuse),
        ];
        for (watcher, contact, handling, fields, action) in expect {
            assert_eq!(ask(watcher, contact), (handling, fields, action), "{watcher}");
        }
    }
}
