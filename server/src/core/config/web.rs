//! By which names the web door of a hosted domain is called.
//!
//! Whether a certificate is for them is found when it is loaded (`core/tls`).

use std::path::Path;

use impp_protocol::Domain;
use serde::{Deserialize, Deserializer};

use super::Hosted;

impl Hosted {
    /// The files of the certificates that are shown for it: its own, and that of the web if it has one.
    pub fn certificates(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&*self.certificate).chain(self.web_certificate.as_deref())
    }

    /// What is wrong with the names and their pair, where all domains are these and this is the one at
    /// `index`: the setting, and the words. A name leads to one domain.
    pub(super) fn web_fault(&self, all: &[Hosted], index: usize) -> Option<(&'static str, String)> {
        let Hosted { name: of, web, web_certificate, web_key, .. } = self;
        for (at, name) in web.iter().enumerate() {
            let before = all[..index].iter().flat_map(|other| &other.web).chain(&web[..at]);
            if before.into_iter().any(|other| other == name) {
                return Some(("web", format!("web = \"{name}\" stands twice")));
            }
            if name != of && all.iter().any(|other| other.name == *name) {
                let text = format!("web = \"{name}\" of \"{of}\" is another domain's name");
                return Some(("web", text));
            }
        }
        match (web_certificate, web_key) {
            (Some(_), None) => {
                Some(("web_certificate", format!("web_certificate of \"{of}\" without a web_key")))
            }
            (None, Some(_)) => {
                Some(("web_key", format!("web_key of \"{of}\" without a web_certificate")))
            }
            (Some(_), Some(_)) if web.is_empty() => {
                let text = format!("web_certificate of \"{of}\" without names in web");
                Some(("web_certificate", text))
            }
            _ => None,
        }
    }
}

/// Reads names, such as `["chat.example.com"]`.
pub(super) fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Domain>, D::Error> {
    let read = |text: String| {
        Domain::parse(&text)
            .map_err(|error| serde::de::Error::custom(format!("web: \"{text}\": {error}")))
    };
    Vec::<String>::deserialize(from)?.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;

    /// Two domains, the second with this.
    fn parse(more: &str) -> Result<Config, String> {
        let of =
            |name| format!("[[domain]]\nname = \"{name}\"\ncertificate = \"c\"\nkey = \"k\"\n");
        let text =
            format!("{}web = [\"chat.a.example\"]\n{}{more}", of("a.example"), of("b.example"));
        Config::parse(&text, Path::new("imppd.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn i1_a_name_of_the_web_leads_to_one_domain_and_has_one_pair() {
        for names in ["", "web = []", "web = [\"b.example\", \"CHAT.b.example\"]"] {
            parse(names).unwrap();
        }
        let config = parse("web = [\"CHAT.b.example\"]").unwrap();
        assert_eq!(config.domain[1].web[0].as_str(), "chat.b.example");
        parse("web = [\"x\"]\nweb_certificate = \"c\"\nweb_key = \"k\"").unwrap();
        for (more, expected) in [
            ("web = [\"x\", \"X\"]", "imppd.toml:10: web = \"x\" stands twice"),
            ("web = [\"Chat.a.example\"]", "imppd.toml:10: web = \"chat.a.example\" stands twice"),
            (
                "web = [\"a.example\"]",
                "imppd.toml:10: web = \"a.example\" of \"b.example\" is another domain's name",
            ),
            ("web = [\"a b\"]", "imppd.toml:10: web: \"a b\": "),
            ("web = \"x\"", "imppd.toml:10: "),
            (
                "web = [\"x\"]\nweb_certificate = \"c\"",
                "imppd.toml:11: web_certificate of \"b.example\" without a web_key",
            ),
            (
                "web = [\"x\"]\nweb_key = \"k\"",
                "imppd.toml:11: web_key of \"b.example\" without a web_certificate",
            ),
            (
                "web_certificate = \"c\"\nweb_key = \"k\"",
                "imppd.toml:10: web_certificate of \"b.example\" without names in web",
            ),
        ] {
            let error = parse(more).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
