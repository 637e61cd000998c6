//! Presentities of other domains, as the principals of this server ask for them: what is known of one is
//! in its mirror, the rest is asked of its home.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use impp_acl::View;
use impp_federation::shares::Claim;
use impp_presence::Told;
use impp_presence::followed::MirrorKey;
use impp_protocol::command::{Done, Fetch};
use impp_protocol::presence::{Document, Version};
use impp_protocol::{Address, By, Code, Error, What};

use super::mirrors::Mirrors;
use super::{End, Follow, Follows, Home, Looked, Pull, Release, Stands};
use crate::core::answers::{Handled, Stored};
use crate::core::settings::Snapshot;

/// See the module.
#[derive(Debug)]
pub(super) struct Elsewhere {
    mirrors: Arc<Mirrors>,
}

impl Elsewhere {
    pub(super) fn new(mirrors: Arc<Mirrors>) -> Elsewhere {
        Elsewhere { mirrors }
    }

    /// What is asked of the home for one who looks once.
    fn ask(&self, key: &MirrorKey, watcher: &Address, held: Option<Version>) -> Looked {
        let (presentity, remote) = (key.presentity.clone(), key.presentity.domain());
        let ask = Fetch {
            version: held,
            watcher: Some(watcher.clone()),
            ..Fetch::of(presentity.clone(), What::Presence)
        };
        let claimed = self.mirrors.beyond().and_then(|beyond| {
            let claim = beyond.claim(watcher, &remote)?;
            Ok(beyond.ask(claim, ask.into()))
        });
        let asked = match claimed {
            Ok(asked) => asked,
            Err(error) => return Looked::Now(Err(error)),
        };
        Looked::Later(async move { seen(&presentity, asked.await.map_err(from_home)?) }.boxed())
    }
}

/// The mirror of a presentity, as this watcher's domain sees it.
fn key(presentity: &Address, watcher: &Address) -> MirrorKey {
    MirrorKey { local: watcher.domain(), presentity: presentity.clone() }
}

impl Home for Elsewhere {
    fn admit(&self, watcher: &Address, presentity: &Address) -> Result<Option<Claim>, Error> {
        self.mirrors.beyond()?.claim(watcher, &presentity.domain()).map(Some)
    }

    fn follow<'a>(
        &'a self,
        presentity: &'a Address,
        ask: Follow,
        settings: &'a Snapshot,
    ) -> BoxFuture<'a, Result<Follows, Error>> {
        async move {
            let key = key(presentity, &ask.watcher);
            self.mirrors.follow(&key, ask, &settings.federation).await
        }
        .boxed()
    }

    fn release<'a>(
        &'a self,
        presentity: &'a Address,
        ask: Release,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            let key = key(presentity, &ask.watcher);
            self.mirrors.unfollow(&key, &ask.watcher, ask.listener, &ask.keepers).await.stored()
        }
        .boxed()
    }

    fn end<'a>(&'a self, presentity: &'a Address, ask: End) -> BoxFuture<'a, Result<bool, Error>> {
        async move {
            let End { watcher, event, with_account } = ask;
            let key = key(presentity, &watcher);
            match self.mirrors.end_following(&key, &watcher, event).await.stored() {
                // It has ended all the same, and its only record goes with those of the account.
                Err(error) if with_account => {
                    tracing::debug!(%watcher, %presentity, %error, "the end of following is stored later");
                    Ok(true)
                }
                ended => ended,
            }
        }
        .boxed()
    }

    fn pull<'a>(
        &'a self,
        presentity: &'a Address,
        ask: Pull<'a>,
    ) -> BoxFuture<'a, Result<Option<Told>, Error>> {
        std::future::ready(Ok(self.mirrors.pull(&key(presentity, ask.watcher), ask))).boxed()
    }

    fn stands<'a>(
        &'a self,
        presentity: &'a Address,
        watcher: &'a Address,
    ) -> BoxFuture<'a, Result<Option<Stands>, Error>> {
        let now = self.mirrors.now();
        let stands = self.mirrors.look(&key(presentity, watcher), |mirror| {
            let follower = mirror.follower(watcher)?;
            let known = !follower.bonds.is_empty() || !follower.listeners.is_empty();
            let (state, event) = (follower.state, follower.event);
            let (ends_in, version) = (follower.bonds.ends_in(now), mirror.version_for(watcher));
            Some(Stands { state, event, ends_in, version, is_known: known })
        });
        std::future::ready(Ok(stands.flatten())).boxed()
    }

    fn look<'a>(
        &'a self,
        presentity: &'a Address,
        watcher: &'a Address,
        held: Option<Version>,
    ) -> BoxFuture<'a, Looked> {
        let key = key(presentity, watcher);
        // One who follows too is answered from what was surely confirmed.
        let known = self.mirrors.look(&key, |mirror| mirror.fetch(watcher, held)).flatten();
        let looked = match known {
            Some(done) => Looked::Now(Ok(done)),
            None => self.ask(&key, watcher, held),
        };
        std::future::ready(looked).boxed()
    }
}

/// An error of another domain's server, as that is named to the client.
pub(super) fn from_home(mut error: Error) -> Error {
    if error.by == By::Server
        && error.code != Code::Unreachable
        && error.code != Code::UnknownDomain
    {
        error.by = By::Home;
    }
    error
}

/// What the home answers to FETCH, if it is what it should be.
fn seen(presentity: &Address, done: Done) -> Handled {
    let (version, content) = match done.content {
        None => (done.version, None),
        Some(content) => {
            let broken = |_| {
                let text = format!("the home of {presentity} has answered what is no document");
                Error::new(Code::Internal, text).by(By::Home)
            };
            let document = Document::decode(content).map_err(broken)?;
            // Fields that are unknown here may be gone, and the version is of what is left.
            let content = View::decided_at_home(document).content();
            (Some(content.version()), Some(content.snapshot().bytes()))
        }
    };
    Ok(Done { state: done.state, version, content, ..Done::empty() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "what another server has encoded")]
    fn what_is_fetched_from_elsewhere_is_called_by_its_own_version() {
        let content = Document::offline().encode();
        // The home knows more of it, or says so.
        let version = Some(Version([9; 16]));
        let done = Done { version, content: Some(content), ..Done::empty() };
        let seen = seen(&Address::parse("bob@b.example").unwrap(), done).unwrap();
        assert_eq!(seen.version, seen.content.map(|content| Version::of(&content)));
        // What the caller holds is named by whoever has made it.
        let done = Done { version, ..Done::empty() };
        let held = super::seen(&Address::parse("bob@b.example").unwrap(), done).unwrap();
        assert_eq!(held.version, version);
    }
}
