//! The way into a session: a new one for an account that has proven itself, or an old one for
//! whoever holds its ticket.

use std::sync::Arc;
use std::time::Duration;

use impp_protocol::command::{Auth, Bye, ByeReason, Done};
use impp_protocol::sasl::resume::{Binding, Ticket};
use impp_protocol::{Code, DeviceId, Error, SessionId};

use super::sign_in::{Device, Proof};
use super::{Client, Live, Rooms, Serving, Session};
use crate::core::accounts::{Account, Accounts};
use crate::core::answers::Stored;
use crate::core::config::seconds;
use crate::core::sessions::Mailbox;
use crate::core::tickets::Issued;

/// How long the old connection of a session may take to let go of it.
const HANDOVER: Duration = Duration::from_secs(2);

/// Makes the session of an account that has proven itself.
///
/// # Errors
/// full, if the account has too many devices or sessions; or the store's.
pub async fn enter(
    serving: &Arc<Serving>,
    accounts: &Accounts,
    account: Arc<Account>,
    device: Device,
    every_item: bool,
) -> Result<Session, Error> {
    let Serving { devices, rooms: Rooms { live, .. }, settings, clock, metrics, .. } = &**serving;
    let seen = match device.id {
        // Nothing is kept of it.
        DeviceId::NIL => clock.now(),
        id => devices.enter(&account, id, device.name).await?,
    };
    let id = SessionId(drawn(serving)?);
    let ticket = issue(serving, id, device.binding)?;
    let mailbox = Arc::new(Mailbox::new(id, account.address.clone(), device.id, ticket));
    mailbox.seen_at(seen);
    let client = Client { mailbox, account: account.clone(), every_item };
    let session = Session::new(client, serving.clone());
    let max = settings.load().limits.sessions_max as usize;
    while live.sessions.of(&account.address).len() >= max {
        // Whoever has no connection makes room, the oldest first.
        let Some(parked) = live.take_oldest(&account.address) else { break };
        parked.end().await;
    }
    if !live.sessions.enter(&session.client.mailbox, max) {
        let text = format!("the account has {max} sessions, and that is the most");
        return Err(Error::new(Code::Full, text));
    }
    metrics.sessions.inc();
    // Whoever was disabled or given another password while this sign-in went on is not in.
    if !accounts.is_current(&account) {
        session.forget();
        return Err(Error::new(Code::AuthFailed, "sign-in failed"));
    }
    Ok(session)
}

/// Takes up a session again, without password and without a look at the store.
///
/// # Errors
/// expired, alike for a session that is gone and a ticket that is not its own, or bound more strongly;
/// refused, for a binding that the connection has not; busy, if the old connection does not let go of it.
pub async fn resume(
    serving: &Serving,
    accounts: &Accounts,
    auth: &Auth,
    proof: &Proof,
    every_item: bool,
) -> Result<(Session, Done), Error> {
    let binding = auth.binding.unwrap_or(Binding::Exporter);
    let bound = &proof.bound(binding)?;
    let (Some(id), Some(device), Some(shown)) = (auth.resume, auth.device, &auth.data) else {
        return Err(Error::new(Code::Malformed, "resume: needs the device and data"));
    };
    // On a connection for another domain it is as gone as one of another device.
    let mailbox = serving
        .rooms
        .live
        .sessions
        .get(id)
        .filter(|mailbox| mailbox.device == device && proof.covers(&mailbox.account))
        .ok_or_else(gone)?;
    let proven = |issued: &Issued| {
        issued.is_taken_by(binding) && issued.ticket.is_proven_by_client(bound, shown)
    };
    let ticket = mailbox.ticket(proven).ok_or_else(gone)?;
    let fresh = issue(serving, id, binding)?;
    let grace = seconds(serving.settings.load().times.grace_seconds);
    let mut session = take_over(&serving.rooms.live, &mailbox, &ticket).await?;
    // Somebody may have come with its successor meanwhile.
    if !mailbox.use_ticket(&ticket, fresh.clone()) {
        session.park(grace).await;
        return Err(gone());
    }
    if !accounts.is_current(&session.client.account) || mailbox.is_revoked() {
        session.end().await;
        return Err(gone());
    }
    let layer_ended = match session.resume().await {
        Ok(layer_ended) => layer_ended,
        Err(error) => {
            session.park(grace).await;
            return Err(error).stored();
        }
    };
    session.client.every_item = every_item;
    if auth.versions_follow {
        session.await_versions();
    }
    let data = Some(ticket.server_proof(bound).to_vec().into());
    let done = Done { data, resumed: true, layer_ended, ..session.welcome(&fresh.ticket) };
    Ok((session, done))
}

fn gone() -> Error {
    Error::new(Code::Expired, "the session is gone; sign in anew")
}

/// Takes the session from where it waits; one that still has a connection is taken from that, if it lets go of
/// it in time.
async fn take_over(live: &Live, mailbox: &Mailbox, ticket: &Ticket) -> Result<Session, Error> {
    let waiting = async {
        loop {
            let moved = mailbox.moved();
            if let Some(session) = live.take(mailbox.id) {
                return Some(session);
            }
            live.sessions.get(mailbox.id)?;
            // Whoever has come with its successor is not sent away by it.
            mailbox.ticket(|good| good.ticket == *ticket)?;
            mailbox.end(Bye::new(ByeReason::Replaced, "the session goes on on another connection"));
            moved.await;
        }
    };
    // The old connection may be at something that takes longer: the session is there all the same.
    let busy = || {
        let text = "the session's old connection is at something; come again";
        Error::new(Code::Busy, text).retry_after(Duration::from_secs(1))
    };
    let taken = tokio::time::timeout(HANDOVER, waiting).await.map_err(|_| busy())?;
    let session = taken.ok_or_else(gone)?;
    // A goodbye that nobody took is not for the new connection.
    mailbox.stay();
    Ok(session)
}

impl Session {
    /// What the client is told of its session, and the ticket that resumes it, if that can be.
    pub fn welcome(&self, ticket: &Ticket) -> Done {
        let done = Done { address: Some(self.address().clone()), ..Done::empty() };
        if self.client.device().is_err() {
            return done;
        }
        let window = seconds(self.serving.settings.load().times.resume_window_seconds);
        Done { resume: Some(ticket.encode().into()), window: Some(window), ..done }
    }
}

fn issue(serving: &Serving, session: SessionId, binding: Binding) -> Result<Issued, Error> {
    let ticket = Ticket::new(session, drawn(serving)?);
    Ok(Issued { ticket, binding })
}

fn drawn<const N: usize>(serving: &Serving) -> Result<[u8; N], Error> {
    serving.chance.bytes().map_err(|error| Error::new(Code::Internal, error.to_string()))
}

#[cfg(test)]
mod tests;
