//! Power cuts and kills at any call on the store's files: faults G1, G3, G4, G5.
//!
//! A real server is recorded once; disks are made of the record as a cut could have left them, and
//! the store on each is opened and looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use impp_protocol::MessageId;
use impp_protocol::command::{Message, Outcome};
use impp_tests::dice::Dice;
use impp_tests::peer::message;
use impp_tests::power::calls::{Call, What};
use impp_tests::power::disk::{Disk, Loss};
use impp_tests::power::found::check;
use impp_tests::power::life::{Asked, Fact, Life};
use impp_tests::power::{Recorder, now, order};
use impp_tests::wire::Dial;
use impp_tests::{Peer, Server};

/// Cuts that are looked at, and those of the long run.
const CUTS: usize = 200;
const CUTS_LONG: usize = 5000;
/// Calls at which a kill is looked at each time: the making of the store, and some transactions.
const KILLS: usize = 400;
/// Of the others, those of one part are looked at, which is drawn.
const KILL_PARTS: usize = 128;
/// Cuts after which the server itself is started.
const STARTS: usize = 5;
/// Room for the images of all plays that run side by side.
const IMAGES_BYTES: u64 = 512 * 1024 * 1024;
/// Of SQLite's index of the write-ahead log.
const INDEX_BYTES: usize = 32 * 1024;
const LOSSES: [Loss; 4] = [Loss::All, Loss::Changes, Loss::Sectors, Loss::After];

/// The life that all plays here look at. None if it cannot be recorded.
fn life() -> Option<&'static Life> {
    static LIFE: OnceLock<Option<Life>> = OnceLock::new();
    let record = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(Life::record())
    };
    LIFE.get_or_init(record).as_ref()
}

#[expect(clippy::print_stdout, reason = "beside the test if it fails, where it is captured")]
fn seeded() -> Dice {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).unwrap();
    let seed = u64::from_be_bytes(seed);
    println!("seed {seed}");
    Dice::new(seed)
}

/// Images are made in memory if there is room for those of all plays: they need not last.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    let mut folder = tempfile::Builder::new();
    folder.prefix("impp-cut-");
    match free > IMAGES_BYTES {
        true => folder.tempdir_in(memory).unwrap(),
        false => folder.tempdir().unwrap(),
    }
}

