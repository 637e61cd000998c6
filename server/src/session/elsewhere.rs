//! SUBSCRIBE and FETCH of presence in other domains, whose servers have to be asked: the answer comes
//! later, and nobody else waits for it.
//!
//! What is known of a presentity of another domain is in `mirror`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use impp_acl::View;
use impp_presence::followed::MirrorKey;
use impp_presence::{Bond, Held};
use impp_protocol::command::{Done, Fetch, Subscribe};
use impp_protocol::presence::{Document, Version};
use impp_protocol::state::SubscriptionState;
use impp_protocol::{Address, By, Code, Command, Error, What};

use super::publish::granted;
use super::{Followed, Session, offered};
use crate::answers::{Answer, Handled, Later};
use crate::host::Host;
use crate::listeners::Listener;
use crate::mirrors::Following;
use crate::routes::Home;

/// The home's answer is waited for so long; then SUBSCRIBE is answered that the state is unknown,
/// and the rest comes by NOTIFY; FETCH that the home is unreachable.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What was answered, once it was: what the client holds and the state it was told; nothing if it
/// does not follow.
pub(super) type Waits = Arc<OnceLock<Option<(Held, SubscriptionState)>>>;

impl Session {
    /// What another domain has to be asked for the client.
    pub(super) async fn ask_elsewhere(
        &mut self,
        host: &Arc<Host>,
        command: &Command,
    ) -> Option<Answer> {
        let (address, what) = match command {
            Command::Subscribe(subscribe) if subscribe.lease != Some(Duration::ZERO) => {
                (&subscribe.address, subscribe.what)
            }
            Command::Fetch(fetch) => (&fetch.address, fetch.what),
            _ => return None,
        };
        let Ok(Home::Elsewhere(key)) = host.routes.home_of(self.address(), address) else {
            return None;
        };
        if what != What::Presence {
            return None;
        }
        let answer = match (offered(self.account.services.pres, "presence"), command) {
            (Err(error), _) => Err(error),
            (Ok(()), Command::Subscribe(subscribe)) => {
                self.follow_elsewhere(host, key, subscribe).await
            }
            (Ok(()), Command::Fetch(fetch)) => self.fetch_elsewhere(host, key, fetch),
            (Ok(()), _) => return None,
        };
        Some(answer.unwrap_or_else(|error| Answer::Now(error.into())))
    }

    async fn follow_elsewhere(
        &mut self,
        host: &Arc<Host>,
        key: MirrorKey,
        subscribe: &Subscribe,
    ) -> Result<Answer, Error> {
        let presentity = key.presentity.clone();
        self.needs_room(host, &presentity)?;
        let lease =
            subscribe.lease.map(|asked| granted(asked, &host.settings.load().times)).transpose()?;
        let id = self.mailbox.id;
        let bond = match lease {
            Some(lease) => Bond::Lease(self.mailbox.device, host.clock.now().after(lease)),
            None => Bond::Session(id),
        };
        let watcher = self.address().clone();
        let following = host.mirrors.follow(host, &key, &watcher, bond, Some(id), true);
        let Following { state, version, answered } = following.await?;
        let Some(answered) = answered else {
            let held = held(state, version, subscribe.version);
            self.now_follows(&presentity, Followed::answered(held, state));
            return Ok(Answer::Now(stands(state, lease, version).into()));
        };
        let waits = Waits::default();
        let followed = Followed { waits: Some(waits.clone()), ..Followed::default() };
        self.now_follows(&presentity, followed);
        let (host, mailbox) = (host.clone(), self.mailbox.clone());
        let (claimed, mut hurry) = (subscribe.version, self.hurry.subscribe());
        Ok(Answer::Later(Box::pin(async move {
            let answered = tokio::select! {
                answered = tokio::time::timeout(ANSWER_MAX, answered) => answered.ok(),
                _ = hurry.changed() => None,
            };
            let (command, told) = match answered {
                Some(Ok(Err(error))) => (from_home(error).into(), None),
                _ => {
                    let look = host.mirrors.look(&key, |mirror| {
                        let state = mirror.follower(&watcher).map(|follower| follower.state);
                        (state, mirror.version_for(&watcher))
                    });
                    let (state, version) = look.unwrap_or_default();
                    let state = state.unwrap_or(SubscriptionState::Terminated);
                    let ended = state == SubscriptionState::Terminated;
                    let told = (!ended).then(|| (held(state, version, claimed), state));
                    (stands(state, lease, version).into(), told)
                }
            };
            if told.is_none() {
                let left = host.mirrors.unfollow(&host, &key, &watcher, Some(id), &[]);
                if let Err(error) = left.await {
                    tracing::warn!(%error, "the end of a subscription could not be stored");
                }
            }
            // From now on there may be NOTIFY; the answer is written before.
            let _ = waits.set(told);
            mailbox.presentity_dirty(&presentity);
            command
        })))
    }

    fn fetch_elsewhere(
        &self,
        host: &Arc<Host>,
        key: MirrorKey,
        fetch: &Fetch,
    ) -> Result<Answer, Error> {
        let watcher = self.address().clone();
        let known = host.mirrors.look(&key, |mirror| mirror.fetch(&watcher, fetch.version));
        if let Some(done) = known.flatten() {
            return Ok(Answer::Now(done.into()));
        }
        let remote = key.presentity.domain();
        let claim = host.peers.claim(host, &watcher, &remote)?;
        let ask = Fetch {
            version: fetch.version,
            watcher: Some(watcher),
            ..Fetch::of(key.presentity.clone(), What::Presence)
        };
        let (host, mut hurry) = (host.clone(), self.hurry.subscribe());
        let later: Later = Box::pin(async move {
            let asked = host.ask_remote(claim, ask.into());
            let answer = tokio::select! {
                answer = tokio::time::timeout(ANSWER_MAX, asked) => answer.ok(),
                _ = hurry.changed() => None,
            };
            let late =
                || Err(Error::new(Code::Unreachable, format!("{remote} has not answered yet")));
            let answer = answer.unwrap_or_else(late);
            match answer.map_err(from_home).and_then(|done| seen(&key.presentity, done)) {
                Ok(done) => done.into(),
                Err(error) => error.into(),
            }
        });
        Ok(Answer::Later(later))
    }
}

/// What a client holds that was told a state and a version; nothing unless it may be shown
/// something.
fn held(state: SubscriptionState, version: Option<Version>, claimed: Option<Version>) -> Held {
    match (state, claimed) {
        (SubscriptionState::Active | SubscriptionState::Stale, Some(held)) => {
            // The answer says that this is what it would be sent.
            if version == Some(held) { Held::Sent(held) } else { Held::Claimed(held) }
        }
        _ => Held::Nothing,
    }
}

fn stands(state: SubscriptionState, lease: Option<Duration>, version: Option<Version>) -> Done {
    let lease = match state {
        SubscriptionState::Terminated => Some(Duration::ZERO),
        _ => lease,
    };
    Done { state: Some(state), lease, version, ..Done::empty() }
}

/// An error of another domain's server, as that is named to the client.
fn from_home(mut error: Error) -> Error {
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
