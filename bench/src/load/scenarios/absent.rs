//! S5: some write to many who are not there; the server is killed as soon as the last message was
//! acknowledged, and what was is looked for.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::{Numbers, Options};
use crate::crowd::Crowd;
use crate::measured::used;
use crate::protocol::{Came, Protocol, Wish};
use crate::protocols::Start;
use crate::stamp::{Clock, Stamp};

/// Messages, if nothing is said.
const MESSAGES: usize = 20_000;
const SENDERS: usize = 20;
const RECEIVERS: usize = 100;
/// Messages of one sender that are not acknowledged yet.
const UNDER_WAY: usize = 16;

pub(super) async fn play(start: Start, options: &Options) -> Value {
    let people = SENDERS + RECEIVERS;
    let wish = Wish { people, defaults: options.defaults, stored: true, ..Wish::default() };
    let mut protocol = start(&wish).await;
    let sent = Rc::new(Sent {
        each: options.size.unwrap_or(MESSAGES).div_ceil(SENDERS) as u64,
        clock: Clock::start(),
        numbers: Numbers::of(SENDERS),
        taken: Cell::new(0),
        refused: Cell::new(0),
        throttled: Cell::new(0),
        ended: Notify::new(),
    });
    let heard = sent.clone();
    let crowd =
        Crowd::of(&*protocol, SENDERS, move |crowd, who, came| heard.hear(crowd, who, &came)).await;
    let mut figures = used(&*protocol, async {
        (0..SENDERS).flat_map(|who| [who; UNDER_WAY]).for_each(|who| sent.next(&crowd, who));
        sent.ended.notified().await;
        sent.taken.get()
    })
    .await;
    protocol.crash();
    crowd.leave();
    let (found, fetched) = fetched(&*protocol, SENDERS..people).await;
    let doubled = found.values().filter(|count| **count > 1).count();
    figures.insert("lost".into(), json!(sent.taken.get().saturating_sub(found.len() as u64)));
    figures.insert("doubled".into(), json!(doubled));
    figures.insert("refused".into(), json!(sent.refused.get()));
    figures.insert("throttled".into(), json!(sent.throttled.get()));
    figures.insert("fetch".into(), Value::Object(fetched));
    figures.insert("settings".into(), json!(protocol.settings()));
    Value::Object(figures)
}

/// All that waits for these: how often each message is there, and what the server used to tell it.
async fn fetched(protocol: &dyn Protocol, people: Range<usize>) -> (Found, Map<String, Value>) {
    let mut found = Found::new();
    let used = used(protocol, async {
        for who in people {
            for body in protocol.waiting(who).await.expect("an inbox") {
                let stamp = Stamp::find(&body).expect("a stamp");
                *found.entry((stamp.who, stamp.which)).or_default() += 1;
            }
        }
        found.values().sum()
    })
    .await;
    (found, used)
}

/// How often each message was found, by who sent it and which of theirs it is.
type Found = HashMap<(usize, u64), u64>;

/// What has been sent, and what of it was acknowledged.
struct Sent {
    /// So many by each.
    each: u64,
    clock: Clock,
    numbers: Numbers,
    taken: Cell<u64>,
    refused: Cell<u64>,
    throttled: Cell<u64>,
    /// Told when the last one was answered.
    ended: Notify,
}

impl Sent {
    /// Somebody sends the next of its messages, if it has one: each time to somebody else.
    fn next(&self, crowd: &Crowd, who: usize) {
        if self.numbers.last(who) < self.each {
            let stamp = self.numbers.next(who, self.clock.now());
            let to = SENDERS + (who + stamp.which as usize) % RECEIVERS;
            crowd.say(who, |speech, out| speech.message(to, stamp.body().as_bytes(), out));
        }
    }

    fn hear(&self, crowd: &Crowd, who: usize, came: &Came) {
        match came {
            Came::Taken => self.taken.set(self.taken.get() + 1),
            Came::Refused => self.refused.set(self.refused.get() + 1),
            Came::Throttled => self.throttled.set(self.throttled.get() + 1),
            _ => return,
        }
        if self.taken.get() + self.refused.get() + self.throttled.get()
            == self.each * SENDERS as u64
        {
            self.ended.notify_one();
        }
        self.next(crowd, who);
    }
}
