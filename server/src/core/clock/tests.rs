//! A watch that stands on the runtime's time alone, and what the lines are by it.

use super::*;

/// The runtime's time, which a test may hold still; somebody can set the wall clock, and put the
/// machine to sleep.
pub(crate) struct Held {
    origin: Instant,
    began: Timestamp,
    wrong: AtomicI64,
    asleep: AtomicI64,
}

impl Held {
    /// The wall clock says this now.
    pub(crate) fn at(began: Timestamp) -> Arc<Held> {
        let (wrong, asleep) = Default::default();
        Arc::new(Held { origin: Instant::now(), began, wrong, asleep })
    }

    /// Sets the wall clock: so many milliseconds ahead of where it would be.
    pub(crate) fn set(&self, wrong: i64) {
        self.wrong.store(wrong, Ordering::Relaxed);
    }

    /// The machine sleeps, and the runtime with it.
    pub(crate) fn sleep(&self, time: Duration) {
        self.asleep.fetch_add(time.as_millis() as i64, Ordering::Relaxed);
    }
}

impl Watch for Held {
    fn elapsed(&self) -> Duration {
        self.origin.elapsed()
            + Duration::from_millis(self.asleep.load(Ordering::Relaxed).cast_unsigned())
    }

    fn wall(&self) -> Timestamp {
        self.began.after(self.elapsed()).shifted(self.wrong.load(Ordering::Relaxed))
    }
}

impl Clock {
    /// Starts at this time, and goes by the runtime's alone.
    pub(crate) fn started_at(started: Timestamp) -> Clock {
        Clock::of(Held::at(started), None)
    }
}

const START: u64 = 1_800_000_000_000;
const HOUR: Duration = Duration::from_secs(3600);
const YEARS: i64 = 10 * 365 * 24 * 3_600_000;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// G12: whatever is done to the wall clock, a lease ends when its time has passed; what is told of it
/// is by the clock as it is.
#[tokio::test(start_paused = true)]
async fn g12_steady_time_is_moved_by_nobody() {
    let watch = Held::at(at(START));
    let clock = Clock::of(watch.clone(), None);
    let until = clock.now().after(HOUR);
    for wrong in [YEARS, -YEARS, i64::MIN / 2, i64::MAX / 2, 0] {
        watch.set(wrong);
        assert_eq!(until.since(clock.now()), HOUR);
    }
    watch.set(YEARS);
    assert_eq!(clock.told(until), clock.wall().after(HOUR));
    assert_eq!(clock.named(clock.wall().after(HOUR)), until);
    let begun = Instant::now();
    clock.reach(until).await;
    assert_eq!(begun.elapsed(), HOUR);
}

/// G12: an hour asleep is an hour of a lease, though no timer of the runtime has counted it.
#[tokio::test(start_paused = true)]
async fn g12_what_the_machine_sleeps_counts() {
    let watch = Held::at(at(START));
    let clock = Clock::of(watch.clone(), None);
    let (until, begun) = (clock.now().after(HOUR * 2), Instant::now());
    let waiting = tokio::spawn({
        let clock = clock.clone();
        async move { clock.reach(until).await }
    });
    tokio::time::sleep(HOUR / 2).await;
    watch.sleep(HOUR);
    clock.has_slept();
    waiting.await.unwrap();
    assert_eq!(begun.elapsed(), HOUR);
}

/// G12: steady time goes on over a restart by the wall clock, whatever was done to that before; and
/// never backwards, if it is a wrong one.
#[tokio::test(start_paused = true)]
async fn g12_steady_time_goes_on_over_a_restart() {
    let watch = Held::at(at(START));
    let first = Clock::of(watch.clone(), None);
    watch.set(YEARS);
    let (kept, before) = (first.record(), first.now());
    tokio::time::advance(HOUR).await;
    let off = || Clock::of(watch.clone(), Some(&kept)).now().since(before);
    assert_eq!(off(), HOUR);
    for (wrong, expected) in [
        (YEARS - HOUR.as_millis() as i64, Duration::ZERO),
        (-YEARS, Duration::ZERO),
        (2 * YEARS, HOUR + Duration::from_millis(YEARS as u64)),
    ] {
        watch.set(wrong);
        assert_eq!(off(), expected, "{wrong}");
    }
}
