//! The way into a session: a new one for an account that has proven itself, or an old one for
//! whoever holds its ticket.

use std::sync::Arc;
use std::time::Duration;

use impp_protocol::command::{Auth, ByeReason, Done};
use impp_protocol::sasl::resume::Ticket;
use impp_protocol::sasl::scram::Exporter;
use impp_protocol::{Address, Code, Error};

use super::Session;
use super::sign_in::Device;
use crate::accounts::Account;
use crate::answers::Stored;
use crate::config::seconds;
use crate::devices;
use crate::host::{Host, bye};
use crate::ids::SessionId;
use crate::sessions::Mailbox;

/// How long the old connection of a session may take to let go of it.
const HANDOVER: Duration = Duration::from_secs(2);

/// Makes the session of an account that has proven itself.
///
/// # Errors
/// full, if the account has too many devices or sessions; or the store's.
pub async fn enter(
    host: &Arc<Host>,
    account: Arc<Account>,
    device: Device,
    data: Option<Vec<u8>>,
) -> Result<(Session, Done), Error> {
    let seen = devices::enter(host, &account, device.id, device.name).await?;
    let id = SessionId(random()?);
    let ticket = Ticket::new(id.0, random()?);
    let mailbox = Arc::new(Mailbox::new(id, account.address.clone(), device.id, ticket));
    mailbox.seen_at(seen);
    let session = Session::new(mailbox, account.clone());
    let max = host.settings.load().limits.sessions_max as usize;
    while host.sessions.of(&account.address).len() >= max {
        // Whoever has no connection makes room, the oldest first.
        let Some(parked) = parked(host, &account.address) else { break };
        parked.end(host).await;
    }
    if !host.sessions.enter(&session.mailbox, max) {
        let text = format!("the account has {max} sessions, and that is the most");
        return Err(Error::new(Code::Full, text));
    }
    host.metrics.sessions.inc();
    // Whoever was disabled or given another password while this sign-in went on is not in.
    if !host.accounts.is_current(&account) {
        session.forget(host);
        return Err(Error::new(Code::AuthFailed, "sign-in failed"));
    }
    let done = Done { data: data.map(Into::into), ..welcome(host, &session) };
    Ok((session, done))
}

/// Takes up a session again, without password and without a look at the store.
///
/// # Errors
/// expired, alike for a session that is gone and a ticket that is not its own.
pub async fn resume(
    host: &Arc<Host>,
    auth: &Auth,
    exporter: &Exporter,
) -> Result<(Session, Done), Error> {
    let gone = || Error::new(Code::Expired, "the session is gone; sign in anew");
    let (Some(id), Some(device), Some(proof)) = (auth.resume, auth.device, &auth.data) else {
        return Err(Error::new(Code::Malformed, "resume: needs the device and data"));
    };
    let id = SessionId(id);
    let mailbox = host.sessions.get(id).filter(|mailbox| mailbox.device == device);
    let mailbox = mailbox.ok_or_else(gone)?;
    let ticket = mailbox.ticket();
    if !ticket.is_proven_by_client(exporter, proof) {
        return Err(gone());
    }
    let fresh = Ticket::new(id.0, random()?);
    let grace = seconds(host.settings.load().times.grace_seconds);
    let mut session = take_over(host, &mailbox, &ticket).await.ok_or_else(gone)?;
    // Of two that come with one ticket, the first has it.
    if !mailbox.renew(&ticket, fresh) {
        session.park(host, grace).await;
        return Err(gone());
    }
    if !host.accounts.is_current(&session.account) || mailbox.is_revoked() {
        session.end(host).await;
        return Err(gone());
    }
    if let Err(error) = session.resume(host).await {
        session.park(host, grace).await;
        return Err(error).stored();
    }
    let data = Some(ticket.server_proof(exporter).to_vec().into());
    let done = Done { data, resumed: true, ..welcome(host, &session) };
    Ok((session, done))
}

/// Takes the session from where it waits; one that still has a connection is taken from that.
async fn take_over(host: &Arc<Host>, mailbox: &Mailbox, ticket: &Ticket) -> Option<Session> {
    let waiting = async {
        loop {
            let moved = mailbox.moved();
            if let Some((_, session)) = host.parked.remove(&mailbox.id) {
                return Some(session);
            }
            host.sessions.get(mailbox.id)?;
            // Who came first with this ticket is not sent away again.
            if mailbox.ticket() != *ticket {
                return None;
            }
            mailbox.end(bye(ByeReason::Replaced, "the session goes on on another connection"));
            moved.await;
        }
    };
    let session = tokio::time::timeout(HANDOVER, waiting).await.ok()??;
    // A goodbye that nobody took is not for the new connection.
    mailbox.stay();
    Some(session)
}

/// The oldest session of an account that has no connection.
fn parked(host: &Host, account: &Address) -> Option<Session> {
    let mut sessions = host.sessions.of(account).into_iter();
    sessions.find_map(|mailbox| host.parked.remove(&mailbox.id)).map(|(_, session)| session)
}

fn welcome(host: &Host, session: &Session) -> Done {
    Done {
        address: Some(session.account.address.clone()),
        resume: Some(session.mailbox.ticket().encode().into()),
        window: Some(seconds(host.settings.load().times.resume_window_seconds)),
        ..Done::empty()
    }
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
