use std::time::Duration;

use impp_protocol::{Code, Error};

use super::sending::BEFORE_SUSPECT;
use super::*;

const A_DAY: Duration = Duration::from_secs(86_400);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000_000 + seconds * 1000)
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn queue() -> Queue {
    let backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(300) };
    let limits = Limits {
        items_max: 1000,
        bytes_max: 100_000,
        memory_bytes_max: 1000,
        sender_items_max: 1000,
        sender_bytes_max: 100_000,
        backoff,
    };
    Queue::new(limits)
}

fn item(ticket: Ticket, from: &str, to: &str) -> Item {
    let (from, to) = (address(from), address(to));
    let id = MessageId([ticket as u8; 16]);
    Item { bytes: 100, ..Item::new(ticket, id, from, to, at(0), at(0).after(A_DAY)) }
}

fn add(queue: &mut Queue, ticket: Ticket, from: &str, to: &str) {
    queue.reserve(item(ticket, from, to)).unwrap();
    queue.ready(ticket, Some(Bytes::from_static(b"body")));
}

fn send(queue: &mut Queue, now: Timestamp) -> Option<Ticket> {
    let sending = queue.next_send(now)?;
    queue.goes_out(sending.ticket);
    Some(sending.ticket)
}

fn sent(queue: &mut Queue, now: Timestamp) -> Vec<Ticket> {
    std::iter::from_fn(|| send(queue, now)).collect()
}

fn refusal(code: Code) -> Error {
    Error::new(code, "no")
}

/// The end of the only message that has one.
fn ended(queue: &mut Queue) -> (Ticket, Place) {
    let ending = queue.next_ending().unwrap();
    queue.remove(ending.ticket);
    assert_eq!(queue.next_ending(), None);
    (ending.ticket, ending.place)
}

fn cut_cause() -> Cause {
    Cause::here(Code::Unreachable, "the link was cut")
}

#[test]
fn messages_of_a_pair_go_one_after_the_other_and_others_beside_them() {
    let mut queue = queue();
    add(&mut queue, 1, "a@a.example", "x@b.example");
    add(&mut queue, 2, "a@a.example", "x@b.example");
    add(&mut queue, 3, "a@a.example", "y@b.example");
    assert_eq!(sent(&mut queue, at(0)), [1, 3]);
    queue.answered(at(0), 1, Ok(()), 0);
    assert_eq!(ended(&mut queue), (1, Place::Ended(Fate::Delivered, None)));
    assert_eq!(sent(&mut queue, at(0)), [2]);
}

#[test]
fn a_message_whose_place_is_taken_holds_its_pair_until_it_is_on_the_disk() {
    let mut queue = queue();
    queue.reserve(item(1, "a@a.example", "x@b.example")).unwrap();
    add(&mut queue, 2, "a@a.example", "x@b.example");
    assert_eq!(sent(&mut queue, at(0)), []);
    queue.ready(1, None);
    assert_eq!(sent(&mut queue, at(0)), [1]);
    queue.reserve(item(3, "b@a.example", "x@b.example")).unwrap();
    add(&mut queue, 4, "b@a.example", "x@b.example");
    queue.remove(3);
    assert_eq!(sent(&mut queue, at(0)), [4]);
}

#[test]
fn f11_a_transient_refusal_holds_that_pair_alone() {
    let mut queue = queue();
    add(&mut queue, 1, "a@a.example", "x@b.example");
    add(&mut queue, 2, "a@a.example", "x@b.example");
    add(&mut queue, 3, "a@a.example", "y@b.example");
    assert_eq!(sent(&mut queue, at(0)), [1, 3]);
    let wait = Duration::from_secs(7);
    queue.answered(at(0), 1, Err(refusal(Code::Full).by(By::Recipient).retry_after(wait)), 0);
    queue.answered(at(0), 3, Ok(()), 0);
    assert_eq!(sent(&mut queue, at(6)), []);
    let standing = queue.standing(&address("a@a.example"), MessageId([1; 16])).unwrap();
    assert_eq!(standing.next_try, Some(at(7)));
    assert_eq!(standing.cause.unwrap().by, By::Recipient);
    assert_eq!(sent(&mut queue, at(7)), [1]);
}

