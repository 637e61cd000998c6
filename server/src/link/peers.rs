//! The table of other domains: one entry for each pair of a domain here and one elsewhere, as long
//! as there is a link or something waits.
//!
//! What an entry does is in `peer` and `tending`, who pays for it in `claims`.

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use dashmap::mapref::entry::Entry;
use futures_util::future::BoxFuture;
use impp_federation::settle::Candidate;
use impp_federation::shares::{Claim, Shares};
use impp_locate::Service;
use impp_presence::LinkId;
use impp_protocol::command::Done;
use impp_protocol::{Address, Code, Command, Domain, Error};
use tokio::time::Instant;

use super::connection::{self, Serving};
use super::dial::{Dialler, NotOpened};
use super::links::Link;
use super::peer::Peer;
use super::told::{Told, Untold};
use super::{LinkMailbox, Opened, opening};
use crate::core::{DashMap, DashSet};
use crate::messages::{Carriers, Queues, Waiting};
use crate::reach::Beyond;
use crate::wire::admission::Place;
use crate::wire::complaints::Complaints;
use crate::wire::pipe::Pipe;

/// When a pair of domains for which there was no place is tried again.
const PUT_OFF: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub struct Peers {
    table: DashMap<(Domain, Domain), Arc<Peer>>,
    /// Pairs that somebody wants and there was no place for.
    put_off: DashSet<(Domain, Domain)>,
    /// What the log may still say of those that cannot be reached.
    pub(super) told: Told,
    /// Who needs which of them.
    pub(super) shares: Shares,
    pub(super) queues: Arc<Queues>,
    pub(super) dialler: Dialler,
    pub(super) serving: Arc<Serving>,
    /// Itself, for what it starts.
    this: Weak<Peers>,
}

impl Peers {
    /// No other domains yet. What links carry may need them, and is made with them.
    pub fn new(
        shares: Shares,
        queues: Arc<Queues>,
        dialler: Dialler,
        serving: impl FnOnce(Weak<Peers>) -> Serving,
    ) -> Arc<Peers> {
        Arc::new_cyclic(|this| {
            let (table, put_off, told) = Default::default();
            let (serving, this) = (Arc::new(serving(this.clone())), this.clone());
            Peers { table, put_off, told, shares, queues, dialler, serving, this }
        })
    }

    /// Does something with the entry of a pair of domains, which is made if it is not there. Nobody
    /// gets there without a claim, but for what is there already, on the disk or as a link: there is
    /// room for as many again.
    ///
    /// # Errors
    /// busy, if there are too many.
    fn with<R>(
        &self,
        local: &Domain,
        remote: &Domain,
        paid: Option<&Claim>,
        act: impl Fn(&Peer) -> Option<R>,
    ) -> Result<(Arc<Peer>, R), Error> {
        loop {
            let peer = self.entry(local, remote, paid)?;
            if let Some(done) = act(&peer) {
                return Ok((peer, done));
            }
            // One that has just ended is out of the table at once.
            std::thread::yield_now();
        }
    }

    fn entry(
        &self,
        local: &Domain,
        remote: &Domain,
        paid: Option<&Claim>,
    ) -> Result<Arc<Peer>, Error> {
        if let Some(peer) = self.find(local, remote) {
            return Ok(peer);
        }
        let most = self.serving.settings.load().federation.domains_max;
        let (all, claimed) = (self.queues.len() as u64, self.shares.places());
        // Whom somebody here needs and who calls take no room from each other. Who asks has its claim
        // already.
        let has_room = match paid {
            Some(_) => claimed <= most,
            None if self.shares.is_claimed(local, remote) => claimed <= most.saturating_mul(2),
            None => all.saturating_sub(claimed) < most,
        };
        if !has_room {
            return Err(Error::new(Code::Busy, "too many other domains at once"));
        }
        let Some(peers) = self.this.upgrade() else {
            return Err(Error::new(Code::Stopping, "the server is stopping"));
        };
        match self.table.entry((local.clone(), remote.clone())) {
            Entry::Occupied(found) => Ok(found.get().clone()),
            Entry::Vacant(vacant) => {
                // One of its own: what the account needs may be over before the place is gone.
                let paid = paid.map(|of| self.shares.claim_held(of.account(), of.remote()));
                let peer = Peer::new(&self.queues, local.clone(), remote.clone(), paid);
                vacant.insert(peer.clone());
                tokio::spawn(peer.clone().tend(peers));
                Ok(peer)
            }
        }
    }

