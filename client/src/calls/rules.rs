//! Access rules and delivery rules: one text, and what it says about somebody.

use bytes::Bytes;
use impp_protocol::command::{Done, Fetch};
use impp_protocol::state::Explanation;
use impp_protocol::{Address, Timestamp, What};

use super::presence::{Fetched, seen};
use super::{content, text};
use crate::client::Client;
use crate::error::ClientError;

/// Which rules are to be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExplainKind {
    /// Who sees what of one's presence.
    Access,
    /// Who reaches one's inbox.
    Delivery,
}

/// What a question about rules supposes, in the place of what is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Supposed {
    /// Other rules, TOML.
    pub rules: Option<String>,
    /// Another time.
    pub at: Option<Timestamp>,
    /// Another sphere; empty for none.
    pub sphere: Option<String>,
    /// The rules are somebody else's, who lets one edit them.
    pub owner: Option<Address>,
}

impl Supposed {
    fn of(&self, own: &Address, about: &Address) -> Fetch {
        let owner = self.owner.as_ref().unwrap_or(own);
        Fetch {
            about: Some(about.clone()),
            rules: self.rules.as_ref().map(|rules| Bytes::copy_from_slice(rules.as_bytes())),
            at: self.at,
            sphere: self.sphere.clone(),
            ..Fetch::of(owner.clone(), What::Explain)
        }
    }
}

impl Client {
    /// The rules, and the version that a change of them starts from.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rules(&self) -> Result<(String, u64), ClientError> {
        self.rules_for(self.address()).await
    }

    /// Replaces the rules if they still are of the version `base`. Gives the new version.
    ///
    /// # Errors
    /// [`ClientError`]: malformed with the line that is wrong, conflict if they were changed
    /// meanwhile. A lost connection leaves open whether it was done.
    pub async fn set_rules(&self, rules: &str, base: u64) -> Result<u64, ClientError> {
        self.set_rules_for(self.address(), rules, base).await
    }

    /// What the rules say about somebody, and which of them say it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn explain(
        &self,
        about: &Address,
        kind: ExplainKind,
        supposed: &Supposed,
    ) -> Result<Explanation, ClientError> {
        let delivery = kind == ExplainKind::Delivery;
        let fetch = Fetch { delivery, ..supposed.of(self.address(), about) };
        content(self.call_repeatable(fetch).await?, What::Explain)
    }

    /// One's own presence as somebody sees it who follows, or looks once; `terminated` where they
    /// would be refused. Of another's presence what one sees oneself, and the names of the other fields.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn view_as(
        &self,
        about: &Address,
        once: bool,
        supposed: &Supposed,
    ) -> Result<(Fetched, Vec<String>), ClientError> {
        let fetch = Fetch { view: true, once, ..supposed.of(self.address(), about) };
        let mut done = self.call_repeatable(fetch).await?;
        let names = std::mem::take(&mut done.names);
        Ok((seen(done)?, names))
    }
}

/// The text of an answer, and its version.
pub(super) fn read(done: Done) -> Result<(String, u64), ClientError> {
    let missing = || ClientError::Protocol("rules without a version".to_owned());
    let number = done.number.ok_or_else(missing)?;
    Ok((text(done.content, What::Rules)?, number))
}
