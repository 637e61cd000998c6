use super::*;

/// Numbers by chance, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % sides
    }
}

/// The database and the file beside it, as they are on a disk.
#[derive(Clone, Copy, Debug)]
struct Disk {
    inode: u64,
    place: Place,
    written: u64,
    /// The witness that lasts, with its time.
    synced: Option<(Witness, i64)>,
    /// What was written over it since.
    unsynced: Option<(Witness, i64)>,
}

impl Disk {
    fn new() -> Disk {
        let (place, (synced, unsynced)) = Default::default();
        Disk { inode: 7, place, written: 0, synced, unsynced }
    }

    /// What is left of the witness by a cut: its bytes and its time each by itself.
    fn cut(&mut self, dice: &mut Dice) {
        if let (Some(new), Some((witness, at))) = (self.unsynced.take(), &mut self.synced) {
            if dice.roll(2) == 0 {
                *witness = new.0;
            }
            if dice.roll(2) == 0 {
                *at = new.1;
            }
        }
    }

    fn beside(&self) -> Beside {
        self.synced.map_or(Beside::Nothing, |(witness, changed)| Beside::Witness(witness, changed))
    }

    fn judge(&self) -> Verdict {
        judge(&self.place, self.written, self.inode, self.beside())
    }
}

/// A store's life, a step at a time, in the order in which `witness.rs` and the writer take them.
struct Life {
    disk: Disk,
    now: i64,
    dice: Dice,
    /// The disk after each step, cut there.
    cuts: Vec<Disk>,
}

impl Life {
    fn step(&mut self, step: impl FnOnce(&mut Disk, i64)) {
        self.now += 1;
        step(&mut self.disk, self.now);
        let mut cut = self.disk;
        cut.cut(&mut self.dice);
        self.cuts.push(cut);
    }

    fn start(&mut self) -> Verdict {
        let verdict = self.disk.judge();
        if verdict == Verdict::New {
            self.step(|disk, now| disk.synced = Some((Witness::default(), now)));
        }
        let (beside, inode) = (self.disk.beside(), self.disk.inode);
        self.step(|disk, _| disk.place = disk.place.next(verdict, beside, inode));
        self.step(|disk, now| disk.synced = Some((Witness::of(&disk.place, disk.written), now)));
        verdict
    }

    fn work(&mut self) {
        for _ in 0..self.dice.roll(8) {
            self.step(|disk, _| disk.written += 1);
            if self.dice.roll(3) == 0 {
                self.step(|disk, now| {
                    disk.unsynced = Some((Witness::of(&disk.place, disk.written), now));
                });
            }
        }
    }

    fn stop(&mut self) {
        self.step(|disk, now| {
            (disk.synced, disk.unsynced) =
                (Some((Witness::of(&disk.place, disk.written), now)), None);
        });
        self.step(|disk, _| disk.place.put_away = disk.synced.map(|(_, changed)| changed));
    }
}

fn lives() -> impl Iterator<Item = Life> {
    (0..300).map(|seed| Life { disk: Disk::new(), now: 0, dice: Dice(seed), cuts: Vec::new() })
}

/// G15: wherever a process is cut off, also at each step of many starts in turn, what is left is the
/// store that was left there.
#[test]
fn g15_no_cut_looks_like_a_copy_that_was_put_back() {
    for mut life in lives() {
        for _ in 0..12 {
            let from = life.cuts.len();
            let verdict = life.start();
            assert!(matches!(verdict, Verdict::New | Verdict::Same), "{verdict:?}");
            life.work();
            if life.dice.roll(2) == 0 {
                life.stop();
            }
            for cut in &life.cuts[from..] {
                assert!(!matches!(cut.judge(), Verdict::Restored(_)), "{cut:?}");
            }
            // Goes on from any of them.
            let at = from + life.dice.roll((life.cuts.len() - from) as u64) as usize;
            life.disk = life.cuts[at];
        }
    }
}

/// G15: the database of any earlier moment, put back beside the witness of now, is told, once a later
/// start or a later note has come; so is one that lies elsewhere, or has no witness.
#[test]
fn g15_each_older_copy_is_told() {
    for mut life in lives() {
        let mut older: Vec<(usize, Disk)> = Vec::new();
        for run in 0..12 {
            let from = life.cuts.len();
            assert!(!matches!(life.start(), Verdict::Restored(_)));
            life.work();
            match life.dice.roll(2) {
                0 => life.stop(),
                _ => life.disk.cut(&mut life.dice),
            }
            let now = life.disk;
            let (noted, _) = now.synced.unwrap();
            for (of, old) in &older {
                let back = Disk { place: old.place, written: old.written, ..now };
                assert!(*of < run && matches!(back.judge(), Verdict::Restored(_)), "{old:?}");
            }
            for old in life.cuts[from..].iter().filter(|old| old.written < noted.written) {
                let back = Disk { place: old.place, written: old.written, ..now };
                assert_eq!(back.judge(), Verdict::Restored(Restored::OtherTime), "{old:?}");
            }
            let moved = Disk { inode: 8, ..now };
            assert_eq!(moved.judge(), Verdict::Restored(Restored::Moved));
            let alone = Disk { synced: None, ..now };
            assert_eq!(alone.judge(), Verdict::Restored(Restored::Alone));
            older.extend(life.cuts[from..].iter().map(|cut| (run, *cut)));
        }
    }
}

/// G15: both files of a store that was stopped, put back in place, are told by the witness's time; and
/// whatever is told is a store of its own from its next start on.
#[test]
fn g15_both_files_put_back_are_told_by_the_time() {
    for mut life in lives() {
        life.start();
        life.work();
        life.stop();
        let copy = life.disk;
        life.start();
        life.work();
        let put_back = copy.synced.map(|(witness, _)| (witness, life.now + 1));
        life.disk = Disk { synced: put_back, ..copy };
        assert_eq!(life.start(), Verdict::Restored(Restored::Changed));
        life.work();
        life.disk.cut(&mut life.dice);
        assert_eq!(life.start(), Verdict::Same);
    }
}

/// A store of a program that knew of no witness, put back beside one, is told too.
#[test]
fn g15_an_older_format_beside_a_witness_is_told() {
    let mut life = lives().next().unwrap();
    life.start();
    let old = Disk { place: Place::default(), ..life.disk };
    assert_eq!(old.judge(), Verdict::Restored(Restored::OtherTime));
}

#[test]
fn a_witness_that_was_changed_is_none() {
    let witness = Witness { starts: 3, inode: u64::MAX, written: 1 << 40 };
    let text = witness.encode();
    assert!(text.len() < 512 && text.len() == Witness::default().encode().len());
    assert_eq!(Witness::decode(&text), Some(witness));
    for at in 0..text.len() {
        let mut other = text.clone().into_bytes();
        other[at] ^= 1;
        assert_eq!(Witness::decode(&String::from_utf8(other).unwrap()), None, "{at}");
        assert_eq!(Witness::decode(&text[..at]), None);
    }
}
