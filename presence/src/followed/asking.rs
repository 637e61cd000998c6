//! What the home is asked for its followers here, and what it has answered.

use impp_protocol::command::{Done, Subscribe};
use impp_protocol::state::SubscriptionEvent;
use impp_protocol::{Address, Code, Error, Timestamp, What};

use super::follower::Upstream;
use super::machine::Mirror;
use super::{Effects, Terms};

impl Mirror {
    /// What the home is to be asked now, at most `max` requests.
    pub fn requests(
        &mut self,
        now: Timestamp,
        max: usize,
        terms: Terms,
    ) -> Vec<(Address, Subscribe)> {
        if self.linked.is_none() {
            return vec![];
        }
        let mut requests = Vec::new();
        for watcher in self.asking(now, max, terms) {
            let Some(follower) = self.followers.get_mut(&watcher) else { continue };
            let Some(ends) = follower.request(now) else { continue };
            let kept = self.cache.kept(follower.group).filter(|_| !ends && !follower.lost);
            let version = kept.map(|kept| kept.version);
            follower.upstream = Upstream::Asked { ends, bare: version.is_none() };
            let lease = if ends { Default::default() } else { terms.lease };
            let subscribe = Subscribe {
                lease: Some(lease),
                version,
                watcher: Some(watcher.clone()),
                ..Subscribe::of(self.presentity.clone(), What::Presence)
            };
            self.agenda.changed(&watcher);
            requests.push((watcher, subscribe));
        }
        requests
    }

    /// The home has answered what it was asked for a follower.
    pub fn answered(
        &mut self,
        now: Timestamp,
        watcher: &Address,
        result: Result<Done, Error>,
        terms: Terms,
    ) -> Effects {
        let mut effects = Effects::default();
        let before = self.kept(watcher);
        let asked = self.followers.get(watcher).map(|follower| follower.upstream);
        let Some(Upstream::Asked { ends, bare }) = asked else {
            effects.unsolicited = 1;
            return effects;
        };
        match result {
            _ if ends => self.over_there(now, watcher),
            Ok(done) => self.stands(now, watcher, &done, bare, terms, &mut effects),
            Err(error) if error.code.is_permanent() => {
                let event = match error.code {
                    Code::Refused => SubscriptionEvent::Rejected,
                    _ => SubscriptionEvent::Noresource,
                };
                self.over_there(now, watcher);
                self.ended(now, watcher, event, Some(error), &mut effects);
            }
            Err(error) => {
                self.detach(watcher);
                if let Some(follower) = self.followers.get_mut(watcher) {
                    if !follower.sees() {
                        self.cache.leave(watcher, follower.group.take());
                    }
                    follower.failed(now, watcher, error.retry_after);
                    effects.answered.push((watcher.clone(), Ok(())));
                }
            }
        }
        self.note(watcher, before, &mut effects);
        self.tidy(watcher);
        effects.asks |= self.asks_for(now, watcher);
        effects
    }

    /// The home does not exist or does not serve presence: whoever has never had an answer of it
    /// gets this one.
    pub fn unreachable(&mut self, now: Timestamp, error: &Error) -> Effects {
        let mut effects = Effects::default();
        for watcher in self.followers.keys().cloned().collect::<Vec<_>>() {
            let Some(follower) = self.followers.get(&watcher) else { continue };
            let never = !follower.heard && follower.standing.is_none() && follower.waits();
            if never && follower.is_kept() {
                let before = follower.kept();
                let event = SubscriptionEvent::Noresource;
                self.ended(now, &watcher, event, Some(error.clone()), &mut effects);
                self.note(&watcher, before, &mut effects);
                self.tidy(&watcher);
            }
        }
        effects
    }
}
