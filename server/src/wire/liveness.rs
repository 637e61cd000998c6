//! What the silence of a peer means: when a PING is due, and when a connection is given up.
//!
//! Pure: the time comes in. Saying so to the peer is left to the connection.

use std::time::Duration;

use tokio::time::Instant;

/// When something last came, went, or was left half done.
#[derive(Debug)]
pub struct Liveness {
    /// When something was last read, and whether a PING was sent since then.
    heard: Instant,
    pinged: bool,
    /// How much sooner the first PING is due, of 2^64 parts of its time: those who come at once are not
    /// asked at once for ever.
    sooner: u64,
    /// Since when a frame has begun and not ended.
    mid_frame: Option<Instant>,
    /// When something was last written, or there was nothing to write.
    progress: Instant,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Silence before a PING; after half as much again the peer is dead. `None` where something
    /// else bounds the silence.
    pub idle: Option<Duration>,
    /// From the first byte of a frame to its last.
    pub frame: Duration,
    /// Without anything written.
    pub stall: Duration,
}

/// What is going on.
#[derive(Clone, Copy, Debug)]
pub struct Doing {
    /// Something may be read now: who is not read cannot be heard.
    pub reading: bool,
    /// Something waits to be written.
    pub writing: bool,
}

/// What a deadline that has passed means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Nothing, for all that is known here.
    Nothing,
    /// A PING is due.
    Ping,
    /// The end, and why.
    End(&'static str),
}

impl Liveness {
    /// A connection that is new.
    pub fn new(now: Instant) -> Liveness {
        Liveness { heard: now, pinged: false, sooner: 0, mid_frame: None, progress: now }
    }

    /// The first PING comes sooner than others, by a part of its time that is drawn: five eighths at most,
    /// so that who says little is not asked at once.
    pub fn spread(&mut self, random: u64) {
        self.sooner = random / 8 * 5;
    }

    /// Something was read.
    pub fn heard(&mut self, now: Instant) {
        (self.heard, self.pinged) = (now, false);
    }

    /// Something was written, or there is nothing to write.
    pub fn progress(&mut self, now: Instant) {
        self.progress = now;
    }

    /// A frame has ended.
    pub fn frame_ended(&mut self) {
        self.mid_frame = None;
    }

    /// All whole frames are taken; whether a part of one is left, and it is the peer who is waited
    /// for.
    pub fn frames_taken(&mut self, now: Instant, part_left: bool) {
        self.mid_frame = part_left.then(|| self.mid_frame.unwrap_or(now));
    }

    /// When to look again.
    pub fn deadline(&self, now: Instant, patience: &Patience, doing: Doing) -> Option<Instant> {
        let silent = patience.idle.map(|idle| match self.pinged {
            _ if !doing.reading => now + idle,
            false => self.heard + self.until_ping(idle),
            true => self.heard + idle * 3 / 2,
        });
        let stalled = doing.writing.then(|| self.progress + patience.stall);
        let frame = self.mid_frame.map(|since| since + patience.frame);
        silent.into_iter().chain(stalled).chain(frame).min()
    }

    /// What it means that a deadline has passed.
    pub fn overdue(&mut self, now: Instant, patience: &Patience, doing: Doing) -> Overdue {
        if !doing.reading {
            self.heard = now;
        }
        if doing.writing && now >= self.progress + patience.stall {
            return Overdue::End("nothing could be written for too long");
        }
        if self.mid_frame.is_some_and(|since| now >= since + patience.frame) {
            return Overdue::End("a frame took too long");
        }
        match patience.idle {
            Some(idle) if self.pinged && now >= self.heard + idle * 3 / 2 => {
                Overdue::End("nothing was heard for too long")
            }
            Some(idle) if !self.pinged && now >= self.heard + self.until_ping(idle) => {
                (self.pinged, self.sooner) = (true, 0);
                Overdue::Ping
            }
            _ => Overdue::Nothing,
        }
    }

    fn until_ping(&self, idle: Duration) -> Duration {
        let sooner = (idle.as_nanos() * u128::from(self.sooner)) >> 64;
        idle.saturating_sub(Duration::from_nanos(u64::try_from(sooner).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const IDLE: Doing = Doing { reading: true, writing: false };

    fn patience() -> Patience {
        Patience { idle: Some(60 * SECOND), frame: 30 * SECOND, stall: 45 * SECOND }
    }

    #[test]
    fn silence_brings_a_ping_and_then_the_end() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        assert_eq!(liveness.deadline(start, &patience(), IDLE), Some(start + 60 * SECOND));
        let mut look = |after| liveness.overdue(start + after * SECOND, &patience(), IDLE);
        assert_eq!(
            [59, 60, 61].map(&mut look),
            [Overdue::Nothing, Overdue::Ping, Overdue::Nothing]
        );
        assert_eq!(look(90), Overdue::End("nothing was heard for too long"));
        liveness.heard(start + 80 * SECOND);
        let look = liveness.overdue(start + 90 * SECOND, &patience(), IDLE);
        assert_eq!(look, Overdue::Nothing);
    }

    #[test]
    fn h6_who_came_in_one_second_is_not_asked_in_one() {
        const SESSIONS: u64 = 10_000;
        const LASTS: u64 = 600;
        let start = Instant::now();
        let mut asked = vec![0_u64; LASTS as usize];
        for session in 0..SESSIONS {
            let came = start + SECOND * u32::try_from(session).unwrap() / SESSIONS as u32;
            let mut liveness = Liveness::new(came);
            liveness.spread(session.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let (mut now, mut times) = (came, 0);
            loop {
                now = liveness.deadline(now, &patience(), IDLE).unwrap();
                let Some(count) = asked.get_mut((now - start).as_secs() as usize) else { break };
                *count += 1;
                times += 1;
                assert_eq!(liveness.overdue(now, &patience(), IDLE), Overdue::Ping);
                // It answers at once.
                liveness.heard(now);
            }
            assert!((9..=10).contains(&times), "asked {times} times in {LASTS} s");
        }
        let (most, all) = (asked.iter().max().unwrap(), asked.iter().sum::<u64>());
        assert!(most * LASTS <= 2 * all, "{most} in one second of {all} in {LASTS}");
    }

    #[test]
    fn a_slow_frame_and_a_stalled_reader_are_given_up_and_who_is_not_read_is_not_dead() {
        let start = Instant::now();
        let at = |seconds| start + seconds * SECOND;
        let mut liveness = Liveness::new(start);
        liveness.frames_taken(at(5), true);
        liveness.frames_taken(at(20), true);
        assert_eq!(liveness.deadline(at(20), &patience(), IDLE), Some(at(35)));
        assert_eq!(
            liveness.overdue(at(35), &patience(), IDLE),
            Overdue::End("a frame took too long")
        );
        liveness.frames_taken(at(36), false);
        let writing = Doing { reading: false, writing: true };
        assert_eq!(liveness.overdue(at(44), &patience(), writing), Overdue::Nothing);
        let end = Overdue::End("nothing could be written for too long");
        assert_eq!(liveness.overdue(at(45), &patience(), writing), end);
        let unread = Doing { reading: false, writing: false };
        assert_eq!(liveness.overdue(at(1000), &patience(), unread), Overdue::Nothing);
    }
}
