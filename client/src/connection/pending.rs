//! The requests of a connection that have no answer yet, and how the connection ended.
//!
//! Numbering is left to `writer`, reading answers to `reader`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use impp_protocol::Error;
use impp_protocol::command::Done;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Incoming;
use crate::error::ClientError;

/// Where the answer to a request goes. Each holds its room until then.
pub(super) enum Reply {
    /// To the caller that waits for it.
    Call(oneshot::Sender<Result<Done, ClientError>>, OwnedSemaphorePermit),
    /// In order with what comes unasked, under the sender's token.
    Incoming(u64, OwnedSemaphorePermit),
    /// To nobody: a PING.
    Nobody,
}

/// All of a connection. Bounded by the semaphore whose permits the replies hold.
#[derive(Default)]
pub(super) struct Pending {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    replies: HashMap<u64, Reply>,
    ended: Option<ClientError>,
}

impl Pending {
    /// Notes where the answer to a request goes; after the end there will be none.
    pub(super) fn insert(&self, number: u64, reply: Reply) {
        let mut state = self.lock();
        match &state.ended {
            None => drop(state.replies.insert(number, reply)),
            Some(error) => reply.fail(error.clone()),
        }
    }

    /// Up to which number, before this one, all have been answered.
    pub(super) fn answered_before(&self, number: u64) -> Option<u64> {
        let open = self.lock().replies.keys().min().copied();
        open.unwrap_or(number).min(number).checked_sub(1).filter(|answered| *answered > 0)
    }

    /// Takes out where an answer goes. A call is answered here; for others the
    /// answer comes back, to be handed on. What nobody asked for is passed over (docs/protocol.md,
    /// section 6).
    pub(super) fn answer(&self, number: u64, answer: Result<Done, Error>) -> Option<Incoming> {
        match self.lock().replies.remove(&number)? {
            Reply::Call(caller, room) => {
                drop(room);
                // The caller may have stopped waiting: its timeout, not an error.
                drop(caller.send(answer.map_err(ClientError::Answered)));
                None
            }
            Reply::Incoming(token, room) => {
                drop(room);
                Some(Incoming::Answer { token, answer })
            }
            Reply::Nobody => None,
        }
    }

    /// The connection has ended: all that waits hears it. The first word stays.
    pub(super) fn end(&self, error: ClientError) {
        let replies = {
            let mut state = self.lock();
            state.ended.get_or_insert(error.clone());
            std::mem::take(&mut state.replies)
        };
        for reply in replies.into_values() {
            reply.fail(error.clone());
        }
    }

    pub(super) fn ended(&self) -> Option<ClientError> {
        self.lock().ended.clone()
    }

    /// Nothing here panics while it holds the lock, so what a poisoned one holds is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reply {
    pub(super) fn fail(self, error: ClientError) {
        if let Reply::Call(caller, _) = self {
            drop(caller.send(Err(error)));
        }
    }
}
