//! The names of the SRV records of a domain's services.

use impp_protocol::{Domain, Service};

/// The name of a service's SRV records: RFC 3861, with a protocol label of IMPP/1's own. It ends with a
/// dot, so that no search list is applied to it.
pub fn owner_name(service: Service, domain: &Domain) -> String {
    format!("_{}._impp.{domain}.", service.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_records_are_those_of_rfc_3861_with_a_private_label() {
        let domain = Domain::parse("Example.COM.").unwrap();
        assert_eq!(owner_name(Service::Presence, &domain), "_pres._impp.example.com.");
        assert_eq!(owner_name(Service::Messages, &domain), "_im._impp.example.com.");
        assert_eq!(Service::from_word("im"), Some(Service::Messages));
        assert_eq!(Service::from_word("xmpp"), None);
    }
}
