//! Reading everything once, and deciding about who waits.

use std::collections::{BTreeMap, BTreeSet};

use impp_protocol::command::{Done, Fetch, Publish};
use impp_protocol::state::{self, Decision, Page, RequestEdit, Requests};
use impp_protocol::{Address, Command, Error, What};
use tokio::time::timeout;

use super::{Asked, Device, Look, PATIENCE, read};

impl Device {
    pub(super) async fn look(&mut self, whom: Vec<Address>) -> Look {
        let mut look = Look {
            undone: self.undone(),
            log: Vec::new(),
            told: self.seen.clone(),
            fetched: BTreeMap::new(),
            items: self.items.clone(),
        };
        let mut cursor = None;
        loop {
            let fetch = Fetch { cursor, ..Fetch::of(self.who.clone(), What::Log) };
            let Some(Ok(done)) = self.call(fetch).await else { break };
            let page = done.content.and_then(|page| state::decode::<Page>(page).ok());
            let Some(page) = page else { break };
            look.log.extend(page.items);
            cursor = Some(page.cursor);
            if !page.more {
                break;
            }
        }
        for who in whom {
            let fetch = Fetch::of(who.clone(), What::Presence);
            if let Some(answer) = self.call(fetch).await {
                let answer = answer.map(|done| done.content).map_err(|error| error.code);
                look.fetched.insert(who, answer);
            }
        }
        look
    }

    /// Lets in whoever waits, as far as that goes.
    pub(super) async fn allow(&mut self) {
        let fetch = Fetch::of(self.who.clone(), What::Requests);
        let Some(Ok(done)) = self.call(fetch).await else { return };
        let waiting = done.content.and_then(|content| state::decode::<Requests>(content).ok());
        let Some(waiting) = waiting else { return self.wrong("requests cannot be read") };
        let who: BTreeSet<Address> = waiting.entries.into_iter().map(|entry| entry.from).collect();
        for from in who {
            let edit = state::encode(&RequestEdit::of(from, Decision::Allow));
            let publish = Publish::of(self.who.clone(), What::Requests, Some(edit));
            // Somebody else may have decided, or the connection be lost: then it is decided later.
            let _ = self.call(publish).await;
        }
    }

    /// What is answered to a request, which nothing else is asked beside.
    pub(super) async fn call(
        &mut self,
        command: impl Into<Command>,
    ) -> Option<Result<Done, Error>> {
        self.request(command, Asked::Other).await;
        let number = self.session.as_ref()?.number;
        let answer = async {
            loop {
                let request = read(&mut self.session).await?;
                match request.command {
                    Command::Ok(done) if request.number == number => return Some(Ok(done)),
                    Command::Error(error) if request.number == number => return Some(Err(error)),
                    _ => self.hear(request).await,
                }
            }
        };
        timeout(PATIENCE, answer).await.ok()?
    }

    pub(super) fn undone(&self) -> String {
        let mut undone = Vec::new();
        let mut if_so = |is: bool, what: &str| {
            if is {
                undone.push(what.to_owned());
            }
        };
        if_so(self.online != self.session.is_some(), "is not signed in");
        if_so(!self.outbox.is_empty(), "has messages that were not answered");
        if_so(!self.deletes.is_empty(), "has messages to delete");
        if_so(self.rules_due.is_some(), "has rules that were not answered");
        if_so(self.online && self.layer_due, "has a layer that was not answered");
        if_so(self.session.as_ref().is_some_and(|session| !session.log), "follows no log");
        undone.join(", ")
    }
}
