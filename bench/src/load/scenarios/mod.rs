//! The scenarios, apart from protocols.

mod absent;
mod fan_out;
mod idle;
mod one_to_one;
mod returning;
mod sign_in;

use std::time::Duration;

use fan_out::Shape;
use serde_json::Value;

use crate::protocol::Later;
use crate::protocols::Start;
use crate::stamp::{Clock, Stamp};

/// What can be said about a scenario.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// How many: people, watchers, sessions, sign-ins or messages, as the scenario has it.
    #[arg(long)]
    pub size: Option<usize>,
    /// Deliveries a second, each at its time whatever became of those before (an open loop); without
    /// it, as many as there can be with a few under way from each (a closed loop).
    #[arg(long)]
    pub rate: Option<u64>,
    /// Views in which what is shown is seen (s6).
    #[arg(long, default_value_t = 1)]
    pub views: usize,
    /// Messages are stored before they are acknowledged, where the server can do that.
    #[arg(long)]
    pub stored: bool,
    /// The server has the settings that it has by itself.
    #[arg(long)]
    pub defaults: bool,
    /// System calls for each delivery are counted too, afterwards (s1).
    #[arg(long)]
    pub calls: bool,
    /// How long it is measured.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// How long it runs before.
    #[arg(long, default_value_t = 1.5)]
    pub warm_up: f64,
}

impl Options {
    fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }

    fn span(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// A scenario, and how it is played.
pub(crate) struct Scenario {
    pub name: &'static str,
    pub play: for<'a> fn(Start, &'a Options) -> Later<'a, Value>,
}

macro_rules! scenario {
    ($name:literal, $play:expr) => {
        Scenario { name: $name, play: |start, options| Box::pin($play(start, options)) }
    };
}

/// All of them.
pub(crate) const SCENARIOS: [Scenario; 9] = [
    scenario!("s1", one_to_one::play),
    scenario!("s2a", |start, options| fan_out::play(start, options, shape(1, 200, 0))),
    scenario!("s2b", |start, options| fan_out::play(start, options, shape(100, 50, 0))),
    scenario!("s3", idle::play),
    scenario!("s4", sign_in::play),
    scenario!("s5", absent::play),
    scenario!("s6", |start, options| fan_out::play(start, options, shape(1, 10_000, 0))),
    scenario!("s7", |start, options| fan_out::play(start, options, shape(1, 200, 10))),
    scenario!("s9", returning::play),
];

const fn shape(publishers: usize, watchers: usize, stalled_one_in: usize) -> Shape {
    Shape { publishers, watchers, stalled_one_in }
}

/// Does things at their times, so many a second, for ever. Between two it looks at what has come and
/// does not sleep: timers are too coarse, and the processor is this thread's own.
async fn at_rate(clock: Clock, rate: f64, mut make: impl FnMut(Duration)) {
    let start = clock.now();
    for n in 0_u64.. {
        let due = start + Duration::from_secs_f64(n as f64 / rate);
        while clock.now() < due {
            tokio::task::yield_now().await;
        }
        make(due);
        // Who is far behind must still hear what comes.
        if n.is_multiple_of(16) {
            tokio::task::yield_now().await;
        }
    }
}

/// Numbers of what each has made.
struct Numbers(Vec<std::cell::Cell<u64>>);

impl Numbers {
    fn of(people: usize) -> Numbers {
        Numbers(vec![std::cell::Cell::new(0); people])
    }

    fn next(&self, who: usize, due: Duration) -> Stamp {
        let which = self.0[who].get() + 1;
        self.0[who].set(which);
        Stamp { who, which, due }
    }

    fn last(&self, who: usize) -> u64 {
        self.0[who].get()
    }

    fn all(&self) -> u64 {
        self.0.iter().map(std::cell::Cell::get).sum()
    }
}