#[test]
fn a_permanent_refusal_is_the_end_said_by_the_other_home_server() {
    let mut queue = queue();
    add(&mut queue, 1, "a@a.example", "x@b.example");
    sent(&mut queue, at(0));
    queue.answered(at(0), 1, Err(refusal(Code::Refused)), 0);
    let cause = Cause { by: By::Home, ..Cause::here(Code::Refused, "no") };
    assert_eq!(ended(&mut queue), (1, Place::Ended(Fate::Failed, Some(cause))));
    assert!(queue.is_empty());
}

/// Who answers for an address has messages sent on to the same user, up or down the domain that
/// the sender has named, and to nobody else.
#[test]
fn e10_a_redirect_is_followed_to_the_same_user_of_a_nested_domain_only() {
    let sent_to = |recipient: &str, to: &str| {
        let item = item(1, "a@a.example", recipient);
        Item { to: address(to), ..item }
    };
    for (recipient, to, new, followed) in [
        ("x@b.example", "x@b.example", "x@people.b.example", true),
        ("x@people.b.example", "x@people.b.example", "x@b.example", true),
        ("x@b.example", "x@people.b.example", "x@b.example", true),
        ("x@b.example", "x@b.example", "x@b.example", true),
        ("x@b.example", "x@b.example", "y@b.example", false),
        ("x@b.example", "x@b.example", "y@people.b.example", false),
        ("x@b.example", "x@b.example", "x@c.example", false),
        ("x@b.example", "x@b.example", "x@notb.example", false),
        ("x@b.example", "x@b.example", "a@a.example", false),
        ("x@one.b.example", "x@b.example", "x@two.b.example", false),
        ("x@b.example", "x@one.b.example", "x@two.b.example", false),
    ] {
        let mut queue = queue();
        queue.insert(sent_to(recipient, to));
        queue.ready(1, None);
        sent(&mut queue, at(0));
        let moved = Error { address: Some(address(new)), ..refusal(Code::Moved) };
        queue.answered(at(0), 1, Err(moved), 0);
        match ended(&mut queue).1 {
            Place::Moved(place) => {
                assert!(followed, "{recipient} {to} {new}");
                assert_eq!(place, address(new));
            }
            Place::Ended(fate, Some(cause)) => {
                assert!(!followed, "{recipient} {to} {new}");
                assert_eq!((fate, cause.code, cause.by), (Fate::Failed, Code::Moved, By::Home));
                assert_eq!(cause.address, Some(address(new)));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What an earlier version sent on its way to a stranger goes no further.
#[test]
fn e10_what_is_on_its_way_to_a_stranger_ends_when_it_is_read_back() {
    for (maybe_taken, expected) in [(false, Fate::Failed), (true, Fate::Unknown)] {
        let mut queue = queue();
        let item = item(1, "a@a.example", "x@b.example");
        queue.restore(Item { to: address("victim@c.example"), maybe_taken, ..item });
        assert_eq!(sent(&mut queue, at(0)), []);
        let (_, Place::Ended(fate, Some(cause))) = ended(&mut queue) else { panic!("no end") };
        assert_eq!((fate, cause.address), (expected, Some(address("victim@c.example"))));
    }
}

#[test]
fn f11_what_was_out_when_a_link_was_cut_goes_again_alone_and_after_the_others() {
    let mut queue = queue();
    for (ticket, from) in [(1, "a@a.example"), (2, "b@a.example"), (3, "c@a.example")] {
        add(&mut queue, ticket, from, "x@b.example");
    }
    assert_eq!(send(&mut queue, at(0)), Some(1));
    assert_eq!(send(&mut queue, at(0)), Some(2));
    queue.cut(at(0), 1, cut_cause(), 0);
    queue.cut(at(0), 2, cut_cause(), 0);
    assert_eq!(sent(&mut queue, at(0)), [3]);
    queue.answered(at(0), 3, Ok(()), 0);
    // One at a time, and nothing beside it.
    assert_eq!(send(&mut queue, at(0)), Some(1));
    add(&mut queue, 4, "d@a.example", "x@b.example");
    assert_eq!(send(&mut queue, at(0)), None);
    queue.cut(at(0), 1, cut_cause(), 999);
    assert_eq!(send(&mut queue, at(0)), Some(4));
    queue.answered(at(0), 4, Ok(()), 0);
    assert_eq!(send(&mut queue, at(0)), Some(2));
    queue.answered(at(0), 2, Ok(()), 0);
    // It waits longer from cut to cut.
    assert_eq!(send(&mut queue, at(0)), None);
    assert_eq!(send(&mut queue, at(2)), Some(1));
}

#[test]
fn f11_a_suspected_message_gets_its_turn_however_many_others_wait() {
    let mut queue = queue();
    add(&mut queue, 1, "a@a.example", "x@b.example");
    sent(&mut queue, at(0));
    queue.cut(at(0), 1, cut_cause(), 0);
    for ticket in 2..=200 {
        add(&mut queue, ticket, &format!("s{ticket}@a.example"), &format!("r{ticket}@b.example"));
    }
    let mut order = Vec::new();
    while let Some(ticket) = send(&mut queue, at(0)) {
        queue.answered(at(0), ticket, Ok(()), 0);
        order.push(ticket);
    }
    let place = order.iter().position(|ticket| *ticket == 1).unwrap();
    assert_eq!((place, order.len()), (BEFORE_SUSPECT as usize, 200));
}

/// E9: what cuts every link is set aside from the first time on: it is let out alone, ever more seldom, and has
/// its end with its time; then what stands behind it goes. Others go meanwhile.
#[test]
fn e9_f11_what_cuts_every_link_has_an_end_and_is_in_nobodys_way_until_then() {
    let (mut queue, mut cuts, mut others) = (queue(), Vec::new(), 0);
    let a_day = A_DAY.as_secs();
    add(&mut queue, 1, "a@a.example", "x@b.example");
    let later = at(2 * a_day);
    queue.reserve(Item { until: later, ..item(2, "a@a.example", "x@b.example") }).unwrap();
    queue.ready(2, None);
    for now in (0..=a_day).step_by(10) {
        let other = 3 + now;
        add(&mut queue, other, "b@a.example", "x@b.example");
        while let Some(ticket) = send(&mut queue, at(now)) {
            if ticket == 1 {
                let longest = (1000 << cuts.len().min(20)).min(300_000);
                cuts.push(now);
                queue.cut(at(now), 1, cut_cause(), longest);
                continue;
            }
            assert_eq!(ticket, other, "at {now}");
            queue.answered(at(now), ticket, Ok(()), 0);
            assert_eq!(ended(&mut queue), (other, Place::Ended(Fate::Delivered, None)));
            others += 1;
        }
        queue.expire(at(now));
    }
    assert_eq!(others, a_day / 10 + 1);
    let waits = |cuts: &[u64]| cuts[1] - cuts[0];
    assert!(waits(&cuts) < 30 && waits(&cuts[cuts.len() - 2..]) >= 300, "{cuts:?}");
    assert_eq!(ended(&mut queue), (1, Place::Ended(Fate::Unknown, Some(cut_cause()))));
    assert_eq!(send(&mut queue, at(a_day + 300)), Some(2));
}

#[test]
fn d_5_5_4_senders_take_turns_and_so_do_a_senders_recipients() {
    let mut queue = queue();
    for ticket in 1..=100 {
        add(&mut queue, ticket, "flood@a.example", &format!("r{ticket}@b.example"));
    }
    add(&mut queue, 101, "small@a.example", "x@b.example");
    add(&mut queue, 102, "other@a.example", "x@b.example");
    let first: Vec<Ticket> = (0..4).filter_map(|_| send(&mut queue, at(0))).collect();
    assert_eq!(first, [1, 101, 102, 2]);
}

#[test]
fn messages_out_to_one_recipient_are_bounded_and_others_are_not_held_by_that() {
    let mut queue = queue();
    for ticket in 1..=20 {
        add(&mut queue, ticket, &format!("s{ticket}@a.example"), "x@b.example");
    }
    add(&mut queue, 21, "s21@a.example", "y@b.example");
    let out = sent(&mut queue, at(0));
    assert_eq!(out.len(), PER_RECIPIENT_MAX + 1);
    assert!(out.contains(&21));
    queue.answered(at(0), 1, Ok(()), 0);
    queue.answered(at(0), 2, Ok(()), 0);
    assert_eq!(sent(&mut queue, at(0)).len(), 2);
}

#[test]
fn r4_2_1_at_the_end_of_the_time_each_message_has_its_true_fate() {
    let mut queue = queue();
    let fate = |queue: &mut Queue| match ended(queue) {
        (_, Place::Ended(fate, cause)) => (fate, cause.map(|cause| cause.code)),
        (_, moved) => panic!("{moved:?}"),
    };
    let late = at(0).after(A_DAY);
    // Never sent.
    add(&mut queue, 1, "a@a.example", "x@b.example");
    queue.trouble(Cause::here(Code::Untrusted, "a wrong certificate"), Some(at(60)));
    queue.expire(late);
    assert_eq!(fate(&mut queue), (Fate::Failed, Some(Code::Untrusted)));
    // Sent whole, never answered.
    add(&mut queue, 2, "a@a.example", "x@b.example");
    sent(&mut queue, at(0));
    queue.cut(at(0), 2, cut_cause(), 0);
    queue.expire(late);
    assert_eq!(fate(&mut queue), (Fate::Unknown, Some(Code::Unreachable)));
    // Taken for sending, and not written before the link ended.
    add(&mut queue, 3, "a@a.example", "x@b.example");
    queue.next_send(at(0)).unwrap();
    queue.cut(at(0), 3, cut_cause(), 0);
    queue.expire(late);
    assert_eq!(fate(&mut queue), (Fate::Failed, Some(Code::Unreachable)));
    // Sent and refused for now.
    add(&mut queue, 4, "a@a.example", "x@b.example");
    sent(&mut queue, at(0));
    queue.answered(at(0), 4, Err(refusal(Code::Full)), 0);
    queue.expire(late);
    assert_eq!(fate(&mut queue), (Fate::Failed, Some(Code::Full)));
    // Of no use any more.
    let expires = Some(at(5));
    queue.reserve(Item { expires, ..item(5, "a@a.example", "x@b.example") }).unwrap();
    queue.ready(5, None);
    queue.in_vain();
    queue.expire(at(5));
    assert_eq!(fate(&mut queue), (Fate::Expired, None));
    // The home finds that it is of no use any more.
    add(&mut queue, 7, "a@a.example", "x@b.example");
    sent(&mut queue, at(0));
    queue.answered(at(0), 7, Err(refusal(Code::Expired)), 0);
    assert_eq!(fate(&mut queue), (Fate::Expired, None));
    // From before a restart.
    queue.restore(Item { maybe_taken: true, ..item(6, "a@a.example", "x@b.example") });
    queue.fail_all(&Cause::here(Code::UnknownDomain, "no such domain"));
    assert_eq!(fate(&mut queue), (Fate::Unknown, Some(Code::UnknownDomain)));
    assert!(queue.is_empty() && queue.next_deadline().is_none() && !queue.wants_link());
}

#[test]
fn g12_what_was_not_tried_since_the_start_does_not_end_however_late_it_is() {
    let late = at(1_000_000);
    let restored = |ticket: Ticket| Item {
        expires: Some(at(5)),
        ..item(ticket, "a@a.example", if ticket == 2 { "y@b.example" } else { "x@b.example" })
    };
    let mut queue = queue();
    queue.restore(restored(1));
    queue.restore(restored(2));
    queue.expire(late);
    assert!(queue.next_ending().is_none() && queue.wants_link());
    assert_eq!(queue.next_deadline(), None, "it would be due for ever");
    // One goes out, and is not answered; the other could not be tried.
    assert_eq!(send(&mut queue, late), Some(1));
    queue.goes_out(1);
    queue.cut(late, 1, cut_cause(), 0);
    queue.expire(late);
    assert_eq!(ended(&mut queue), (1, Place::Ended(Fate::Unknown, Some(cut_cause()))));
    assert!(queue.next_ending().is_none());
    // The domain cannot be reached: that was its try.
    queue.trouble(cut_cause(), None);
    assert_eq!(queue.next_deadline(), Some(at(5)));
    queue.expire(late);
    assert_eq!(ended(&mut queue), (2, Place::Ended(Fate::Expired, None)));
    // One that comes after that has its own.
    queue.restore(restored(3));
    queue.expire(late);
    assert!(queue.next_ending().is_none());
}

#[test]
fn g12_what_stands_behind_a_refused_message_ends_in_its_time() {
    let (a, x) = ("a@a.example", "x@b.example");
    for unreadable in [false, true] {
        let mut queue = queue();
        add(&mut queue, 1, a, x);
        queue.reserve(Item { expires: Some(at(5)), ..item(2, a, x) }).unwrap();
        queue.ready(2, None);
        queue.next_send(at(0)).unwrap();
        queue.expire(at(6));
        assert!(queue.next_ending().is_none(), "it was not tried");
        match unreadable {
            true => queue.unsent(at(6), 1, 0),
            false => queue.answered(at(6), 1, Err(refusal(Code::Full)), 0),
        }
        queue.expire(at(6));
        assert_eq!(ended(&mut queue), (2, Place::Ended(Fate::Expired, None)));
        // One that cannot be read ends too.
        queue.expire(at(0).after(A_DAY));
        assert_eq!(ended(&mut queue).0, 1);
    }
}

#[test]
fn what_is_out_does_not_expire_before_its_answer() {
    let mut queue = queue();
    add(&mut queue, 1, "a@a.example", "x@b.example");
    sent(&mut queue, at(0));
    queue.expire(at(0).after(A_DAY));
    assert_eq!(queue.next_ending(), None);
    queue.answered(at(0).after(A_DAY), 1, Ok(()), 0);
    assert_eq!(ended(&mut queue), (1, Place::Ended(Fate::Delivered, None)));
}

#[test]
fn the_queue_and_its_memory_are_bounded() {
    let mut queue = queue();
    for ticket in 0..1000 {
        queue.reserve(item(ticket, "a@a.example", "x@b.example")).unwrap();
        queue.ready(ticket, Some(Bytes::from(vec![0; 100])));
    }
    assert_eq!(queue.reserve(item(1000, "a@a.example", "x@b.example")), Err(Full::Domain));
    assert_eq!(queue.items.values().filter(|item| item.body.is_some()).count(), 10);
    queue.remove(0);
    queue.reserve(item(1000, "a@a.example", "x@b.example")).unwrap();
}

#[test]
fn an_end_that_is_not_on_the_disk_yet_holds_its_pair() {
    let mut queue = queue();
    add(&mut queue, 1, "a@a.example", "x@b.example");
    add(&mut queue, 2, "a@a.example", "x@b.example");
    sent(&mut queue, at(0));
    queue.answered(at(0), 1, Ok(()), 0);
    let ending = queue.next_ending().unwrap();
    assert_eq!(sent(&mut queue, at(0)), [], "the order of fates is kept");
    queue.remove(ending.ticket);
    assert_eq!(sent(&mut queue, at(0)), [2]);
}

#[test]
fn c10_what_is_gone_while_it_is_out_gives_its_places_back() {
    let mut queue = queue();
    for ticket in 1..=8 {
        queue.restore(item(ticket, &format!("s{ticket}@a.example"), "x@b.example"));
    }
    for ticket in sent(&mut queue, at(0)) {
        queue.remove(ticket);
    }
    assert!(queue.is_empty() && !queue.wants_link());
    add(&mut queue, 9, "alice@a.example", "x@b.example");
    assert_eq!(sent(&mut queue, at(0)), [9]);
    // A suspect as well.
    queue.cut(at(0), 9, cut_cause(), 0);
    assert_eq!(send(&mut queue, at(0)), Some(9));
    queue.forget_sender(&address("alice@a.example"));
    add(&mut queue, 10, "b@a.example", "y@b.example");
    assert_eq!(sent(&mut queue, at(0)), [10]);
}

#[test]
fn d_5_5_4_a_pair_that_waits_for_a_recipient_takes_nobodys_turn() {
    let mut queue = queue();
    let x = "x@b.example";
    for ticket in 1..=8 {
        add(&mut queue, ticket, &format!("s{ticket}@a.example"), x);
    }
    sent(&mut queue, at(0));
    for ticket in 9..=20 {
        add(&mut queue, ticket, "a@a.example", x);
        sent(&mut queue, at(0));
    }
    add(&mut queue, 21, "b@a.example", x);
    add(&mut queue, 22, "c@a.example", x);
    sent(&mut queue, at(0));
    // The one that a place is given to is gone before it takes it.
    queue.answered(at(0), 1, Ok(()), 0);
    queue.forget_sender(&address("a@a.example"));
    for ticket in 2..=8 {
        queue.answered(at(0), ticket, Ok(()), 0);
    }
    assert_eq!(sent(&mut queue, at(0)), [21, 22]);
}

#[test]
fn one_senders_share_of_the_places_is_bounded() {
    let mut queue = queue();
    queue.set_limits(Limits { sender_items_max: 2, ..queue.limits });
    add(&mut queue, 1, "a@a.example", "x@b.example");
    add(&mut queue, 2, "a@a.example", "y@b.example");
    assert_eq!(queue.reserve(item(3, "a@a.example", "z@b.example")), Err(Full::Sender));
    add(&mut queue, 4, "b@a.example", "x@b.example");
    queue.remove(1);
    add(&mut queue, 5, "a@a.example", "z@b.example");
}

/// Few large messages fill a queue as well as many small ones.
#[test]
fn e8_one_senders_share_of_the_bytes_is_bounded() {
    let mut queue = queue();
    queue.set_limits(Limits { sender_bytes_max: 250, ..queue.limits });
    add(&mut queue, 1, "a@a.example", "x@b.example");
    add(&mut queue, 2, "a@a.example", "y@b.example");
    assert_eq!(queue.reserve(item(3, "a@a.example", "z@b.example")), Err(Full::Sender));
    add(&mut queue, 4, "b@a.example", "x@b.example");
    queue.remove(1);
    add(&mut queue, 5, "a@a.example", "z@b.example");
    assert_eq!(queue.reserve(item(6, "a@a.example", "z@b.example")), Err(Full::Sender));
}

#[test]
fn r4_2_1_too_late_to_be_known_again_is_unknown_if_it_may_have_been_taken() {
    let mut queue = queue();
    add(&mut queue, 1, "a@a.example", "x@b.example");
    add(&mut queue, 2, "b@a.example", "x@b.example");
    assert_eq!(send(&mut queue, at(0)), Some(1));
    queue.cut(at(0), 1, cut_cause(), 0);
    assert_eq!(send(&mut queue, at(1)), Some(2));
    queue.answered(at(1), 2, Err(refusal(Code::OutOfWindow)), 0);
    assert!(matches!(ended(&mut queue).1, Place::Ended(Fate::Failed, Some(_))));
    assert_eq!(send(&mut queue, at(1)), Some(1));
    queue.answered(at(1), 1, Err(refusal(Code::OutOfWindow)), 0);
    assert!(matches!(ended(&mut queue).1, Place::Ended(Fate::Unknown, Some(_))));
}

/// Whatever happens in whatever order, nothing stays behind once everything is answered.
#[test]
fn nothing_is_ever_stuck() {
    for seed in 0..2000_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut roll = move |sides: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % sides
        };
        let (mut queue, mut now, mut ticket) = (queue(), 0, 0);
        let mut out: Vec<Ticket> = Vec::new();
        let senders = 1 + roll(14);
        let finish = |queue: &mut Queue| {
            while let Some(ending) = queue.next_ending() {
                queue.remove(ending.ticket);
            }
        };
        for _ in 0..roll(300) {
            match roll(13) {
                0..=4 => {
                    ticket += 1;
                    let from = format!("s{}@a.example", roll(senders));
                    let to = format!("x{}@b.example", roll(2));
                    if queue.reserve(item(ticket, &from, &to)).is_ok() {
                        queue.ready(ticket, None);
                    }
                }
                5..=7 => {
                    let some = roll(10) as usize;
                    out.extend((0..some).map_while(|_| send(&mut queue, at(now))));
                }
                8..=9 if !out.is_empty() => {
                    let ticket = out.remove(roll(out.len() as u64) as usize);
                    let refused = roll(4) == 0;
                    let answer = if refused { Err(refusal(Code::Busy)) } else { Ok(()) };
                    queue.answered(at(now), ticket, answer, roll(5000));
                    finish(&mut queue);
                }
                10 if roll(3) == 0 => {
                    for ticket in std::mem::take(&mut out) {
                        queue.cut(at(now), ticket, cut_cause(), roll(5000));
                    }
                }
                11 if roll(3) == 0 => {
                    queue.forget_sender(&address(&format!("s{}@a.example", roll(senders))));
                    out.retain(|ticket| queue.items.contains_key(ticket));
                }
                _ => now += roll(3),
            }
        }
        for ticket in out {
            queue.cut(at(now), ticket, cut_cause(), roll(5000));
        }
        let end = now + 10_000;
        while now < end && !queue.is_empty() {
            now += 1;
            for ticket in sent(&mut queue, at(now)) {
                queue.answered(at(now), ticket, Ok(()), 0);
            }
            finish(&mut queue);
        }
        assert!(queue.is_empty(), "seed {seed}: {} are stuck", queue.len());
        assert!(queue.names.is_empty() && queue.of_sender.is_empty() && queue.bytes == 0);
    }
}

/// What a disabled account has waiting is sent no more: what was never out has failed, of what was
/// nobody knows, and a late answer changes neither. Others go on.
#[test]
fn what_a_disabled_account_has_waiting_comes_to_its_fate_at_once() {
    let mut queue = queue();
    let (a, x, y) = ("a@a.example", "x@b.example", "y@b.example");
    for (ticket, from, to) in [(1, a, x), (2, a, x), (3, a, y), (4, "o@a.example", x)] {
        add(&mut queue, ticket, from, to);
    }
    queue.reserve(item(5, a, y)).unwrap();
    assert_eq!(send(&mut queue, at(0)), Some(1));
    let cause = Cause::here(Code::Refused, "disabled");
    queue.end_sender(&address(a), &cause);
    queue.answered(at(1), 1, Ok(()), 0);
    let mut ends: Vec<_> = std::iter::from_fn(|| queue.next_ending())
        .map(|ending| match ending.place {
            Place::Ended(fate, Some(why)) if why == cause => (ending.ticket, fate),
            other => panic!("{other:?}"),
        })
        .collect();
    ends.sort_by_key(|(ticket, _)| *ticket);
    assert_eq!(ends, [(1, Fate::Unknown), (2, Fate::Failed), (3, Fate::Failed)]);
    [1, 2, 3].into_iter().for_each(|ticket| queue.remove(ticket));
    // Not on the disk yet: it is ended when it is.
    assert_eq!(sent(&mut queue, at(1)), [4]);
    queue.ready(5, None);
    queue.end_sender(&address(a), &cause);
    assert_eq!(ended(&mut queue), (5, Place::Ended(Fate::Failed, Some(cause))));
    queue.answered(at(2), 4, Ok(()), 0);
    assert_eq!(ended(&mut queue).0, 4);
    assert!(queue.is_empty());
}