    pub(super) fn find(&self, local: &Domain, remote: &Domain) -> Option<Arc<Peer>> {
        self.table.get(&(local.clone(), remote.clone())).map(|peer| peer.value().clone())
    }

    /// Takes an entry that has ended out of the table.
    pub(super) fn forget(&self, peer: &Arc<Peer>) {
        let key = (peer.local().clone(), peer.remote().clone());
        self.table.remove_if(&key, |_, other| Arc::ptr_eq(other, peer));
        self.queues.forget(&peer.waiting);
    }

    /// Serves a connection on which another domain's server has called, to its end.
    pub async fn accept(
        &self,
        mut pipe: Pipe,
        peer: IpAddr,
        place: Place,
        by: Instant,
        complaints: &Complaints,
    ) {
        let opening = self.dialler.openings.answer(&mut pipe, by);
        let Some(opened) = place.lost().run_until_cancelled(opening).await else {
            // Its place was given to another.
            self.serving.metrics.crowded.inc();
            return;
        };
        match opened {
            Ok((local, remote, opened)) => {
                drop(place);
                self.dialler.ways.heard_from(&remote);
                match self.attach(&local, &remote, opened, false).await {
                    Ok((peer, link)) => {
                        connection::serve(self.serving.clone(), peer, link, pipe).await;
                    }
                    Err(error) => opening::refuse(pipe, error).await,
                }
            }
            Err(error) => {
                self.serving.metrics.refuse_link(error.code);
                // Who says nothing has only looked.
                if error.code == Code::Unreachable {
                    tracing::debug!(%peer, %error, "a server called and left");
                } else if complaints.may_complain(peer, self.serving.clock.now()) {
                    tracing::warn!(%peer, %error, "a server called, and no link was opened");
                }
                opening::refuse(pipe, error).await;
            }
        }
    }

    /// Where servers are is found out anew from now on.
    pub fn read_again(&self) {
        self.dialler.ways.read_again();
    }

