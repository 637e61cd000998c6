//! What is answered to whoever asks, a client or another domain: now or later, done or not.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use impp_protocol::command::Done;
use impp_protocol::{Address, By, Code, Command, Error};
use impp_storage::StoreError;
use tokio::runtime::Handle;

use crate::core::principals::ChangeError;

/// What is said where it is known: nothing of what was asked is on the disk.
const NOTHING: &str = "nothing was stored, and what stood before stands";
/// What is said where some of it may be.
const PARTLY: &str = "a part of what was asked may be stored";

/// An answer that waits for the store, or for another domain. Whoever asked looks after it; if they go, what
/// has to be done all the same is done by a task of its own.
pub struct Later {
    /// Until it has come to its end.
    work: Option<Pin<Box<dyn Future<Output = Command> + Send>>>,
    /// Whether it comes to its end also where nobody waits for it.
    certain: bool,
}

impl Later {
    /// The same, of which a note is taken when it is there: also where nobody waits for it, if it comes then.
    #[must_use]
    pub fn noted(mut self, note: impl FnOnce(&Command) + Send + 'static) -> Later {
        let (work, certain) = (self.work.take(), self.certain);
        let Some(work) = work else { return Later { work, certain } };
        let noted = async move {
            let said = work.await;
            note(&said);
            said
        };
        Later { work: Some(Box::pin(noted)), certain }
    }
}

impl Future for Later {
    type Output = Command;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Command> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let said = work.as_mut().poll(context);
        if said.is_ready() {
            self.work = None;
        }
        said
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        // Where there is no runtime any more nothing goes on.
        if let (Some(work), true, Ok(runtime)) =
            (self.work.take(), self.certain, Handle::try_current())
        {
            runtime.spawn(work);
        }
    }
}

/// The answer to a request, now or when the store has it.
#[expect(clippy::large_enum_variant, reason = "each lives for one match")]
pub enum Answer {
    /// At once.
    Now(Command),
    /// Later; further requests need not wait for it.
    Later(Later),
}

/// What a handler says.
pub type Handled = Result<Done, Error>;

/// What is said of a request that was refused before anything was waited for.
impl From<Result<Answer, Error>> for Answer {
    fn from(answer: Result<Answer, Error>) -> Answer {
        answer.unwrap_or_else(|error| Answer::Now(error.into()))
    }
}

impl Answer {
    /// What a handler says, at once.
    pub fn now(handled: Handled) -> Answer {
        Answer::Now(Answer::said(handled))
    }

    /// The same as it goes out.
    pub fn said(handled: Handled) -> Command {
        match handled {
            Ok(done) => done.into(),
            Err(error) => error.into(),
        }
    }

    /// What is said later, if anybody still waits for it.
    pub fn later(said: impl Future<Output = Command> + Send + 'static) -> Answer {
        Answer::Later(Later { work: Some(Box::pin(said)), certain: false })
    }

    /// What is said when something is done, which is done also if nobody waits for the answer any more. It
    /// takes no task as long as somebody does.
    pub fn when_done(work: impl Future<Output = Handled> + Send + 'static) -> Answer {
        let work = Box::pin(async move { Answer::said(work.await) });
        Answer::Later(Later { work: Some(work), certain: true })
    }
}

/// The rules of the presentity's owner say no.
pub fn refused(presentity: &Address) -> Error {
    let text = format!("{presentity} does not let you see this");
    Error::new(Code::Refused, text).by(By::Recipient)
}

/// Too many wait for the presentity's owner.
pub fn crowded() -> Error {
    let text = "too many wait for this owner's decision";
    Error::new(Code::Full, text).by(By::Recipient)
}

/// What is said of the store's trouble.
pub fn storage_error(error: &StoreError) -> Error {
    let retry = Duration::from_secs(1);
    match error {
        StoreError::Busy => Error::new(Code::Busy, "the store is busy").retry_after(retry),
        StoreError::Stopped => Error::new(Code::Stopping, "the server is stopping"),
        StoreError::NoSpace(lack) => Error::new(Code::Storage, format!("{lack}; {NOTHING}")),
        // What was on its way may be there: the next start tells.
        StoreError::Failed { .. } => {
            Error::new(Code::Storage, "the server's store has failed; it is not known what it has")
        }
        // The store has told the log, once.
        StoreError::Damaged { .. } => {
            Error::new(Code::Storage, "what the server has stored for this is damaged")
        }
        StoreError::TooLarge { .. } => Error::new(Code::TooLarge, error.to_string()),
        _ => {
            tracing::error!(%error, "the store");
            Error::new(Code::Internal, "the store could not be read")
        }
    }
}

