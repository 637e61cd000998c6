//! An answer that is on its way from a store.
//!
//! Who gives it, and when it may be given, is left to the back ends.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::StoreError;

/// A future for a store's answer. Dropping it cancels nothing: a submitted unit takes effect.
#[must_use = "the answer says whether it was done"]
#[derive(Debug)]
pub struct Pending<T>(State<T>);

#[derive(Debug)]
enum State<T> {
    Known(Option<Result<T, StoreError>>),
    Awaited(oneshot::Receiver<Result<T, StoreError>>),
}

impl<T> Pending<T> {
    /// An answer that is known at once.
    pub fn ready(answer: Result<T, StoreError>) -> Pending<T> {
        Pending(State::Known(Some(answer)))
    }

    /// A promise and the future of its answer; a promise dropped unanswered resolves to
    /// [`StoreError::Stopped`].
    pub fn promise() -> (Promise<T>, Pending<T>) {
        let (sender, receiver) = oneshot::channel();
        (Promise(sender), Pending(State::Awaited(receiver)))
    }
}

/// The giving end of a [`Pending`].
#[derive(Debug)]
pub struct Promise<T>(oneshot::Sender<Result<T, StoreError>>);

impl<T> Promise<T> {
    /// Gives the answer; nobody waiting for it any more is fine.
    pub fn keep(self, answer: Result<T, StoreError>) {
        let _ = self.0.send(answer);
    }
}

// No `T` is ever pinned in place: it is only moved out.
impl<T> Unpin for Pending<T> {}

impl<T> Future for Pending<T> {
    type Output = Result<T, StoreError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().0 {
            State::Known(answer) => Poll::Ready(answer.take().unwrap_or(Err(StoreError::Stopped))),
            State::Awaited(receiver) => Pin::new(receiver)
                .poll(context)
                .map(|answer| answer.unwrap_or(Err(StoreError::Stopped))),
        }
    }
}