    /// Dials a domain for a service, and enters the link.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub(super) async fn dial(
        &self,
        local: &Domain,
        remote: &Domain,
        service: Service,
    ) -> Result<(Arc<Peer>, Arc<Link>, Pipe), NotOpened> {
        let (pipe, opened) = self.dialler.dial(local, remote, service).await?;
        match self.attach(local, remote, opened, true).await {
            Ok((peer, link)) => Ok((peer, link, pipe)),
            Err(error) => {
                let text = error.text.clone().unwrap_or_default();
                opening::refuse(pipe, error.clone()).await;
                Err(NotOpened::transient(error.code, text))
            }
        }
    }

    /// Enters an opened link. That messages may go out over it is on the disk before any does.
    ///
    /// # Errors
    /// busy, if there are too many other domains; storage.
    async fn attach(
        &self,
        local: &Domain,
        remote: &Domain,
        opened: Opened,
        dialled_here: bool,
    ) -> Result<(Arc<Peer>, Arc<Link>), Error> {
        let open = &self.serving.open;
        if open.is_stopping() {
            return Err(Error::new(Code::Stopping, "the server is stopping"));
        }
        let id = self.serving.chance.bytes();
        let id = id.map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        let mailbox = LinkMailbox::new(LinkId(id), local.clone(), remote.clone());
        let candidate = Candidate { peer: opened.identity, dialled_here };
        let link = Arc::new(Link::new(Arc::new(mailbox), candidate, opened));
        // Noted in the order of openings and closings, as the entry's lock is held.
        let begins = |peer: &Peer| peer.begins(|| open.note(local, remote, true));
        let (_, noted) = self.with(local, remote, None, begins)?;
        let noted = noted.await.map(drop);
        let noted = noted.map_err(|error| Error::new(Code::Storage, error.to_string()));
        let attach = |peer: &Peer| peer.attach(&link, noted.clone());
        let (peer, attached) = self.with(local, remote, None, attach)?;
        attached?;
        open.enter(&link.mailbox);
        peer.tell_mirrors(&self.serving.mirrors);
        Ok((peer, link))
    }

    /// Asks the other side for something.
    ///
    /// # Errors
    /// Its answer, or unreachable.
    pub async fn ask(&self, claim: Claim, command: Command) -> Result<Done, Error> {
        let (local, remote) = (claim.account().domain(), claim.remote().clone());
        let now = self.serving.clock.now();
        let ask = |peer: &Peer| peer.ask(&claim, &command, now);
        let answered = self.with(&local, &remote, Some(&claim), ask)?.1?;
        answered.await.unwrap_or_else(|_| {
            Err(Error::new(Code::Unreachable, format!("{remote} has not answered")))
        })
    }

    /// Has a pair of domains looked at: there is something to ask. Nobody's claim is needed to say
    /// over a link that somebody does not follow any more. If there are too many others it is looked
    /// at after a while.
    pub fn wanted(&self, local: &Domain, remote: &Domain) {
        let Some(claim) = self.shares.of_any(local, remote, None) else {
            if let Some(peer) = self.find(local, remote) {
                let _ = peer.look();
            }
            return;
        };
        if self.with(local, remote, Some(&claim), Peer::look).is_ok() {
            return;
        }
        // One for each pair that somebody follows; these are bounded.
        let pair = (local.clone(), remote.clone());
        if self.put_off.insert(pair.clone()) {
            if let Some(Untold(untold)) = self.told.line(self.serving.clock.now()) {
                tracing::warn!(
                    %local, %remote, untold, "no link is sought yet: too many other domains at once"
                );
            }
            let this = self.this.clone();
            tokio::spawn(async move {
                tokio::time::sleep(PUT_OFF).await;
                let Some(peers) = this.upgrade() else { return };
                peers.put_off.remove(&pair);
                if peers.serving.mirrors.wanted(&pair.0, &pair.1) {
                    peers.wanted(&pair.0, &pair.1);
                }
            });
        }
    }

    /// Has links sought for all that is followed elsewhere, at the start.
    pub fn seek(&self) {
        for (local, remote) in self.serving.mirrors.pairs() {
            self.wanted(&local, &remote);
        }
    }
}

impl Beyond for Peers {
    fn claim(&self, account: &Address, remote: &Domain) -> Result<Claim, Error> {
        Peers::claim(self, account, remote)
    }

    fn wanted(&self, local: &Domain, remote: &Domain) {
        Peers::wanted(self, local, remote);
    }

    fn ask(&self, claim: Claim, command: Command) -> BoxFuture<'static, Result<Done, Error>> {
        let this = self.this.clone();
        Box::pin(async move {
            let Some(peers) = this.upgrade() else {
                return Err(Error::new(Code::Stopping, "the server is stopping"));
            };
            Peers::ask(&peers, claim, command).await
        })
    }
}

impl Carriers for Peers {
    fn waiting(&self, claim: &Claim) -> Result<Arc<Waiting>, Error> {
        let (local, remote) = (claim.account().domain(), claim.remote());
        self.entry(&local, remote, Some(claim)).map(|peer| peer.waiting.clone())
    }

    fn waiting_held(&self, local: &Domain, remote: &Domain) -> Result<Arc<Waiting>, Error> {
        self.entry(local, remote, None).map(|peer| peer.waiting.clone())
    }

    fn claim_held(&self, account: &Address, remote: &Domain) -> Result<Claim, Error> {
        Peers::claim_held(self, account, remote)
    }

    fn claim_kept(&self, account: &Address, remote: &Domain) -> Claim {
        self.shares.claim_held(account, remote)
    }
}
