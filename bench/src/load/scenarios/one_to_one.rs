//! S1: people write to each other, two and two.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_local};

use super::{Numbers, Options, at_rate};
use crate::crowd::{Crowd, WHILE, settled};
use crate::measured::Deliveries;
use crate::protocol::{Came, Wish};
use crate::protocols::Start;
use crate::stamp::{Clock, Stamp};

/// People, if nothing is said.
const PEOPLE: usize = 500;
/// Messages that each has under way in a closed loop.
const UNDER_WAY: usize = 2;
/// How long system calls are counted.
const CALLS_SPAN: Duration = Duration::from_secs(1);

pub(super) async fn play(start: Start, options: &Options) -> Value {
    let people = options.size.unwrap_or(PEOPLE) & !1;
    let (stored, defaults) = (options.stored, options.defaults);
    let protocol = start(&Wish { people, stored, defaults, ..Wish::default() }).await;
    let clock = Clock::start();
    let talk = Rc::new(Talk {
        clock,
        deliveries: Deliveries::new(clock),
        numbers: Numbers::of(people),
        answering: Cell::new(options.rate.is_none()),
    });
    let heard = talk.clone();
    let crowd =
        Crowd::of(&*protocol, people, move |crowd, who, came| heard.hear(crowd, who, came)).await;
    let pacer = talk.begin(&crowd, options.rate);
    tokio::time::sleep(options.warm_up()).await;
    let mut figures = talk.deliveries.window(&*protocol, options.span()).await;
    if options.calls {
        figures["calls"] = json!(talk.deliveries.calls(&*protocol, CALLS_SPAN).await);
    }
    talk.answering.set(false);
    if let Some(pacer) = pacer {
        pacer.abort();
        let _ = pacer.await;
    }
    settled(WHILE, || talk.deliveries.count() >= talk.numbers.all()).await;
    talk.deliveries.tell_refused(&mut figures);
    figures["settings"] = json!(protocol.settings());
    figures["sent"] = json!(talk.numbers.all());
    figures["delivered"] = json!(talk.deliveries.count());
    figures["lost_connections"] = json!(crowd.lost());
    crowd.leave();
    figures
}

/// What is written and comes.
struct Talk {
    clock: Clock,
    deliveries: Deliveries,
    numbers: Numbers,
    /// Whether each message is answered by one.
    answering: Cell<bool>,
}

impl Talk {
    fn hear(&self, crowd: &Crowd, who: usize, came: Came) {
        match came {
            Came::Message(body) => {
                self.deliveries.delivered(Stamp::find(&body).expect("a stamp"));
                if self.answering.get() {
                    write(crowd, who, self.numbers.next(who, self.clock.now()));
                }
            }
            Came::Refused => self.deliveries.refused(),
            Came::Throttled => self.deliveries.throttled(),
            _ => {}
        }
    }

    /// Has them write, at a rate or some to begin with.
    fn begin(self: &Rc<Self>, crowd: &Rc<Crowd>, rate: Option<u64>) -> Option<JoinHandle<()>> {
        let Some(rate) = rate else {
            for who in (0..crowd.len()).flat_map(|who| [who; UNDER_WAY]) {
                write(crowd, who, self.numbers.next(who, self.clock.now()));
            }
            return None;
        };
        let (crowd, talk, mut who) = (crowd.clone(), self.clone(), 0);
        Some(spawn_local(at_rate(self.clock, rate as f64, move |due| {
            talk.deliveries.sent(due);
            write(&crowd, who, talk.numbers.next(who, due));
            who = (who + 1) % crowd.len();
        })))
    }
}

/// Somebody writes to its other half.
fn write(crowd: &Crowd, who: usize, stamp: Stamp) {
    crowd.say(who, |speech, out| speech.message(who ^ 1, stamp.body().as_bytes(), out));
}
