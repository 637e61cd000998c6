//! A connection of somebody who has proven no name: in and out of it, and what it asks.
//!
//! What it may ask is `session::visitor`'s.

use impp_protocol::command::{Auth, Done};
use impp_protocol::sasl::Mechanism;
use impp_protocol::{Code, Command, Error};

use super::{Connection, Phase};
use crate::session::Visitor;
use crate::session::sign_in::Proof;

impl Connection {
    /// Whether somebody may come in without a name, to the domain that was called.
    pub(super) fn lets_in_nameless(&self, proof: &Proof) -> bool {
        self.entrance.settings.load().lets_in_nameless(&proof.domain)
    }

    /// Whether this asks for that. What the client says of itself (RFC 4505, `trace`) is not looked at.
    pub(super) fn asks_nameless(&self, auth: &Auth, proof: &Proof) -> bool {
        let named = auth.mechanism.as_deref() == Some(Mechanism::Anonymous.name());
        named && self.lets_in_nameless(proof)
    }

    /// Lets somebody in without a name.
    pub(super) fn visit(&mut self, number: u64, proof: Proof) {
        let chance = &self.entrance.chance;
        let drawn = chance.bytes().and_then(|id| Ok((id, chance.bytes()?)));
        let entered = drawn
            .map_err(|error| Error::new(Code::Internal, error.to_string()))
            .and_then(|ids| Visitor::enter(&self.entrance.serving, proof.domain, self.peer, ids));
        self.entrance.metrics.sign_in(Mechanism::Anonymous.name(), entered.is_ok());
        match entered {
            Ok(visitor) => {
                self.answer(number, Done::empty().into());
                if self.entrance.stopping.begun.is_cancelled() {
                    visitor.mailbox.end(self.stopping());
                }
                self.begins(visitor.mailbox.id);
                self.phase = Phase::Visiting(Box::new(visitor));
            }
            Err(error) => self.not_signed_in(number, error),
        }
    }

    /// Does what it asks.
    pub(super) async fn ask_nameless(
        &mut self,
        mut visitor: Box<Visitor>,
        number: u64,
        command: Command,
    ) {
        if number == 0 {
            self.phase = Phase::Visiting(visitor);
            let text = format!("{}: a request has a number from 1", command.kind());
            return self.break_off(number, Error::new(Code::Malformed, text));
        }
        let answer = Box::pin(visitor.handle(command)).await;
        self.phase = Phase::Visiting(visitor);
        self.answer(number, answer);
    }
}
