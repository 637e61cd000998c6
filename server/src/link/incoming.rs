//! What the other side of a link asks: messages for our users. What it watches is in `home`.
//!
//! It has proven its domain, and speaks for that alone.

use impp_federation::queue::follow;
use impp_protocol::command::{Done, Message, Publish, Written};
use impp_protocol::field::Later;
use impp_protocol::state::{self, MarkReport, Typing};
use impp_protocol::{Address, By, Code, Error, What};

use super::LinkMailbox;
use super::budgets::MARK_BYTES;
use super::connection::Serving;
use crate::core::answers::{Answer, Stored};
use crate::messages::Bearer;

/// Why a frame is not served.
#[derive(Debug)]
pub(super) enum Refused {
    /// The request fails.
    Request(Error),
    /// The other side speaks for whom it has not proven to speak for: the link ends.
    Forged(Error),
}

/// Takes a message; the answer comes when the store has it.
pub(super) async fn message(
    serving: &Serving,
    link: &LinkMailbox,
    mut message: Message,
) -> Result<Answer, Refused> {
    let request = |error: Error| Refused::Request(error);
    let Some(from) = message.from.clone() else {
        return Err(request(Error::new(Code::Malformed, "from: needed on a link")));
    };
    speaks_for(link, &from)?;
    concerns_us(link, &message.to).map_err(request)?;
    // A delegate of whom it is from; who that may be is for their own domain to know.
    let writer = message.sender.clone().unwrap_or_else(|| from.clone());
    speaks_for(link, &writer)?;
    let Some(hops) = message.hops else {
        return Err(request(Error::new(Code::Malformed, "hops: needed on a link")));
    };
    if hops == 0 {
        let text = format!("{} was sent from address to address", message.to);
        return Err(request(Error::new(Code::Loop, text)));
    }
    if let Some(named) = &message.redirected_from
        && follow(named, named, &message.to, By::Home).is_err()
    {
        let text = format!("redirected_from: {named} does not lead to {}", message.to);
        return Err(request(Error::new(Code::Refused, text)));
    }
    // What is stored is the message without the rest of its way, and what this version does not know.
    (message.hops, message.later_stamps) = (None, Later::default());
    let message = Written::new(message);
    if let Some(over) = message.over_limit() {
        return Err(request(Error::new(Code::TooLarge, over)));
    }
    // Alike for every recipient, so that it tells nothing of any.
    asks_for(serving, link, &message.to).map_err(request)?;
    let (now, config) = (serving.clock.now(), serving.settings.load_full());
    if let Err(wait) = serving.budgets.message(now, link, &config.federation, (&message, &writer)) {
        let text = "too many messages from you or your domain; slow down";
        return Err(request(Error::new(Code::RateLimited, text).retry_after(wait)));
    }
    serving.delivery.deliver(message, writer, Bearer::Link).await.map_err(request)
}

/// Takes what one of the other side's users lets one of ours be told.
pub(super) fn told(
    serving: &Serving,
    link: &LinkMailbox,
    publish: Publish,
) -> Result<Answer, Refused> {
    match publish.what {
        What::Typing => typing(serving, link, publish),
        What::ReadMarks => mark(serving, link, publish),
        what => {
            let text = format!("PUBLISH of {what} is not for links");
            Err(Refused::Request(Error::new(Code::WrongState, text)))
        }
    }
}

/// Takes a mark: what one of the other side's users lets one of ours be told. It is answered alike whatever
/// becomes of it.
fn mark(serving: &Serving, link: &LinkMailbox, publish: Publish) -> Result<Answer, Refused> {
    let request = |error: Error| Refused::Request(error);
    let report: MarkReport = state::decode(publish.content.unwrap_or_default())
        .map_err(|error| request(Error::new(Code::Malformed, format!("content: {error}"))))?;
    marks_of(serving, link, &report.from, &publish.address, MARK_BYTES)?;
    let (marks, owner) = (serving.marks.clone(), publish.address);
    Ok(Answer::when_done(async move {
        marks.told_over_link(&owner, &report).await.stored()?;
        Ok(Done::empty())
    }))
}

/// Takes word that one of the other side's users writes to one of ours; answered as [`mark`].
fn typing(serving: &Serving, link: &LinkMailbox, publish: Publish) -> Result<Answer, Refused> {
    let typing: Typing = state::decode(publish.content.unwrap_or_default()).map_err(|error| {
        Refused::Request(Error::new(Code::Malformed, format!("content: {error}")))
    })?;
    // Nothing of it is stored.
    marks_of(serving, link, &typing.from, &publish.address, 0)?;
    let (marks, to) = (serving.marks.clone(), publish.address);
    Ok(Answer::when_done(async move {
        marks.typed_beyond(&typing.from, &to, typing.lasts).await;
        Ok(Done::empty())
    }))
}

/// Whether one of the other side's users may let one of ours be told something now.
fn marks_of(
    serving: &Serving,
    link: &LinkMailbox,
    from: &Address,
    to: &Address,
    stored: u64,
) -> Result<(), Refused> {
    speaks_for(link, from)?;
    concerns_us(link, to).map_err(Refused::Request)?;
    asks_for(serving, link, to).map_err(Refused::Request)?;
    let (now, config) = (serving.clock.now(), serving.settings.load_full());
    serving.budgets.mark(now, link, &config.federation, (from, stored)).map_err(|wait| {
        let text = "too many marks from you or your domain; slow down";
        Refused::Request(Error::new(Code::RateLimited, text).retry_after(wait))
    })
}

/// The other side must have proven the domain of whom it speaks for.
///
/// # Errors
/// [`Refused::Forged`].
pub(super) fn speaks_for(link: &LinkMailbox, address: &Address) -> Result<(), Refused> {
    if address.domain_str() == link.remote.as_str() {
        return Ok(());
    }
    let text = format!("{address}: you have proven {} and nothing else", link.remote);
    Err(Refused::Forged(Error::new(Code::Refused, text)))
}

/// An address of the domain that was called may be one too many that the other side has not asked for
/// lately.
///
/// # Errors
/// rate-limited.
pub(super) fn asks_for(
    serving: &Serving,
    link: &LinkMailbox,
    address: &Address,
) -> Result<(), Error> {
    let (now, config) = (serving.clock.now(), serving.settings.load());
    if concerns_us(link, address).is_err() {
        // Whoever looks at that says so.
        return Ok(());
    }
    serving.names.ask(now, link, &config.federation, address).map_err(|wait| {
        let text = "your domain asks for too many new addresses here; slow down";
        Error::new(Code::RateLimited, text).by(By::Home).retry_after(wait)
    })
}

/// The address must be in the domain that was called.
///
/// # Errors
/// unknown-domain.
pub(super) fn concerns_us(link: &LinkMailbox, address: &Address) -> Result<(), Error> {
    if address.domain_str() == link.local.as_str() {
        return Ok(());
    }
    let text = format!("{address}: this link is for {}", link.local);
    Err(Error::new(Code::UnknownDomain, text))
}
