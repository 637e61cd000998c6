//! What a client has published bound to its session: the whole of it, so that it can be said once more
//! where it has ended unasked: while the connection was lost, or with the server.
//!
//! It is then old. What was published since, from this device or another one, goes on showing.

use std::sync::Arc;
use std::time::Duration;

use impp_protocol::command::{Done, Fetch, Publish};
use impp_protocol::presence::{Document, Patch, Sorted};
use impp_protocol::{Address, Code, What};
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::backoff::{self, Backoff};
use crate::connection::Connection;
use crate::error::ClientError;

/// See the module. Whoever publishes holds it meanwhile: nothing that is older is said after it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Nothing where a lease keeps it, or where the whole of it is not known.
    said: Mutex<Option<Said>>,
    due: watch::Sender<Due>,
}

/// Whether what is published is to be said again, and was not yet.
#[derive(Debug, Default)]
struct Due {
    now: bool,
    /// How often it was: what the server has said meanwhile may have been of before.
    times: u64,
}

/// What is published.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Said {
    /// All that was asked for.
    pub(crate) whole: Document,
    /// What of it was said last.
    pub(crate) last: Document,
    /// What was said last and answered OK: nobody may know whether `last` has come about.
    acknowledged: Document,
    /// What the owner's other devices said when this one began.
    pub(crate) others: Document,
}

impl Said {
    /// What nobody has published from here; what others say at that moment.
    pub(crate) fn among(others: Document) -> Said {
        Said { others, ..Said::default() }
    }

    /// With a change made to it.
    pub(crate) fn changed(self, patch: &Patch) -> Option<Said> {
        let (whole, last) = (patch.applied(self.whole).ok()?, patch.applied(self.last).ok()?);
        Some(Said { whole, last, ..self })
    }

    /// What counts after `asked` was asked for and this came of it: what was refused was not published;
    /// of what may have been, nobody wants what was there before any more.
    pub(crate) fn after<T>(
        before: Option<Said>,
        asked: Option<Said>,
        came: &Result<T, ClientError>,
    ) -> Option<Said> {
        match came {
            Ok(_) => asked.map(|said| Said { acknowledged: said.last.clone(), ..said }),
            Err(ClientError::Answered(_)) => before,
            Err(_) => asked,
        }
    }

    /// Whether this layer of the device is what was said from here.
    pub(crate) fn is(&self, layer: &Document) -> bool {
        [&self.last, &self.acknowledged].contains(&layer)
    }

    /// What of it is said where others say this now: without that on which they have had another word
    /// since. It is not known whether that was before this one's last; watchers see it now.
    fn beside(&self, now: &Document) -> Document {
        let Document { mut person, mut tuples, mut devices } = self.whole.clone();
        leave(&mut person, &self.others.person, &now.person);
        leave(&mut tuples, &self.others.tuples, &now.tuples);
        leave(&mut devices, &self.others.devices, &now.devices);
        Document { person, tuples, devices }
    }
}

/// Leaves to others what is new of theirs.
fn leave<K: Ord, V: PartialEq>(own: &mut Sorted<K, V>, then: &Sorted<K, V>, now: &Sorted<K, V>) {
    own.retain(|key, _| now.get(key).is_none_or(|theirs| then.get(key) == Some(theirs)));
}

