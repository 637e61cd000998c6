//! How a failure is told: words or JSON on stderr, a hint where there is a remedy, the exit code.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use impp_client::locate::NotReachedKind;
use impp_client::outbox::OutboxError;
use impp_client::protocol::{Code, Error};
use impp_client::{ClientError, Refusal};
use serde::Serialize;

use crate::output::printable;

/// Why a command was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The library says so.
    Client(ClientError),
    /// The command line, or a file that it names, is wrong.
    Usage { message: String, hint: Option<String> },
    /// The server cannot read a file that was sent to it; the answer's text names the place.
    Unreadable { answer: Box<Error>, hint: Option<String> },
    /// Something followed has ended by itself.
    Ended { message: String, name: &'static str },
    /// It is not there.
    Missing(String),
    /// Stdout takes no more.
    Output(std::io::Error),
    /// The outbox cannot be used so.
    Outbox(OutboxError),
    /// The system refuses something that it always grants.
    System(String),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::Client(error)
    }
}

impl From<OutboxError> for Failure {
    fn from(error: OutboxError) -> Failure {
        Failure::Outbox(error)
    }
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::Usage { message: message.into(), hint: None }
    }

    pub(crate) fn usage_hint(message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure::Usage { message: message.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn system(what: &str, error: &std::io::Error) -> Failure {
        Failure::System(format!("{what}: {error}"))
    }
}

/// Says what went wrong; gives the exit code.
pub(crate) fn failure(failure: &Failure, json: bool) -> ExitCode {
    let told = Told::of(failure);
    let text = if json {
        serde_json::to_string(&Wrapped { error: &told }).unwrap_or_else(|_| told.message.clone())
    } else {
        let hint = told.hint.iter().map(|hint| format!("\nhint: {hint}")).collect::<String>();
        format!("error: {}{}", printable(&told.message), printable(&hint))
    };
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::from(exit_code(failure))
}

/// What clap says about the command line, or the help that was asked for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|argument| argument == "--json");
    if !error.use_stderr() || !json {
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
    }
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    failure(&Failure::usage_hint(message, "impp help says more"), true)
}

const EXIT_NO: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_UNREACHED: u8 = 3;
const EXIT_SIGN_IN: u8 = 4;

fn exit_code(failure: &Failure) -> u8 {
    match failure {
        Failure::Client(error) => client_code(error),
        Failure::Usage { .. } | Failure::Unreadable { .. } => EXIT_USAGE,
        Failure::Ended { .. }
        | Failure::Missing(_)
        | Failure::Outbox(_)
        | Failure::Output(_)
        | Failure::System(_) => EXIT_NO,
    }
}

fn client_code(error: &ClientError) -> u8 {
    match error {
        ClientError::Answered(error) | ClientError::SignIn(error)
            if matches!(error.code, Code::Busy | Code::Stopping | Code::Unreachable) =>
        {
            EXIT_UNREACHED
        }
        ClientError::Answered(error)
            if matches!(error.code, Code::AuthFailed | Code::NotSignedIn) =>
        {
            EXIT_SIGN_IN
        }
        ClientError::Answered(_) | ClientError::TooLarge(_) | ClientError::Older(_) => EXIT_NO,
        ClientError::Profile(_) => EXIT_USAGE,
        error if error.is_sign_in() => EXIT_SIGN_IN,
        _ => EXIT_UNREACHED,
    }
}

#[derive(Serialize)]
struct Wrapped<'a> {
    error: &'a Told,
}

/// The error object of the command-line contract.
#[derive(Serialize)]
struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u64>,
    name: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'static str>,
    permanent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Told {
    fn of(failure: &Failure) -> Told {
        let local = |name, message: String, hint| Told {
            code: None,
            name,
            message,
            by: None,
            permanent: true,
            retry_after: None,
            hint,
        };
        match failure {
            Failure::Client(error) => Told::of_client(error),
            Failure::Usage { message, hint } => local("usage", message.clone(), hint.clone()),
            Failure::Unreadable { answer, hint } => {
                let answered = ClientError::Answered(Error::clone(answer));
                Told { hint: hint.clone(), ..Told::of_client(&answered) }
            }
            Failure::Ended { message, name } => local(name, message.clone(), None),
            Failure::Missing(message) => local("not-found", message.clone(), None),
            Failure::Outbox(error) => {
                local("outbox", error.to_string(), Some("impp outbox shows what waits".to_owned()))
            }
            Failure::Output(error) => local("output", format!("stdout: {error}"), None),
            Failure::System(message) => local("system", message.clone(), None),
        }
    }

    fn of_client(error: &ClientError) -> Told {
        let answered = match error {
            ClientError::Answered(error) | ClientError::SignIn(error) => Some(error),
            _ => None,
        };
        Told {
            code: answered.map(|error| error.code.number()),
            name: name(error),
            message: match error {
                ClientError::Answered(Error { text: Some(text), .. }) => text.clone(),
                error => error.to_string(),
            },
            by: answered.map(|error| error.by.as_str()),
            permanent: answered.map_or(!error.is_transient(), |error| error.code.is_permanent()),
            retry_after: error.retry_after().map(|after| after.as_secs()),
            hint: hint(error),
        }
    }
}

