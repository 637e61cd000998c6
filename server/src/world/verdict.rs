//! What must be so at the end of a world.

use std::collections::BTreeMap;

use bytes::Bytes;
use impp_protocol::command::{Message, Outcome};
use impp_protocol::presence::Document;
use impp_protocol::state::{Fate, Item, ItemKind, SubscriptionState};
use impp_protocol::{Address, Code, MessageId};

use super::device::{Look, Seen};
use super::facts::{Facts, Sent};
use super::plot::{Found, World};
use super::ruling::{Grant, composed, seen};

/// Writes down what is not as it must be.
pub(super) fn judge(world: &World, found: &Found) {
    let mut facts = world.facts.lock();
    let mut logs: BTreeMap<Address, &[Item]> = BTreeMap::new();
    for device in world.devices.iter().filter(|device| device.online) {
        let Some(look) = found.looks.get(&device.name) else {
            facts.wrong(format!("{} could not look", device.name));
            continue;
        };
        if !look.undone.is_empty() {
            facts.wrong(format!("{} {}", device.name, look.undone));
        }
        let cursors = |items: &[Item]| items.iter().map(|item| item.cursor.clone()).collect();
        let (told, log): (Vec<Bytes>, Vec<Bytes>) = (cursors(&look.items), cursors(&look.log));
        if told != log {
            let (told, log) = (told.len(), log.len());
            facts.wrong(format!("{} was told {told} items of a log of {log}", device.name));
        }
        if let Some(wrong) = untold(look) {
            facts.wrong(format!("{} {wrong}", device.name));
        }
        logs.insert(device.who.clone(), &look.log);
        presence(&mut facts, found, &device.who, &device.name, look);
    }
    if logs.len() == world.people.len() {
        messages(&mut facts, &logs);
    }
}

/// What was deleted is gone in the log, and whoever was told of the item was told that it is gone.
fn untold(look: &Look) -> Option<String> {
    let gone = look.log.iter().filter(|item| item.kind == ItemKind::Gone);
    for gone in gone {
        let was_told = look.items.iter().find(|item| item.cursor == gone.cursor)?;
        let reports = look.items.iter().filter_map(|item| item.deleted.as_ref());
        let is_reported = reports.into_iter().any(|report| report.cursor == gone.cursor);
        if was_told.kind != ItemKind::Gone && !is_reported {
            return Some("was not told that an item of its log is gone".to_owned());
        }
    }
    let reports = look.log.iter().filter_map(|item| item.deleted.as_ref());
    let is_gone = |cursor: &Bytes| {
        look.log.iter().any(|item| item.cursor == *cursor && item.kind == ItemKind::Gone)
    };
    reports
        .into_iter()
        .any(|report| !is_gone(&report.cursor))
        .then(|| "finds an item in its log that is said to be gone".to_owned())
}

/// Everybody sees what the rules grant, told and asked alike.
fn presence(facts: &mut Facts, found: &Found, watcher: &Address, name: &str, look: &Look) {
    for (owner, orders) in &found.layers {
        if owner == watcher {
            continue;
        }
        let rulings = facts.rulings.get(owner);
        let Some(ruling) = rulings.and_then(|rulings| rulings.last()) else { continue };
        let by_order = orders.iter().map(|layers| {
            let grant = ruling.grant(watcher, &composed(layers)).unwrap_or(Grant::Block);
            (grant, seen(layers, grant))
        });
        // By whichever order it is let in: spheres let nobody in whom the rest does not.
        let (grants, shown): (Vec<Grant>, Vec<Document>) = by_order.unzip();
        let grant = grants[0];
        let told = look.told.get(owner).cloned().unwrap_or_default();
        let Seen { state, held, refused } = told;
        let right = match grant {
            Grant::All | Grant::Status | Grant::Polite => {
                state == Some(SubscriptionState::Active)
                    && held.as_ref().is_some_and(|(_, document)| shown.contains(document))
            }
            Grant::Confirm => state == Some(SubscriptionState::Pending) && held.is_none(),
            Grant::Block => refused,
        };
        if !right {
            let what = format!("{name} of {owner}, {grant:?}: told {state:?} {held:?}");
            facts.wrong(format!("{what}, not {shown:?}"));
        }
        let right = match (look.fetched.get(owner), grant) {
            (Some(Ok(Some(content))), Grant::All | Grant::Status | Grant::Polite) => {
                Document::decode(content.clone()).is_ok_and(|document| shown.contains(&document))
            }
            (Some(Ok(None)), Grant::Confirm) => true,
            (Some(Err(Code::Refused)), Grant::Block) => true,
            _ => false,
        };
        if !right {
            let fetched = look.fetched.get(owner);
            facts.wrong(format!("{name} of {owner}, {grant:?}: is answered {fetched:?}"));
        }
    }
}