/// The same of something that was done in several steps, of which others are done.
pub fn after_others(error: Error) -> Error {
    let text = error.text.as_ref().map(|text| text.replace(NOTHING, PARTLY));
    Error { text, ..error }
}

/// Lets whoever goes on without something stored say so in the log.
pub trait Unstored {
    /// Says what could not be stored; quietly where nothing can be, as the store has told that once.
    fn unstored(&self, what: &'static str);
}

impl Unstored for StoreError {
    fn unstored(&self, what: &'static str) {
        match self {
            StoreError::NoSpace(_) | StoreError::Failed { .. } | StoreError::Stopped => {
                tracing::debug!(error = %self, what, "could not be stored");
            }
            _ => tracing::warn!(error = %self, what, "could not be stored"),
        }
    }
}

impl Unstored for ChangeError {
    fn unstored(&self, what: &'static str) {
        match self {
            ChangeError::Store(error) => error.unstored(what),
            ChangeError::Conflict => tracing::warn!(error = %self, what, "could not be stored"),
        }
    }
}

impl Unstored for Error {
    fn unstored(&self, what: &'static str) {
        match self.code {
            // What is damaged was told too, once.
            Code::Storage | Code::Stopping => {
                tracing::debug!(error = %self, what, "could not be stored");
            }
            _ => tracing::warn!(error = %self, what, "could not be stored"),
        }
    }
}

/// Lets handlers use `?` on the store's answers.
pub trait Stored<T> {
    /// The error as the client gets it.
    ///
    /// # Errors
    /// What the store's trouble means to the client.
    fn stored(self) -> Result<T, Error>;
}

impl<T> Stored<T> for Result<T, StoreError> {
    fn stored(self) -> Result<T, Error> {
        self.map_err(|error| storage_error(&error))
    }
}

impl<T> Stored<T> for Result<T, ChangeError> {
    fn stored(self) -> Result<T, Error> {
        self.map_err(|error| match error {
            ChangeError::Store(error) => storage_error(&error),
            ChangeError::Conflict => Error::new(Code::Conflict, error.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// Something that is done when the store answers.
    fn begun(
        answer: impl FnOnce(Pin<Box<dyn Future<Output = Handled> + Send>>) -> Answer,
    ) -> (oneshot::Sender<()>, Later, oneshot::Receiver<()>) {
        let (stored, waits) = oneshot::channel();
        let (done, told) = oneshot::channel();
        let answer = answer(Box::pin(async move {
            let _ = waits.await;
            let _ = done.send(());
            Ok(Done::empty())
        }));
        let Answer::Later(later) = answer else { panic!("it waits") };
        (stored, later, told)
    }

    /// What has to be seen to when the disk has it is seen to, whether whoever asked has looked after it
    /// already or not.
    #[tokio::test]
    async fn what_was_begun_comes_to_its_end_though_nobody_waits() {
        for is_looked_at in [false, true] {
            let (stored, mut later, told) = begun(Answer::when_done);
            if is_looked_at {
                assert!(futures_util::poll!(&mut later).is_pending());
            }
            drop(later);
            stored.send(()).unwrap();
            told.await.unwrap();
        }
    }

    #[tokio::test]
    async fn whoever_waits_is_answered() {
        let (stored, later, told) = begun(Answer::when_done);
        stored.send(()).unwrap();
        assert!(matches!(later.await, Command::Ok(_)));
        told.await.unwrap();
    }

    /// What was only to be said is not said to nobody.
    #[tokio::test]
    async fn what_is_only_said_ends_with_whoever_waits() {
        let later = |work: Pin<Box<dyn Future<Output = Handled> + Send>>| {
            Answer::later(async move { Answer::said(work.await) })
        };
        let (stored, later, told) = begun(later);
        drop(later);
        drop(stored);
        assert!(told.await.is_err());
    }
}