/// Writes what is left below a folder, as it was below the server's.
fn write(life: &Life, left: &BTreeMap<PathBuf, Vec<u8>>, folder: &Path) {
    for (path, bytes) in left {
        let path = folder.join(life.place(path));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// An image that does not pass.
struct Bad {
    words: String,
    image: BTreeMap<PathBuf, Vec<u8>>,
}

/// Looks at these cuts, in their order, on a disk that does as it is told or, by what `lies` says of
/// a call, has not done it: the first that does not pass.
fn look_at(
    life: &Life,
    cuts: &[(usize, Loss)],
    dice: &mut Dice,
    lies: impl Fn(&What) -> bool,
) -> Result<(), Bad> {
    let mut disk = Disk::default();
    let mut cuts = cuts.iter().peekable();
    for (at, call) in life.calls.iter().enumerate() {
        if !lies(&call.what) {
            disk.apply(&call.what);
        }
        while let Some((_, loss)) = cuts.next_if(|(cut, _)| *cut == at) {
            let (image, folder) = (disk.cut(*loss, dice), folder());
            write(life, &image, folder.path());
            let store = folder.path().join(life.place(&life.store));
            if store.exists() && dice.roll(2) == 0 {
                // Of the log's index anything may be left: it is written whenever the system likes.
                let index = vec![dice.roll(256) as u8; INDEX_BYTES];
                std::fs::write(store.join("store.sqlite-shm"), index).unwrap();
            }
            if let Err(fault) = check(&store, &life.facts, life.moment(at)) {
                let words = format!("{loss:?} after call {at}, {:?}: {fault:?}", call.what);
                return Err(Bad { words, image });
            }
        }
    }
    assert!(cuts.next().is_none(), "not in their order");
    Ok(())
}

/// After each of these cuts all is as it has to be. The newest image where it is not stays
/// for who looks into it.
fn holds(life: &Life, cuts: &[(usize, Loss)], mut dice: Dice) {
    if let Err(bad) = look_at(life, cuts, &mut dice, |_| false) {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("power-cut");
        let _ = std::fs::remove_dir_all(&kept);
        write(life, &bad.image, &kept);
        panic!("{}; the image: {}", bad.words, kept.display());
    }
}

/// No transaction begins before the former one's sync, also none that trims or sweeps; no page is
/// copied from the log before the log's sync, and the log is not begun anew before that of the copy.
#[test]
fn g3_each_transaction_begins_after_the_sync_of_the_former_one() {
    let Some(life) = life() else { return };
    let seen = order::check(&life.store, &life.calls).unwrap();
    let by_turns = life.facts.iter().filter(|fact| fact.message().is_none()).count();
    assert!(seen.transactions > by_turns, "{seen:?} of {by_turns} at least");
    assert!(seen.copied > 100 && seen.begun > 5 && seen.told > 0, "{seen:?}");
    all_was_written(life);
}

/// What was recorded holds what comes behind an answer too: the index of conversations, and what was
/// swept of an account that went.
fn all_was_written(life: &Life) {
    let (mut disk, mut dice) = (Disk::default(), seeded());
    life.calls.iter().for_each(|call| disk.apply(&call.what));
    let folder = folder();
    write(life, &disk.cut(Loss::Killed, &mut dice), folder.path());
    let database = folder.path().join(life.place(&life.store)).join("store.sqlite");
    let store = rusqlite::Connection::open(database).unwrap();
    let count = |sql: &str| store.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(count("SELECT count(*) FROM talk") > 0);
    let swept = count("SELECT count(*) FROM item WHERE log NOT IN (SELECT id FROM log)");
    assert_eq!((swept, count("SELECT count(*) FROM purged")), (0, 0));
}

/// Cuts with a loss by chance each: half of them at any call, half of them at a sync or next to it.
fn cuts(life: &Life, count: usize, dice: &mut Dice) -> Vec<(usize, Loss)> {
    let is_sync = |at: &usize| matches!(life.calls[*at].what, What::Sync(_));
    let syncs: Vec<usize> = (0..life.calls.len()).filter(is_sync).collect();
    let place = |n: usize| match n % 2 {
        0 => dice.roll(life.calls.len()),
        _ => (dice.pick(&syncs) + dice.roll(3)).clamp(1, life.calls.len()) - 1,
    };
    let mut places: Vec<usize> = (0..count).map(place).collect();
    places.sort_unstable();
    places.into_iter().map(|at| (at, *dice.pick(&LOSSES))).collect()
}

/// Whatever of the writes that were not synced a power cut leaves, torn or out of order, from the
/// very first start on: the store opens, what was answered is there, and nothing is there by half.
#[test]
fn g3_g5_what_was_answered_is_there_after_a_power_cut() {
    let Some(life) = life() else { return };
    let mut dice = seeded();
    holds(life, &cuts(life, CUTS, &mut dice), dice);
}

/// The same for many more cuts. Each part has a seed of its own, so that it is seen how far it is.
#[test]
#[ignore = "takes minutes"]
fn what_was_answered_is_there_after_five_thousand_power_cuts() {
    let Some(life) = life() else { return };
    for _ in 0..CUTS_LONG / CUTS {
        let mut dice = seeded();
        holds(life, &cuts(life, CUTS, &mut dice), dice);
    }
}

/// Killed at a call on the store's files, in the midst of it: the same. Each time at all of the first calls,
/// and at a drawn part of the others.
#[test]
fn g1_what_was_answered_is_there_after_a_kill_at_each_call() {
    let Some(life) = life() else { return };
    let mut dice = seeded();
    let part = dice.roll(KILL_PARTS);
    let is_looked_at = |at: &usize| *at < KILLS || at % KILL_PARTS == part;
    let kills = (0..life.calls.len()).filter(is_looked_at).map(|at| (at, Loss::Killed));
    holds(life, &kills.collect::<Vec<_>>(), dice);
}

/// The same for all calls.
#[test]
#[ignore = "takes minutes"]
fn what_was_answered_is_there_after_a_kill_at_any_call() {
    let Some(life) = life() else { return };
    let kills: Vec<_> = (0..life.calls.len()).map(|at| (at, Loss::Killed)).collect();
    holds(life, &kills, seeded());
}

/// A cut at each call of the very first start, when neither the database nor its folder is there yet:
/// the next start makes it, or finds it whole.
#[test]
fn g4_a_cut_at_each_call_of_the_first_start_leaves_a_store_or_none() {
    let Some(life) = life() else { return };
    let mut dice = seeded();
    let made = life.calls.iter().position(|call| matches!(call.what, What::Rename { .. })).unwrap();
    let cuts: Vec<_> = (0..made + 50).map(|at| (at, *dice.pick(&LOSSES))).collect();
    holds(life, &cuts, dice);
}

/// A disk that says of one file's syncs, or of a folder's, that they are done and they are not: the
/// cuts find that out. So they find what they are there for.
#[test]
fn a_sync_that_is_missing_is_found() {
    let Some(life) = life() else { return };
    let folder = life.store.parent().unwrap();
    let files = [life.store.join("store.sqlite"), life.store.join("store.sqlite-wal")];
    for path in files.iter().map(PathBuf::as_path).chain([&*life.store, folder]) {
        let mut dice = seeded();
        let cuts = cuts(life, CUTS, &mut dice);
        let lies = |call: &What| matches!(call, What::Sync(synced) if synced == path);
        let found = look_at(life, &cuts, &mut dice, lies);
        assert!(found.is_err(), "without the syncs of {}", path.display());
    }
}

/// The store is in folders that are not there yet, or in one that was just made by somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn g4_a_store_in_new_folders_is_found_after_a_power_cut() {
    for made_before in [false, true] {
        let Some(recorder) = Recorder::new() else { return };
        let mut server = Server::with().under(recorder.command()).start();
        server.stop();
        let store = server.data().join("deep/new/store");
        server.set("server.store", store.display().to_string());
        let mut calls = Vec::new();
        if made_before {
            std::fs::create_dir_all(&store).unwrap();
            calls.push(Call { at: now(), what: What::Folder(store.clone()) });
        }
        server.restart();
        let asked = now();
        server.add("dave");
        let facts = vec![Fact { what: Asked::Account("dave"), asked, answered: now() + 1 }];
        server.kill9();
        calls.extend(recorder.calls(&store).await);
        let folder = server.data().to_owned();
        let life = Life { folder, store, calls, facts, profiles: BTreeMap::new() };
        let mut dice = seeded();
        let cut = |at| [(at, Loss::All), (at, *dice.pick(&LOSSES))];
        let cuts: Vec<_> = (0..life.calls.len()).flat_map(cut).collect();
        tokio::task::spawn_blocking(move || holds(&life, &cuts, dice)).await.unwrap();
    }
}

/// The server itself comes up after some of the cuts: what is sent again is known where it was
/// answered, and whatever was sent is in the inbox once.
#[tokio::test(flavor = "multi_thread")]
async fn g3_after_a_power_cut_what_is_sent_again_is_there_once() {
    let Some(life) = tokio::task::spawn_blocking(life).await.unwrap() else { return };
    let mut server = Server::quickstart();
    server.stop();
    let mut dice = seeded();
    let begun = life.calls.iter().position(|call| call.at > life.facts[0].answered).unwrap();
    let mut places: Vec<usize> =
        (0..STARTS).map(|_| begun + dice.roll(life.calls.len() - begun)).collect();
    places.sort_unstable();
    let mut disk = Disk::default();
    for (at, call) in life.calls.iter().enumerate() {
        disk.apply(&call.what);
        if places.binary_search(&at).is_err() {
            continue;
        }
        std::fs::remove_dir_all(server.data().join("store")).unwrap();
        write(life, &disk.cut(*dice.pick(&LOSSES), &mut dice), server.data());
        server.restart();
        send_again(life, &server, at).await;
        server.stop();
    }
}

/// Sends again what was sent one by one, whether it had been answered at call `at` or not.
async fn send_again(life: &Life, server: &Server, at: usize) {
    let sign_in = async |name: &str| {
        let wire = Dial::to(server).connect().await.unwrap();
        Peer::over(wire, &life.profiles[name], 1).await.unwrap()
    };
    let (mut alice, mut bob) = (sign_in("alice").await, sign_in("bob").await);
    let mut ids = Vec::new();
    for fact in &life.facts {
        if let Asked::Send { id, text, .. } = &fact.what
            && text.starts_with("by turns")
        {
            let again = Message { id: *id, ..message("bob@localhost", text) };
            let outcome = alice.done(again).await.outcome.unwrap();
            let answered = fact.answered < life.moment(at).next;
            assert!(outcome == Outcome::Duplicate || !answered, "{text} was lost at call {at}");
            ids.push(*id);
        }
    }
    let inbox: Vec<MessageId> = bob.inbox().await.iter().map(|message| message.id).collect();
    for id in ids {
        let count = inbox.iter().filter(|found| **found == id).count();
        let kept = !life.facts.iter().any(|fact| fact.takes_away(&id));
        assert!(count == 1 || (count == 0 && !kept), "{count} of {id:02x?} at call {at}");
    }
}
