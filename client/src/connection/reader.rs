//! The task that reads: answers to who asked, the rest in order to who follows; liveness.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use impp_protocol::command::{Bye, ByeReason, Command, CommandError, Done, Kind, Ping, Request};
use impp_protocol::frame::{self, FRAME_BYTES_MAX};
use impp_protocol::{Code, Error};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Incoming;
use super::pending::{Pending, Reply};
use super::writer::Order;
use crate::error::ClientError;

pub(super) struct Reader {
    pub(super) pending: Arc<Pending>,
    /// Weak, so that the connection ends when its handles are gone.
    pub(super) orders: mpsc::WeakSender<Order>,
    pub(super) incoming: mpsc::Sender<Incoming>,
    /// Silence after which a PING is due; half of it again, and the connection is dead.
    pub(super) idle: Duration,
}

impl Reader {
    /// Reads until the connection ends, and says how.
    pub(super) async fn run<R: AsyncRead + Unpin>(self, mut stream: R, mut input: BytesMut) {
        let ended = loop {
            match self.handle_input(&mut input).await {
                Ok(()) => {}
                Err(error) => break error,
            }
            match self.read(&mut stream, &mut input).await {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        self.pending.end(ended);
    }

    /// More bytes; in silence a PING first, then the end.
    async fn read<R: AsyncRead + Unpin>(
        &self,
        stream: &mut R,
        input: &mut BytesMut,
    ) -> Result<(), ClientError> {
        let mut read = timeout(self.idle, stream.read_buf(input)).await;
        if read.is_err() {
            self.order(Order::Ask(Box::new(Ping::empty().into()), Reply::Nobody)).await?;
            read = timeout(self.idle / 2, stream.read_buf(input)).await;
        }
        match read {
            Ok(Ok(0)) => Err(ClientError::Lost("closed by the server".to_owned())),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                let silence = self.idle + self.idle / 2;
                Err(ClientError::Lost(format!("silent for {} s", silence.as_secs())))
            }
        }
    }

    async fn handle_input(&self, input: &mut BytesMut) -> Result<(), ClientError> {
        let broken = |error: &dyn std::fmt::Display| ClientError::Protocol(error.to_string());
        while let Some(frame) =
            frame::take(input, FRAME_BYTES_MAX).map_err(|error| broken(&error))?
        {
            let number = frame.request;
            match Request::decode(frame) {
                Ok(request) => self.handle(request).await?,
                // A newer server may say more than this client knows.
                Err(CommandError::UnknownKind(_)) => {}
                Err(error @ CommandError::Malformed { kind, .. }) if error.is_foreign() => {
                    self.passed_over(number, kind, &error).await?;
                }
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(())
    }

    /// What has a number that came later. Whoever asked is told that its answer cannot be read; what
    /// was not asked for is passed over.
    async fn passed_over(
        &self,
        number: u64,
        kind: Kind,
        error: &CommandError,
    ) -> Result<(), ClientError> {
        let words = format!("of a newer server: {error}");
        match kind {
            Kind::Bye => Err(ClientError::Bye(Bye::new(ByeReason::Done, &words))),
            Kind::Error if number == 0 => {
                Err(ClientError::Answered(Error::new(Code::Internal, words)))
            }
            Kind::Ok | Kind::Error => {
                self.answered(number, Err(Error::new(Code::Internal, words))).await
            }
            _ => Ok(()),
        }
    }

    async fn handle(&self, request: Request) -> Result<(), ClientError> {
        let answer = match request.command {
            Command::Ok(done) => Ok(done),
            // An error that answers no request is about the connection; it ends by it.
            Command::Error(error) if request.number == 0 => {
                return Err(ClientError::Answered(error));
            }
            Command::Error(error) => Err(error),
            Command::Notify(notify) => return self.pass(Incoming::Notify(notify)).await,
            Command::Message(message) => return self.pass(Incoming::Message(message)).await,
            Command::Ping(_) => return self.order(Order::Pong(request.number)).await,
            Command::Bye(bye) => return Err(ClientError::Bye(bye)),
            // A request that this client does not know: it has named no feature that would bring one.
            Command::Publish(_) | Command::Subscribe(_) | Command::Fetch(_) | Command::Ack(_) => {
                return Ok(());
            }
            other @ (Command::Hello(_) | Command::Auth(_) | Command::Challenge(_)) => {
                let text = format!("{} from a server after sign-in", other.kind());
                return Err(ClientError::Protocol(text));
            }
        };
        self.answered(request.number, answer).await
    }

    async fn answered(&self, number: u64, answer: Result<Done, Error>) -> Result<(), ClientError> {
        match self.pending.answer(number, answer) {
            Some(incoming) => self.pass(incoming).await,
            None => Ok(()),
        }
    }

    /// Hands on what comes unasked; if nobody follows, it is dropped.
    async fn pass(&self, incoming: Incoming) -> Result<(), ClientError> {
        drop(self.incoming.send(incoming).await);
        Ok(())
    }

    async fn order(&self, order: Order) -> Result<(), ClientError> {
        let ended = || ClientError::Lost("ended by this side".to_owned());
        let orders = self.orders.upgrade().ok_or_else(ended)?;
        orders.send(order).await.map_err(|_| ended())
    }
}