fn name(error: &ClientError) -> &'static str {
    match error {
        ClientError::Answered(error) | ClientError::SignIn(error) => error.code.as_str(),
        ClientError::Sasl(_) => "auth-failed",
        ClientError::Profile(_) => "profile",
        ClientError::Unreachable { .. } => "connect",
        ClientError::NotLocated(error) => error.kind.code().as_str(),
        ClientError::Tls { .. } | ClientError::NotServed { .. } => "tls",
        ClientError::Timeout(_) => "timeout",
        ClientError::Lost(_) => "lost",
        ClientError::Bye(bye) => bye.reason.as_str(),
        ClientError::Protocol(_) => "protocol",
        ClientError::TooLarge(_) => "too-large",
        ClientError::Older(_) => "unsupported",
    }
}

const TRUST: &str = "the profile's key trust names a file with the certificates to believe";

fn hint(error: &ClientError) -> Option<String> {
    let words = match error {
        ClientError::Answered(error) => return answer_hint(error),
        ClientError::SignIn(error) if error.code == Code::AuthFailed => {
            "check address and password in the profile; impp login ADDRESS makes a new one"
        }
        ClientError::SignIn(error) if error.code == Code::NotOffered => {
            "--anonymous works where the domain lets in who proves no name; without it you ask as who you are"
        }
        ClientError::SignIn(error) if error.code == Code::RateLimited => {
            "somebody has tried wrong passwords; try again when the time is over"
        }
        ClientError::Profile(error) => return error.hint.clone(),
        ClientError::Unreachable { server, kind: ErrorKind::ConnectionRefused, .. } => {
            return Some(format!("is imppd running on {server}?"));
        }
        ClientError::Unreachable { .. } => "the profile's key server says where, HOST:PORT",
        ClientError::NotLocated(error) => match error.kind {
            NotReachedKind::Untrusted => TRUST,
            NotReachedKind::UnknownDomain => {
                "is the address right? Its server's place, HOST:PORT, can be given with login's \
                 --server or the profile's key server"
            }
            NotReachedKind::Unreachable | NotReachedKind::NotOffered => {
                "login's --server, or the profile's key server, says where, HOST:PORT"
            }
        },
        ClientError::Tls { untrusted: true, .. } => TRUST,
        ClientError::NotServed { refusal: Refusal::More, .. } => "try again later",
        ClientError::NotServed { .. } => "check address and server in the profile",
        error if error.is_sign_in() => "impp login ADDRESS signs in anew",
        ClientError::Timeout(_) => "--timeout SECONDS waits longer",
        _ => return None,
    };
    Some(words.to_owned())
}

fn answer_hint(error: &Error) -> Option<String> {
    let words = match error.code {
        Code::TooShort => {
            let least = error.minimum?.as_secs();
            return Some(format!("the shortest lease granted is {least} s"));
        }
        Code::Moved => {
            let address = error.address.as_ref()?;
            return Some(format!("the new address is {address}"));
        }
        Code::Conflict if error.version.is_some() => {
            "impp rules show --json shows the newest and its version, for --base"
        }
        Code::BadCursor => "without --since it starts at the oldest message held",
        Code::OutOfWindow => "without --id it is a new message",
        _ => return None,
    };
    Some(words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use impp_client::protocol::By;
    use std::time::Duration;

    fn answered(code: Code) -> Failure {
        Failure::Client(ClientError::Answered(Error::new(code, "text")))
    }

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        for (failure, code) in [
            (answered(Code::Refused), 1),
            (answered(Code::NotFound), 1),
            (answered(Code::Conflict), 1),
            (answered(Code::Full), 1),
            (answered(Code::Busy), 3),
            (answered(Code::Stopping), 3),
            (Failure::usage("x"), 2),
            (Failure::Client(ClientError::Timeout(Duration::from_secs(1))), 3),
            (Failure::Client(ClientError::Lost("x".to_owned())), 3),
            (Failure::Client(ClientError::SignIn(Error::new(Code::AuthFailed, "no"))), 4),
            (Failure::Client(ClientError::SignIn(Error::new(Code::Busy, "later"))), 3),
        ] {
            assert_eq!(exit_code(&failure), code, "{failure:?}");
        }
    }

    #[test]
    fn the_error_object_has_the_fields_of_the_contract() {
        let error = Error::new(Code::Busy, "full house").by(By::Home);
        let error = ClientError::Answered(error.retry_after(Duration::from_secs(7)));
        let told = Told::of(&Failure::Client(error));
        assert_eq!(
            serde_json::to_string(&Wrapped { error: &told }).unwrap(),
            concat!(
                r#"{"error":{"code":18,"name":"busy","message":"full house","#,
                r#""by":"home","permanent":false,"retry_after":7}}"#
            )
        );
        let refused = ClientError::Unreachable {
            server: "h:1".to_owned(),
            kind: ErrorKind::ConnectionRefused,
            text: "refused".to_owned(),
        };
        let told = Told::of(&Failure::Client(refused));
        assert_eq!(told.hint.as_deref(), Some("is imppd running on h:1?"));
        assert!(!told.permanent);
    }
}
