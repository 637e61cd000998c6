//! One door to an inbox, wherever it is: what is brought there is a value, and who brings it does not see
//! where it goes.
//!
//! What becomes of it here, and on the way to another domain, is left to what is brought.

use futures_util::future::Either;
use impp_protocol::Address;

use crate::core::routes::{Routes, Where};

/// What somebody of this server brings to an inbox.
pub trait Brought: Sized {
    /// What becomes of it.
    type Outcome;

    /// In an inbox here. Also where nobody knows a way to: that says itself that there is none.
    fn here(self) -> impl Future<Output = Self::Outcome> + Send;

    /// In an inbox of another domain.
    fn elsewhere(self) -> impl Future<Output = Self::Outcome> + Send;
}

/// Brings it to the inbox of an address, for somebody of this server: the one place that knows where an
/// inbox is.
///
/// It is no `async fn`, which would keep what is brought twice while it waits.
pub fn bring<B: Brought>(
    routes: &Routes,
    who: &Address,
    to: &Address,
    what: B,
) -> impl Future<Output = B::Outcome> + use<B> {
    match routes.locate(who, to) {
        Ok(Where::Elsewhere) => Either::Left(what.elsewhere()),
        Ok(Where::Here) | Err(_) => Either::Right(what.here()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use impp_storage::MemoryStore;

    use super::*;
    use crate::core::config::Config;
    use crate::life::Server;

    struct Thing;

    impl Brought for Thing {
        type Outcome = &'static str;

        async fn here(self) -> &'static str {
            "here"
        }

        async fn elsewhere(self) -> &'static str {
            "elsewhere"
        }
    }

    #[tokio::test]
    async fn who_knows_no_way_to_an_inbox_is_told_here_that_there_is_none() {
        let domains = ["a.example", "localhost"].map(|name| {
            format!("[[domain]]\nname = \"{name}\"\ncertificate = \"c\"\nkey = \"k\"\n")
        });
        for (enabled, who, to, wanted) in [
            (true, "alice@a.example", "bob@a.example", "here"),
            (true, "alice@a.example", "bob@localhost", "here"),
            (true, "alice@a.example", "bob@b.example", "elsewhere"),
            (true, "alice@localhost", "bob@b.example", "here"),
            (false, "alice@a.example", "bob@b.example", "here"),
        ] {
            let settings = format!("[federation]\nenabled = {enabled}\n{}", domains.concat());
            let config = Config::parse(&settings, Path::new("imppd.toml")).unwrap();
            let store = Arc::new(MemoryStore::new().unwrap());
            let server = Server::load(config, store).await.unwrap();
            let [who, to] = [who, to].map(|text| Address::parse(text).unwrap());
            assert_eq!(bring(&server.rooms.routes, &who, &to, Thing).await, wanted, "{who} {to}");
        }
    }
}
