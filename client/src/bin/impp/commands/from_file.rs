//! Presence documents and messages that a file holds in formats of others.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use impp_client::protocol::command::Message;
use impp_client::protocol::presence::Document;
use impp_client::protocol::{Address, MessageId};
use impp_convert::cpim::{self, Cpim};
use impp_convert::{pidf, xml};

use crate::output::Output;
use crate::report::Failure;

/// One's own presence, in PIDF. What of it has no field is told.
pub(super) fn presence(path: &Path, own: &Address, out: &Output) -> Result<Document, Failure> {
    let bytes = bytes(path, xml::XML_BYTES_MAX)?;
    let at = path.display();
    let read = pidf::read(&bytes).map_err(|error| Failure::usage(format!("{at}: {error}")))?;
    if read.entity != *own {
        let message = format!("{at}: it is the presence of {}, and you are {own}", read.entity);
        let hint = format!("its entity has to be pres:{own}");
        return Err(Failure::usage_hint(message, hint));
    }
    for lost in &read.lost {
        out.note(&format!("not published: {lost}"));
    }
    Ok(read.document)
}

/// A message to somebody from oneself, in Message/CPIM; and whether it has an id of its own.
pub(super) fn message(
    path: &Path,
    own: &Address,
    to: &Address,
    out: &Output,
) -> Result<(Message, bool), Failure> {
    let bytes = bytes(path, cpim::CPIM_BYTES_MAX)?;
    let wrong = |fault: String| Failure::usage(format!("{}: {fault}", path.display()));
    let cpim = Cpim::parse(&bytes).map_err(|error| wrong(error.to_string()))?;
    let none = MessageId([0; 16]);
    let message = cpim::to_message(&cpim, none).map_err(|error| wrong(error.to_string()))?;
    if let Some(from) = message.from.as_ref().filter(|from| *from != own) {
        return Err(wrong(format!("From is {from}, and you are {own}")));
    }
    if message.to != *to {
        return Err(wrong(format!("To is {}, and it should go to {to}", message.to)));
    }
    if cpim.headers.iter().any(|header| header.base_name() == "cc") {
        out.note("nobody is sent a copy for the cc");
    }
    for name in cpim.required() {
        out.note(&format!("its reader has to understand {name}, or will not read it"));
    }
    let own_id = message.id != none;
    Ok((message, own_id))
}

/// What a file holds, or stdin; one byte more than fits, so that it is told to be too long.
fn bytes(path: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = match path == Path::new("-") {
        true => std::io::stdin().lock().take(most as u64 + 1).read_to_end(&mut bytes),
        false => {
            File::open(path).and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes))
        }
    };
    read.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    Ok(bytes)
}
