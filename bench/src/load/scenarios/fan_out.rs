//! S2, S6, S7: some show their status, and all others follow each of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use impp_bench::usage::Used;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, spawn_local};

use super::{Numbers, Options, at_rate};
use crate::crowd::{Crowd, SOON, WHILE, settled};
use crate::measured::Deliveries;
use crate::protocol::{Came, Wish};
use crate::protocols::Start;
use crate::stamp::{Clock, Stamp};

/// Changes of one that are under way in a closed loop.
const UNDER_WAY: u64 = 2;
/// How often something is shown until all who follow have seen it.
const FIRST_ONES_MAX: usize = 200;

/// Who shows something to whom.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub publishers: usize,
    pub watchers: usize,
    /// One of so many watchers reads no more once it has begun; none if 0.
    pub stalled_one_in: usize,
}

pub(super) async fn play(start: Start, options: &Options, shape: Shape) -> Value {
    let shape = Shape { watchers: options.size.unwrap_or(shape.watchers), ..shape };
    let (people, watched) = (shape.publishers + shape.watchers, shape.publishers);
    let (views, defaults) = (options.views, options.defaults);
    let protocol = start(&Wish { people, watched, views, defaults, ..Wish::default() }).await;
    let shown = Rc::new(Shown::new(shape));
    let heard = shown.clone();
    let crowd =
        Crowd::of(&*protocol, people, move |crowd, who, came| heard.hear(crowd, who, came)).await;
    shown.follow(&crowd).await;
    (watched + shown.reading..people).for_each(|who| crowd.stall(who));
    let resident = Used::by(&protocol.processes()).resident;
    let pacer = shown.begin(&crowd, options.rate);
    tokio::time::sleep(options.warm_up()).await;
    let mut figures = shown.deliveries.window(&*protocol, options.span()).await;
    let grown = Used::by(&protocol.processes()).resident.saturating_sub(resident);
    shown.going.set(false);
    if let Some(pacer) = pacer {
        pacer.abort();
        let _ = pacer.await;
    }
    settled(WHILE, || shown.is_all_seen()).await;
    shown.deliveries.tell_refused(&mut figures);
    figures["settings"] = json!(protocol.settings());
    figures["shown"] = json!(shown.numbers.all());
    figures["delivered"] = json!(shown.deliveries.count());
    figures["all_seen"] = json!(shown.is_all_seen());
    figures["grown_mib"] = json!(grown as f64 / 1024.0 / 1024.0);
    figures["lost_connections"] = json!(crowd.lost());
    crowd.leave();
    figures
}

/// What is shown, and what is seen of it.
struct Shown {
    publishers: usize,
    /// The watchers who read what comes: the first so many of them.
    reading: usize,
    clock: Clock,
    deliveries: Deliveries,
    numbers: Numbers,
    seen: RefCell<Seen>,
    /// Whether what is seen is followed by the next.
    going: Cell<bool>,
}

impl Shown {
    fn new(shape: Shape) -> Shown {
        let Shape { publishers, watchers, stalled_one_in } = shape;
        let reading = watchers - watchers.checked_div(stalled_one_in).unwrap_or(0);
        let clock = Clock::start();
        Shown {
            publishers,
            reading,
            clock,
            deliveries: Deliveries::new(clock),
            numbers: Numbers::of(publishers),
            seen: RefCell::new(Seen::of(publishers, reading)),
            going: Cell::new(false),
        }
    }

    fn hear(&self, crowd: &Crowd, who: usize, came: Came) {
        match came {
            Came::Status(text) => {
                // What was shown at sign-in has no stamp; one's own may come back.
                let is_reader = (self.publishers..self.publishers + self.reading).contains(&who);
                let Some(stamp) = Stamp::find(&text).filter(|_| is_reader) else { return };
                self.deliveries.delivered(stamp);
                let mut seen = self.seen.borrow_mut();
                seen.note(who - self.publishers, stamp);
                if self.going.get() && seen.is_ready(stamp.who, self.numbers.last(stamp.who)) {
                    show(crowd, self.numbers.next(stamp.who, self.clock.now()));
                }
            }
            Came::Refused => self.deliveries.refused(),
            Came::Throttled => self.deliveries.throttled(),
            _ => {}
        }
    }

    /// Everybody follows all who show something, and is shown it. What was shown before somebody was
    /// known to follow may not come to it, so it is shown again.
    async fn follow(&self, crowd: &Crowd) {
        for watcher in self.publishers..crowd.len() {
            for publisher in 0..self.publishers {
                crowd.say(watcher, |speech, out| speech.follow(publisher, out));
            }
        }
        for _ in 0..FIRST_ONES_MAX {
            for publisher in 0..self.publishers {
                show(crowd, self.numbers.next(publisher, self.clock.now()));
            }
            settled(SOON, || self.is_all_seen()).await;
            if self.is_all_seen() {
                return;
            }
        }
        panic!("not everybody is shown what it follows");
    }

    /// Has them change, at a rate or as soon as all have seen it.
    fn begin(self: &Rc<Self>, crowd: &Rc<Crowd>, rate: Option<u64>) -> Option<JoinHandle<()>> {
        let publishers = self.publishers;
        let Some(rate) = rate else {
            self.going.set(true);
            for publisher in (0..publishers).flat_map(|who| [who; UNDER_WAY as usize]) {
                show(crowd, self.numbers.next(publisher, self.clock.now()));
            }
            return None;
        };
        let (crowd, shown, mut publisher) = (crowd.clone(), self.clone(), 0);
        let pacer = at_rate(self.clock, rate as f64 / self.reading as f64, move |due| {
            shown.deliveries.sent(due);
            show(&crowd, shown.numbers.next(publisher, due));
            publisher = (publisher + 1) % publishers;
        });
        Some(spawn_local(pacer))
    }

    fn is_all_seen(&self) -> bool {
        let seen = self.seen.borrow();
        (0..self.publishers).all(|who| seen.is_seen(who, self.numbers.last(who)))
    }
}

/// Who has seen what of those who show something.
struct Seen {
    watchers: u64,
    /// For each watcher, the last of each publisher.
    last: Vec<Vec<u64>>,
    /// For each publisher, how much was seen by all watchers together; what was left out because
    /// something newer was there counts as seen.
    all: Vec<u64>,
}

impl Seen {
    fn of(publishers: usize, watchers: usize) -> Seen {
        let last = vec![vec![0; publishers]; watchers];
        Seen { watchers: watchers as u64, last, all: vec![0; publishers] }
    }

    /// A watcher has been shown something.
    fn note(&mut self, watcher: usize, stamp: Stamp) {
        let last = &mut self.last[watcher][stamp.who];
        self.all[stamp.who] += stamp.which.saturating_sub(*last);
        *last = stamp.which.max(*last);
    }

    /// Whether so little is under way that more may come.
    fn is_ready(&self, publisher: usize, shown: u64) -> bool {
        shown * self.watchers < self.all[publisher] + UNDER_WAY * self.watchers
    }

    /// Whether everybody has seen all of it.
    fn is_seen(&self, publisher: usize, shown: u64) -> bool {
        self.all[publisher] == shown * self.watchers
    }
}

/// Somebody shows something.
fn show(crowd: &Crowd, stamp: Stamp) {
    crowd.say(stamp.who, |speech, out| speech.publish(&stamp.status(), out));
}
