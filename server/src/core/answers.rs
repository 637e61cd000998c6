//! What is answered to whoever asks, a client or another domain: now or later, done or not.

use std::pin::Pin;
use std::time::Duration;

use impp_protocol::command::Done;
use impp_protocol::{Address, By, Code, Command, Error};
use impp_storage::StoreError;

use crate::core::principals::ChangeError;

/// What is said where it is known: nothing of what was asked is on the disk.
const NOTHING: &str = "nothing was stored, and what stood before stands";
/// What is said where some of it may be.
const PARTLY: &str = "a part of what was asked may be stored";

/// An answer that waits for the store.
pub type Later = Pin<Box<dyn Future<Output = Command> + Send>>;

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

    /// What a task comes to say, which does its work also if nobody waits for the answer.
    pub fn of_task(task: tokio::task::JoinHandle<Handled>) -> Answer {
        Answer::Later(Box::pin(async move {
            match task.await {
                Ok(handled) => Answer::said(handled),
                Err(error) => Error::new(Code::Internal, error.to_string()).into(),
            }
        }))
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
