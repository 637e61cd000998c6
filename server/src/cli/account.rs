//! Making an account: with a password, with a profile for `impp`, with a place in another's contact
//! list.
//!
//! What is done to accounts on request is `control`'s.

use std::io;
use std::path::Path;

use impp_protocol::Address;
use impp_protocol::state::{Grant, SubscriptionEvent, SubscriptionState};
use impp_storage::{Expect, Unit};

use super::Failure;
use crate::core::config::Config;
use crate::core::records::place::{self, Mark};
use crate::core::records::{ContactRecord, Services, WatcherRecord};
use crate::front::control::{self, Administration, Request, Response};

/// Makes an account with every service and a random password, which stands nowhere else.
///
/// # Errors
/// [`Failure`]: there is or was one, or the store failed.
pub async fn add(server: &Administration, address: &Address) -> Result<String, Failure> {
    let services = Services { pres: true, im: true };
    let add = Request::Add { address: address.to_string(), password: None, services };
    Ok(done(control::handle(server, add).await)?.unwrap_or_default())
}

/// The password that was made, if one was and nothing was refused. What is to be said beside it is said.
pub(super) fn done(response: Response) -> Result<Option<String>, Failure> {
    match response {
        Response::Done { password, warnings } => {
            for warning in warnings {
                words!("warning: {warning}");
            }
            Ok(password)
        }
        Response::Refused { exit, message, hint } => Err(Failure { exit, message, hint }),
        Response::Accounts(_)
        | Response::Devices(_)
        | Response::Explained(_)
        | Response::Reloaded { .. } => Err(Failure::new(5, "the server answered something else")),
    }
}

/// Puts `other` into the contact list of `owner`, following and granting all, with the subscription
/// that comes of it; what is there already stays as it is.
///
/// # Errors
/// [`Failure`]: the store failed.
pub async fn befriend(
    server: &Administration,
    owner: &Address,
    other: &Address,
) -> Result<(), Failure> {
    let now = server.clock.now();
    let contact = ContactRecord { name: None, groups: vec![], follow: true, grant: Grant::All };
    let watcher = WatcherRecord {
        state: SubscriptionState::Active.as_str().to_owned(),
        event: SubscriptionEvent::Subscribe.as_str().to_owned(),
        since: now.as_millis(),
        leases: Default::default(),
        by_contact: true,
    };
    let new = Expect::Absent;
    let ops = vec![
        place::contact(owner, other).put_if(new, &contact),
        place::watcher(other, owner).put_if(new, &watcher),
        place::followed(owner, other).put_if(new, &Mark {}),
    ];
    server.store.submit(Unit::of(now, ops)).await?;
    Ok(())
}

/// Writes a profile for `impp`, readable by its owner alone.
///
/// # Errors
/// [`Failure`]: the file is there, or cannot be written.
pub fn profile(config: &Config, address: &str, password: &str, file: &Path) -> Result<(), Failure> {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = format!("address = {}\n", quoted(address));
    if let Some(listen) = config.server.listen.first() {
        text.push_str(&format!("server = {}\n", quoted(listen)));
    }
    text.push_str(&format!("password = {}\n", quoted(password)));
    // A certificate authority of quickstart's stands beside the certificate.
    let authority = config.domain.first().map(|hosted| hosted.certificate.with_file_name("ca.pem"));
    if let Some(authority) = authority.filter(|path| path.exists()) {
        let authority = authority.canonicalize().unwrap_or(authority);
        text.push_str(&format!("trust = {}\n", quoted(&authority.display().to_string())));
    }
    write_private(file, &text)
}

/// Writes a new file that only its owner may read: on the disk and whole, or not at all.
///
/// # Errors
/// [`Failure`]: the file is there, or cannot be written.
pub fn write_private(file: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |error: io::Error| Failure::new(5, format!("{}: {error}", file.display()));
    if file.symlink_metadata().is_ok() {
        return Err(failed(rustix::io::Errno::EXIST.into()));
    }
    let mut draft = file.as_os_str().to_owned();
    draft.push(".new");
    // What was cut off before is begun anew.
    let _ = std::fs::remove_file(&draft);
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(failed)?;
    std::fs::rename(&draft, file).map_err(failed)?;
    sync_around(file).map_err(failed)
}

/// Has the disk know of what was made, or got this name: the folder around it says so.
///
/// # Errors
/// The system's.
pub fn sync_around(path: &Path) -> io::Result<()> {
    let around = path.parent().filter(|around| !around.as_os_str().is_empty());
    std::fs::File::open(around.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all())
}