impl Published {
    /// What is published, by then.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] with the whole `limit`.
    pub(crate) async fn hold(
        &self,
        by: Instant,
        limit: Duration,
    ) -> Result<MutexGuard<'_, Option<Said>>, ClientError> {
        timeout_at(by, self.0.said.lock()).await.map_err(|_| ClientError::Timeout(limit))
    }

    /// Waits until nothing is to be said again: how often something was up to now. Nothing if that is not
    /// so by then.
    pub(crate) async fn is_said(&self, by: Instant) -> Option<u64> {
        let mut due = self.0.due.subscribe();
        let said = timeout_at(by, due.wait_for(|due| !due.now)).await;
        Some(said.ok()?.ok()?.times)
    }

    /// Publishes it again on a new connection where it has ended, beside whatever else is asked there:
    /// what comes unasked may have to be taken before the answer comes. One try takes so long at most.
    pub(crate) fn again(&self, own: &Address, connection: &Connection, limit: Duration) {
        let signed_in = connection.signed_in();
        // A session that was new on the connection before, and lost with it at once, is resumed without
        // a word of what had ended before it.
        if signed_in.resumed && !signed_in.layer_ended && !self.0.due.borrow().now {
            return;
        }
        self.0.due.send_modify(|due| *due = Due { now: true, times: due.times + 1 });
        let times = self.0.due.borrow().times;
        let (published, own, connection) = (self.clone(), own.clone(), connection.clone());
        tokio::spawn(async move {
            let mut backoff = Backoff::default();
            while let Err(error) = published.say(&own, &connection, limit).await {
                if connection.ended().is_some() {
                    // The next connection sees to it.
                    return;
                }
                if !error.is_transient() {
                    break;
                }
                sleep(backoff.next(error.retry_after(), backoff::random())).await;
            }
            // Not where another connection has begun to say it meanwhile.
            published.0.due.send_modify(|due| due.now &= due.times != times);
        });
    }

    async fn say(
        &self,
        own: &Address,
        connection: &Connection,
        limit: Duration,
    ) -> Result<(), ClientError> {
        let mut held = self.0.said.lock().await;
        let Some(said) = &mut *held else { return Ok(()) };
        let saying = async {
            let base = match layer(connection.call(Fetch::of(own.clone(), What::Layer)).await)? {
                // What it has of somebody else is newer.
                Some(layer) if !said.is(&layer) => return Ok(()),
                // Its end may not have been over: a session begun anew takes it over.
                Some(_) => None,
                None => {
                    let fetched = connection.call(Fetch::of(own.clone(), What::Presence)).await?;
                    let now = fetched.content.map(Document::decode).and_then(Result::ok);
                    said.last = said.beside(&now.unwrap_or_default());
                    Some(0)
                }
            };
            let content = Some(Patch::between(&Document::default(), &said.last).encode());
            let own = Publish::of(own.clone(), What::Presence, content);
            match connection.call(Publish { replace: true, base, ..own }).await {
                // Another has published meanwhile.
                Err(ClientError::Answered(error)) if error.code == Code::Conflict => {}
                done => {
                    done?;
                    said.acknowledged = said.last.clone();
                }
            }
            Ok(())
        };
        timeout(limit, saying).await.unwrap_or(Err(ClientError::Timeout(limit)))
    }
}

/// The layer of a device, of the answer to who fetched it.
pub(crate) fn layer(fetched: Result<Done, ClientError>) -> Result<Option<Document>, ClientError> {
    match fetched {
        Ok(done) => {
            let layer = Document::decode(done.content.unwrap_or_default());
            layer.map(Some).map_err(|error| ClientError::Protocol(format!("a layer: {error}")))
        }
        Err(ClientError::Answered(error)) if error.code == Code::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use impp_protocol::presence::{FieldName, Fields, PartId};

    use super::*;

    fn saying(pairs: &[(&str, &str)]) -> Document {
        let mut document = Document::default();
        for (name, value) in pairs {
            match FieldName::parse(name) {
                Some(name) if *value != "tuple" => {
                    drop(document.person.insert(name, (*value).into()))
                }
                _ => drop(document.tuples.insert(PartId::parse(name).unwrap(), Fields::default())),
            }
        }
        document
    }

    /// After a publication of which nobody knows whether it came about, the newer one is said again.
    #[test]
    fn what_was_asked_for_last_is_said_again() {
        let said = |note: &str| {
            let patch = Patch::between(&Document::default(), &saying(&[("note", note)]));
            Said::among(Document::default()).changed(&patch)
        };
        let note = |said: Option<Said>| said.unwrap().whole.person.into_iter().next().unwrap().1;
        let refused = impp_protocol::Error::new(Code::TooLarge, "too large");
        let unknown = ClientError::Timeout(Duration::from_secs(10));
        let cases =
            [(Ok(()), "new"), (Err(unknown), "new"), (Err(ClientError::Answered(refused)), "old")];
        for (came, expected) in cases {
            let after = Said::after(said("old"), said("new"), &came);
            assert_eq!(&*note(after), expected, "{came:?}");
        }
    }

    /// What others have said since is theirs, what they said before lies beneath, and what they say no
    /// more is said again.
    #[test]
    fn what_is_newer_of_others_goes_on_showing() {
        let whole =
            saying(&[("note", "mine"), ("mood", "happy"), ("activities", "away"), ("d1", "tuple")]);
        let others = saying(&[("mood", "sad"), ("activities", "busy"), ("d2", "tuple")]);
        let said = Said { whole, others, ..Said::default() };
        let now = saying(&[("mood", "sad"), ("note", "theirs"), ("d2", "tuple")]);
        assert_eq!(
            said.beside(&now),
            saying(&[("mood", "happy"), ("activities", "away"), ("d1", "tuple")])
        );
        assert_eq!(said.beside(&Document::offline()), said.whole);
    }
}
