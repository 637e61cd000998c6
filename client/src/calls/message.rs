//! Sending a message.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use impp_locate::Service;
use impp_protocol::command::{Fetch, Message, Outcome};
use impp_protocol::state::Whereabouts;
use impp_protocol::{Address, Code, MessageId, Timestamp, What};
use tokio::time::timeout;

use super::content;
use crate::client::Client;
use crate::error::ClientError;
use crate::profile::ProfileError;

/// A message to be sent.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The recipient.
    pub to: Address,
    /// From whom, if that is somebody whose rules let one send for them.
    pub from: Option<Address>,
    /// Its id, if it is a repeat; else a new one is made.
    pub id: Option<MessageId>,
    /// The media type; absent is text/plain in UTF-8.
    pub content_type: Option<String>,
    /// The body.
    pub body: Bytes,
    /// It is of no use any more so long after its id was made.
    pub expires: Option<Duration>,
    /// The conversation that it belongs to.
    pub thread: Option<String>,
    /// Not stored: only for devices that are connected now.
    pub volatile: bool,
}

/// A message that the server took.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its id.
    pub id: MessageId,
    /// What became of it.
    pub outcome: Outcome,
    /// When the server took it.
    pub time: Timestamp,
}

impl Client {
    /// Sends a message. If the connection is lost before the answer, the same is sent again over a
    /// new one until the time is over; that never doubles it. If the server does not take its time,
    /// as its clock was set since, it was not accepted, and is sent once more with a new id.
    ///
    /// # Errors
    /// [`ClientError`]; after anything but an answer, nobody knows whether the message was taken,
    /// and it may be repeated with the same id.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Sent, ClientError> {
        match self.send_once(outgoing.clone()).await {
            Err(ClientError::Answered(error))
                if error.code == Code::OutOfWindow && outgoing.id.is_none() =>
            {
                let limit = self.timeout();
                let asked = async { self.connect_for(Service::Messages).await?.ask_time().await };
                timeout(limit, asked).await.unwrap_or(Err(ClientError::Timeout(limit)))?;
                self.send_once(outgoing).await
            }
            sent => sent,
        }
    }

    async fn send_once(&self, outgoing: Outgoing) -> Result<Sent, ClientError> {
        let now = self.server_time().await?;
        let id = match outgoing.id {
            Some(id) => id,
            None => new_id(now)?,
        };
        // A repeat must be the same to the byte, whenever it is made: all times come from the id.
        let created = id.time().unwrap_or(now);
        let message = Message {
            from: outgoing.from,
            content_type: outgoing.content_type,
            created: Some(created),
            expires: outgoing.expires.map(|after| created.after(after)),
            thread: outgoing.thread,
            volatile: outgoing.volatile,
            ..Message::new(id, outgoing.to, outgoing.body)
        };
        self.send_message(message, now).await
    }

    /// Sends a message with all that its sender says in it, such as headers and a time. It gets a new id
    /// if it has none of its own.
    ///
    /// # Errors
    /// [`ClientError`] as [`send`](Client::send).
    pub async fn send_written(&self, message: Message, own_id: bool) -> Result<Sent, ClientError> {
        let now = self.server_time().await?;
        let id = if own_id { message.id } else { new_id(now)? };
        let created = message.created.or_else(|| id.time());
        self.send_message(Message { id, created, ..message }, now).await
    }

    async fn send_message(&self, message: Message, now: Timestamp) -> Result<Sent, ClientError> {
        let id = message.id;
        if let Some(over) = message.over_limit() {
            return Err(ClientError::TooLarge(over));
        }
        let done = self.call_repeatable(message).await?;
        let missing = || ClientError::Protocol("OK of a message without an outcome".to_owned());
        let outcome = done.outcome.ok_or_else(missing)?;
        Ok(Sent { id, outcome, time: done.time.unwrap_or(now) })
    }

    /// Where a message that the account sent is, or how it ended.
    ///
    /// # Errors
    /// [`ClientError`]; not-found if nothing is known of it.
    pub async fn fate(&self, id: MessageId) -> Result<Whereabouts, ClientError> {
        let fetch = Fetch { id: Some(id), ..Fetch::of(self.address().clone(), What::Fate) };
        content(self.call_repeatable(fetch).await?, What::Fate)
    }

    /// The time of the server of messages now; connects if there is no connection.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn server_time(&self) -> Result<Timestamp, ClientError> {
        self.time_of(Service::Messages).await
    }

    /// The same of the server of a service.
    pub(crate) async fn time_of(&self, service: Service) -> Result<Timestamp, ClientError> {
        let limit = self.timeout();
        let connected = timeout(limit, self.connect_for(service)).await;
        let connection = connected.unwrap_or(Err(ClientError::Timeout(limit)))?;
        Ok(connection.server_time().unwrap_or_else(local_time))
    }
}

/// A new id, made from the server's time.
///
/// # Errors
/// [`ClientError::Profile`] if the system has no randomness.
pub(crate) fn new_id(now: Timestamp) -> Result<MessageId, ClientError> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)
        .map_err(|error| ProfileError::new(format!("no randomness for a message id: {error}")))?;
    Ok(MessageId::new(now, random))
}

/// This machine's time, which is not the server's.
pub fn local_time() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::default().after(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_its_time_and_is_not_repeated() {
        let now = Timestamp::parse("2026-12-01T01:02:03.456Z").unwrap();
        let id = new_id(now).unwrap();
        assert_eq!(id.time(), Some(now));
        assert_ne!(new_id(now).unwrap(), id);
    }
}