/// The messages of a kind in a log: their ids, in its order.
fn ids(log: &[Item], kind: ItemKind, from: Option<&Address>) -> Vec<MessageId> {
    let of_kind = log.iter().filter(|item| item.kind == kind);
    let messages = of_kind.filter_map(|item| Message::decode(item.message.clone()?).ok());
    let messages = messages.filter(|message| from.is_none() || message.from.as_ref() == from);
    messages.map(|message| message.id).collect()
}

/// Nothing acknowledged is lost or doubled, the order of a pair is kept, each message has one fate.
fn messages(facts: &mut Facts, logs: &BTreeMap<Address, &[Item]>) {
    let mut wrong = Vec::new();
    for (index, sent) in facts.messages.iter().enumerate() {
        let what = format!("message {index} of {} to {}", sent.device, sent.to);
        let received = ids(logs[&sent.to], ItemKind::Received, Some(&sent.from));
        let received = received.iter().filter(|id| **id == sent.id).count();
        let copies = ids(logs[&sent.from], ItemKind::Sent, None);
        let copies = copies.iter().filter(|id| **id == sent.id).count();
        let fates = logs[&sent.from].iter().filter_map(|item| item.fate.as_ref());
        let fates: Vec<Fate> =
            fates.filter(|fate| fate.id == sent.id).map(|fate| fate.fate).collect();
        match &sent.answer {
            None => wrong.push(format!("{what} was never answered")),
            Some(Err(code)) if received > 0 => {
                wrong.push(format!("{what} was answered {code} and is there"));
            }
            Some(Err(_)) => {}
            Some(Ok(Outcome::Sent)) => wrong.push(format!("{what} was not stored")),
            Some(Ok(_)) => {
                let deletion = facts.deletions.get(&(sent.to.clone(), sent.id));
                if !has_come(deletion.copied(), &fates, received) || copies != 1 {
                    wrong.push(format!(
                        "{what} was accepted: received {received}, copies {copies}, fates {fates:?}"
                    ));
                }
            }
        }
    }
    order(facts, logs, &mut wrong);
    for what in wrong {
        facts.wrong(what);
    }
}

/// Whether what was accepted is there as often as its fate says, and as its recipient has left it there.
fn has_come(deletion: Option<bool>, fates: &[Fate], received: usize) -> bool {
    match fates {
        _ if deletion == Some(true) && received > 0 => false,
        [Fate::Delivered] if deletion.is_some() => received <= 1,
        [Fate::Delivered] => received == 1,
        [Fate::Failed | Fate::Expired] => received == 0,
        [Fate::Unknown] => received <= 1,
        _ => false,
    }
}

/// What a device has sent to one recipient lies in the order of its requests. What has waited for a
/// decision comes later than what has not, but in its order: so of three no two are the wrong way round.
fn order(facts: &Facts, logs: &BTreeMap<Address, &[Item]>, wrong: &mut Vec<String>) {
    for (to, log) in logs {
        let received = ids(log, ItemKind::Received, None);
        let place = |sent: &Sent| received.iter().position(|id| *id == sent.id);
        let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for sent in facts.messages.iter().filter(|sent| sent.to == *to && !sent.again) {
            places.entry(&sent.device).or_default().extend(place(sent));
        }
        for (device, places) in places {
            let from = facts.messages.iter().find(|sent| sent.device == device);
            let held = from.is_some_and(|sent| may_have_waited(facts, &sent.from, to));
            if falls(&places) > if held { 2 } else { 1 } {
                wrong.push(format!("what {device} has sent to {to} is out of order: {places:?}"));
            }
        }
    }
}

/// Whether messages may have waited for a decision: by rules of the recipient's, or by those that an
/// account begins with, which hold what comes from other domains.
fn may_have_waited(facts: &Facts, from: &Address, to: &Address) -> bool {
    let rulings = facts.rulings.get(to).map_or(&[][..], |rulings| rulings);
    from.domain() != to.domain() || rulings.iter().any(|ruling| ruling.holds.contains(from))
}

/// How many of these, at most, follow each other the wrong way round.
fn falls(places: &[usize]) -> usize {
    let mut longest: Vec<usize> = Vec::new();
    for (index, place) in places.iter().enumerate() {
        let before = places[..index].iter().zip(&longest).filter(|(other, _)| *other > place);
        longest.push(1 + before.map(|(_, length)| *length).max().unwrap_or(0));
    }
    longest.into_iter().max().unwrap_or(0)
}
