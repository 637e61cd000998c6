//! The two services that a domain can have servers for, and the names of their SRV records.

use impp_protocol::Domain;

/// A service of a domain; the two may have different servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Presence.
    Presence,
    /// Instant messages.
    Messages,
}

impl Service {
    /// Both of them.
    pub const ALL: [Service; 2] = [Service::Presence, Service::Messages];

    /// Its word in settings and in HELLO: `pres` or `im`.
    pub fn word(self) -> &'static str {
        match self {
            Service::Presence => "pres",
            Service::Messages => "im",
        }
    }

    /// The service of a word.
    pub fn from_word(word: &str) -> Option<Service> {
        Service::ALL.into_iter().find(|service| service.word() == word)
    }

    /// The name of its SRV records: RFC 3861, with a protocol label of IMPP/1's own. It ends with a
    /// dot, so that no search list is applied to it.
    pub fn owner_name(self, domain: &Domain) -> String {
        format!("_{}._impp.{domain}.", self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_records_are_those_of_rfc_3861_with_a_private_label() {
        let domain = Domain::parse("Example.COM.").unwrap();
        assert_eq!(Service::Presence.owner_name(&domain), "_pres._impp.example.com.");
        assert_eq!(Service::Messages.owner_name(&domain), "_im._impp.example.com.");
        assert_eq!(Service::from_word("im"), Some(Service::Messages));
        assert_eq!(Service::from_word("xmpp"), None);
    }
}
