//! Whoever looks when woken, and at no other time, comes to see what is shown: whatever is staged,
//! stored, not stored, paced or ended by time.

use std::collections::BTreeMap;
use std::time::Duration;

use impp_acl::RuleSet;
use proptest::prelude::*;

use super::staged::{ALLOW, Step, any_step, watcher};
use super::{SESSION, alice, at};
use crate::bonds::Bond;
use crate::presentity::*;

/// A session of one watcher, and what its client was told.
#[derive(Debug, Default)]
struct Ear {
    follows: bool,
    /// It waits for the answer to what it has asked, and looks at nothing meanwhile.
    waits: bool,
    dirty: bool,
    held: Held,
    state: Option<SubscriptionState>,
}

struct Play {
    alice: Presentity,
    now: u64,
    ears: BTreeMap<Address, Ear>,
    /// What is on its way to the disk, in order, with the watcher who asked for it.
    queue: VecDeque<Option<u64>>,
    asked: BTreeMap<u64, Address>,
}

impl Play {
    fn new(slice: usize) -> Play {
        let text = format!("[[rule]]\nid = \"a\"\nwho = [\"domain:b.example\"]\n{ALLOW}\n");
        let mut alice = alice(Policy::new(RuleSet::parse(&text).unwrap(), text, 0));
        alice.newest.pace_limit = PaceLimit { burst: 1, interval: Duration::from_secs(60) };
        alice.slice = slice;
        let ears = (0..3).map(|index| (watcher(index), Ear::default())).collect();
        let (queue, asked) = Default::default();
        let mut play = Play { alice, now: 1, ears, queue, asked };
        for index in 0..3 {
            let (watcher, bond) = (watcher(index), Bond::Session(SESSION));
            let listener = Some(SESSION.into());
            play.take(Step::Stage(Change::Follow { watcher, bond, listener, pending_max: 9 }));
        }
        play
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Stage(change) => self.stage(change),
            Step::Commit | Step::Fail => match self.queue.pop_front() {
                Some(Some(id)) if matches!(step, Step::Fail) => {
                    let effects = self.alice.failed(at(self.now), id, false);
                    self.follow_up(effects);
                    self.answered(id, None);
                }
                Some(Some(id)) => {
                    let effects = self.alice.committed(at(self.now), id, None);
                    self.follow_up(effects);
                }
                _ => {}
            },
            Step::Expire(seconds) => {
                self.now += seconds;
                self.expire();
            }
        }
        self.look();
    }

    fn stage(&mut self, change: Change) {
        let who = match &change {
            Change::Follow { watcher, listener: Some(_), .. }
            | Change::Release { watcher, listener: Some(_), .. } => Some(watcher.clone()),
            _ => None,
        };
        if let Some(ear) = who.as_ref().and_then(|who| self.ears.get_mut(who)) {
            if ear.waits {
                return;
            }
            ear.follows &= matches!(change, Change::Follow { .. });
        }
        let (staging, effects) = self.alice.stage(at(self.now), change);
        match (staging, who) {
            (Staging::Staged(id), who) => {
                if let Some(who) = who {
                    self.ears.get_mut(&who).unwrap().waits = true;
                    self.asked.insert(id, who);
                }
                self.queue.extend((!effects.writes.is_empty()).then_some(Some(id)));
                self.follow_up(Effects { writes: vec![], ..effects });
            }
            (Staging::Shown(answer), who) => {
                self.follow_up(effects);
                if let Some(who) = who {
                    self.hear(&who, Some(answer));
                }
            }
        }
    }

    fn follow_up(&mut self, effects: Effects) {
        self.queue.extend(effects.again.into_iter().map(|(id, _)| Some(id)));
        let writes = effects.writes.is_empty() && effects.later.is_empty();
        self.queue.extend((!writes).then_some(None));
        if effects.wake.contains(&SESSION.into()) {
            self.ears.values_mut().for_each(|ear| ear.dirty = true);
        }
        for (id, answer) in effects.answers {
            self.answered(id, Some(answer));
        }
    }

    fn answered(&mut self, id: u64, answer: Option<Answer>) {
        if let Some(who) = self.asked.remove(&id) {
            self.hear(&who, answer);
        }
    }

    fn hear(&mut self, who: &Address, answer: Option<Answer>) {
        let ear = self.ears.get_mut(who).unwrap();
        ear.waits = false;
        if let Some(Answer::Asked(Asked::Stands(state))) = answer {
            *ear = Ear { follows: true, dirty: true, state: Some(state), ..Ear::default() };
        }
    }

    fn expire(&mut self) {
        let effects = self.alice.expire(at(self.now));
        self.follow_up(effects);
        let slices = self.alice.behind.is_any() || self.alice.waits_to_be_shown();
        let next = self.alice.next_deadline().filter(|_| !slices);
        assert!(next.is_none_or(|due| due > at(self.now)), "it is due for ever");
    }

    /// Those who were woken look.
    fn look(&mut self) {
        for who in self.ears.keys().cloned().collect::<Vec<_>>() {
            let ear = self.ears.get_mut(&who).unwrap();
            if ear.waits || !std::mem::take(&mut ear.dirty) || !ear.follows {
                continue;
            }
            match self.alice.pull(at(self.now), &who, SESSION, ear.held, ear.state) {
                Pulled::Nothing => {}
                Pulled::Due => {
                    ear.dirty = true;
                    self.expire();
                    self.look();
                }
                Pulled::Told(Told { state, content, .. }) => {
                    ear.held = match (content, state) {
                        (Some(content), _) => Held::Sent(content.version()),
                        (None, SubscriptionState::Active) => ear.held,
                        (None, _) => Held::Nothing,
                    };
                    ear.state = Some(state);
                    ear.follows = state != SubscriptionState::Terminated;
                }
            }
        }
    }

    /// What a session that follows was told is what is shown.
    fn check(&self) {
        for (who, ear) in self.ears.iter().filter(|(_, ear)| ear.follows) {
            let watching = self.alice.watcher(who);
            assert_eq!(watching.map(|watching| watching.state), ear.state, "{who}");
            let key = watching.filter(|w| w.is_active()).and_then(|w| w.decision.view_key());
            if let Some(key) = key {
                let version = key.apply(self.alice.shown_document()).content().version();
                assert_eq!(ear.held, Held::Sent(version), "{who}");
            }
        }
    }
}

proptest! {
    #[test]
    fn who_looks_when_woken_comes_to_see_what_is_shown(
        steps in prop::collection::vec(any_step(), 1..40),
        slice in 1..4_usize,
    ) {
        let mut play = Play::new(slice);
        for step in steps {
            play.take(step);
        }
        for _ in 0..100 {
            play.take(Step::Commit);
            play.take(Step::Expire(0));
        }
        // Who is behind is decided about, and what waits for the pace goes out.
        while play.alice.behind.is_any() || play.alice.contents.next_owed().is_some() {
            let due = play.alice.contents.next_owed().filter(|_| !play.alice.behind.is_any());
            play.now = due.map_or(play.now, |due| play.now.max(due.since(at(0)).as_secs()));
            play.take(Step::Expire(0));
        }
        play.check();
    }
}
