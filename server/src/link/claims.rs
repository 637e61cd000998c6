//! Who pays for a place in the table of other domains: the accounts that need something there, each
//! for itself, and whoever had the place made, until it is gone. An account has its share of the
//! places and no more, whatever it needs them for.
//!
//! Counting is left to `impp_federation::shares`.

use std::sync::Arc;

use impp_federation::shares::Claim;
use impp_protocol::command::{Bye, ByeReason};
use impp_protocol::{Address, Code, Domain, Error};

use super::peer::{GivenUp, Peer};
use super::peers::Peers;
use crate::messages::SENDER_PART;

impl Peers {
    /// The claim by which an account may ask, follow or write to another domain, and which is held as
    /// long as that goes on.
    ///
    /// # Errors
    /// full, if it has its share of domains already.
    pub fn claim(&self, account: &Address, remote: &Domain) -> Result<Claim, Error> {
        self.claim_at_most(account, remote, self.share())
    }

    /// The same for what is accepted already and is sent on to another domain: there is room for as
    /// many again.
    ///
    /// # Errors
    /// full.
    pub fn claim_held(&self, account: &Address, remote: &Domain) -> Result<Claim, Error> {
        self.claim_at_most(account, remote, self.share().saturating_mul(2))
    }

    fn claim_at_most(
        &self,
        account: &Address,
        remote: &Domain,
        most: usize,
    ) -> Result<Claim, Error> {
        let claimed = self.shares.claim(account, remote, most).or_else(|full| {
            match self.give_up_one(account) {
                true => self.shares.claim(account, remote, most),
                false => Err(full),
            }
        });
        claimed.map_err(|_| {
            let text = format!(
                "what you follow, ask for or have waiting is in {most} other domains, and that is \
                 the most for one account; follow nobody in one of them, or try again later"
            );
            Error::new(Code::Full, text)
        })
    }

    /// Gives up a place that an account has of a domain of which it needs nothing any more; whether
    /// there was one. Links that nobody uses are said goodbye, so that there is one soon.
    fn give_up_one(&self, account: &Address) -> bool {
        let local = account.domain();
        // A single claim may be the place's own.
        self.shares.single(account).iter().any(|remote| {
            let Some(peer) = self.find(&local, remote) else { return false };
            self.give_up(&peer, account)
        })
    }

    fn give_up(&self, peer: &Arc<Peer>, account: &Address) -> bool {
        let (local, remote) = (peer.local(), peer.remote());
        // Somebody of the account may have begun to need it: a claim is taken before the place is
        // looked for, whose lock is held.
        let payer = || {
            let own = self.shares.claims(account, remote) != 1;
            (!own).then(|| self.shares.of_any(local, remote, Some(account)))
        };
        match peer.give_up(account, payer) {
            GivenUp::No => false,
            GivenUp::Free => true,
            GivenUp::Idle(links) => {
                // It is gone in a moment.
                for link in links {
                    link.mailbox.end(Bye::new(ByeReason::Idle, "nothing is to be said"));
                }
                true
            }
            GivenUp::Ended => {
                self.forget(peer);
                peer.waiting.changed.notify_one();
                true
            }
        }
    }

    /// Of how many domains one account may have places.
    fn share(&self) -> usize {
        (self.serving.settings.load().federation.domains_max / SENDER_PART).max(1) as usize
    }
}
