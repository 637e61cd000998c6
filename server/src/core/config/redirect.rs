//! Which users of a hosted domain are elsewhere, and where.
//!
//! Who may be told is decided here once: what others are told of an address is the same whether there
//! is an account or not, but for those whom the operator has named.

use std::collections::BTreeSet;

use impp_protocol::{Address, Domain};
use serde::{Deserialize, Deserializer};

use super::Hosted;

impl Hosted {
    /// Where a user of this domain is who has no account here, if others are told.
    pub fn moved(&self, address: &Address) -> Option<Address> {
        let to = self.redirect.as_ref()?;
        let named = self.redirect_users.as_ref();
        // Without names all are meant: `hosting` has seen that this may be told.
        if !named.is_none_or(|users| users.contains(address.local())) {
            return None;
        }
        Address::new(address.local(), to).ok()
    }

    /// What is wrong with the redirect: the setting, and the words.
    pub(super) fn redirect_fault(&self, tell_unknown: bool) -> Option<(&'static str, String)> {
        let name = &self.name;
        match (&self.redirect, &self.redirect_users) {
            (Some(to), _) if to == name => {
                Some(("redirect", format!("redirect of \"{name}\" leads to itself")))
            }
            (Some(_), None) if !tell_unknown => {
                let text = format!(
                    "redirect of \"{name}\" for whoever has no account tells which accounts exist: \
                     name who is elsewhere in redirect_users, or set tell_unknown = true"
                );
                Some(("redirect", text))
            }
            (None, Some(_)) => {
                Some(("redirect_users", format!("redirect_users of \"{name}\" without a redirect")))
            }
            _ => None,
        }
    }
}

/// Reads local parts, such as `["erin", "frank"]`.
pub(super) fn users<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<BTreeSet<String>>, D::Error> {
    // Any domain will do to read them.
    let domain = Domain::parse("localhost").map_err(serde::de::Error::custom)?;
    let read = |text: String| match Address::new(&text, &domain) {
        Ok(address) => Ok(address.local().to_owned()),
        Err(error) => Err(serde::de::Error::custom(format!(
            "redirect_users: \"{text}\": {error}; expected what stands before the @"
        ))),
    };
    Vec::<String>::deserialize(from)?.into_iter().map(read).collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn parse(more: &str, federation: &str) -> Result<Config, String> {
        let text = format!(
            "[federation]\n{federation}\n[[domain]]\nname = \"a.example\"\ncertificate = \"c\"\n\
             key = \"k\"\n{more}"
        );
        Config::parse(&text, Path::new("imppd.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn d_5_3_2_d6_who_is_led_on_is_named_or_all_may_be_told() {
        let to = "redirect = \"people.a.example\"\n";
        let moved = |config: &Config, user: &str| {
            let address = Address::new(user, &config.domain[0].name).unwrap();
            config.domain[0].moved(&address).map(|address| address.to_string())
        };
        let erin = Some("erin@people.a.example".to_owned());
        let named = parse(&format!("{to}redirect_users = [\"Erin\", \"frank\"]\n"), "").unwrap();
        assert_eq!((moved(&named, "erin"), moved(&named, "nobody")), (erin.clone(), None));
        let all = parse(to, "tell_unknown = true").unwrap();
        assert_eq!(moved(&all, "erin"), erin);
        assert_eq!(moved(&parse("", "").unwrap(), "erin"), None);
        for (more, expected) in [
            (to.to_owned(), "imppd.toml:7: redirect of \"a.example\" for whoever has no account"),
            (
                "redirect_users = [\"x\"]\n".to_owned(),
                "imppd.toml:7: redirect_users of \"a.example\"",
            ),
            (
                format!("{to}redirect_users = [\"x@y\"]\n"),
                "imppd.toml:8: redirect_users: \"x@y\": ",
            ),
        ] {
            let error = parse(&more, "").unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
