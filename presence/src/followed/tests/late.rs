//! What comes late, or by way of another follower.

use super::*;

fn publish_doc(world: &mut World, note: &str, mood: Option<&str>) {
    let mut document = Document::default();
    let mut tuple = impp_protocol::presence::Fields::default();
    tuple.insert(field("status"), "open".into());
    document.tuples.insert(PartId::parse("t").unwrap(), tuple);
    document.person.insert(field("note"), note.into());
    if let Some(mood) = mood {
        document.person.insert(field("mood"), mood.into());
    }
    let patch = Patch::between(&Document::default(), &document);
    let lease = Lease::Until(at(1_000_000_000));
    world.say(patch, lease);
    world.note_views();
}

/// w2 may only see the note. It never saw the mood, and asks whether it was "sick".
#[test]
fn r3_3_3_a_claim_does_not_confirm_what_others_of_the_group_saw() {
    let mut world = World::new(&[Grant::All, Grant::All, Grant::Note]);
    let note = "a long note that all may see ".repeat(8);
    publish_doc(&mut world, &note, Some("sick"));
    (0..3).for_each(|index| world.follow(index, Bond::Contact));
    world.flow();
    (0..3).for_each(|index| world.look(index));
    let sick = world.mirror.version_for(&watcher(0)).unwrap();
    assert_ne!(Some(sick), world.mirror.version_for(&watcher(2)));
    world.advance(10);
    publish_doc(&mut world, &note, None);
    world.flow();
    assert_eq!(world.mirror.version_for(&watcher(0)), world.mirror.version_for(&watcher(2)));
    let session = world.session(&watcher(2));
    let mut base = |guess| {
        let state = Some(SubscriptionState::Active);
        match world.mirror.pull(&watcher(2), session, Held::Claimed(guess), state) {
            Pulled::Told(told) => told.content.unwrap().base(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(base(Version([9; 16])), None, "a wrong guess");
    assert_eq!(base(sick), None, "a right guess is told from a wrong one");
}

/// w0 is new and holds nothing, w1 comes back with the newest; both OKs are on the way together.
#[test]
fn whoever_gets_content_by_the_answer_for_another_is_woken() {
    let mut world = World::new(&[Grant::All, Grant::All]);
    world.publish();
    world.follow(1, Bond::Contact);
    world.flow();
    world.look(1);
    world.cut();
    world.follow(0, Bond::Contact);
    world.link_up();
    assert_eq!(world.ask(10), 2);
    while world.take() {}
    while world.answer(0) {}
    assert!(!world.tell(ROOM), "nothing is owed");
    let mut woken = std::collections::BTreeSet::new();
    while let Some(Frame::Answer(who, answer)) = world.to_mirror.pop_front() {
        woken = world.mirror.answered(world.now, &who, answer, TERMS).wake;
        if who == watcher(0) {
            // Its session looks at once: there is nothing to show yet.
            world.look(0);
            assert_eq!(world.clients[&who].held, Held::Nothing);
        }
    }
    assert!(world.mirror.version_for(&watcher(0)).is_some());
    let session = world.session(&watcher(0));
    assert!(woken.contains(&session.into()), "w0 has content now, and nobody tells its session");
}

/// A domain that was answered for an hour or more ago; then a glitch of DNS.
#[test]
fn a_contact_outlives_a_glitch_of_dns_after_a_long_cut() {
    let mut world = World::new(&[Grant::All]);
    world.publish();
    world.follow(0, Bond::Contact);
    world.flow();
    world.look(0);
    world.cut();
    world.now = world.now.after(Duration::from_secs(4000));
    world.expire();
    world.look(0);
    let error = Error::new(Code::UnknownDomain, "NXDOMAIN");
    world.mirror.unreachable(world.now, &error);
    let kept = world.mirror.follower(&watcher(0)).and_then(|follower| follower.kept());
    assert!(kept.is_some(), "a subscription that the home had taken is gone for ever");
}

/// The old link's request for w0 is done after the new link's.
#[test]
fn r3_3_3_a_late_request_of_an_old_link_does_not_keep_a_revoked_watcher_in_its_group() {
    let mut grants = [Grant::All, Grant::All];
    let mut world = World::new(&grants);
    world.publish();
    (0..2).for_each(|index| world.follow(index, Bond::Contact));
    world.flow();
    (0..2).for_each(|index| world.look(index));
    world.take_late(0);
    world.home.link_lost(LinkId([99; 16]));
    // The owner blocks w0, and then says something.
    grants[0] = Grant::Block;
    world.set_rules(&grants);
    world.advance(30);
    world.publish();
    world.flow();
    let state = world.mirror.follower(&watcher(0)).map(|follower| follower.state);
    assert_eq!(world.mirror.version_for(&watcher(0)), None, "w0 ({state:?}) sees what is for w1");
}

/// The same between the request's commit and its answer on the new link.
#[test]
fn a_late_request_of_an_old_link_does_not_end_the_subscription() {
    let mut world = World::new(&[Grant::All]);
    world.publish();
    world.follow(0, Bond::Contact);
    world.ask(1);
    world.take();
    world.take_late(0);
    world.answer(0);
    while world.hear() {}
    let follower = world.mirror.follower(&watcher(0));
    let stands = follower.map(|f| (f.state, f.event));
    assert_ne!(stands.map(|s| s.0), Some(SubscriptionState::Terminated), "{stands:?}");
}

/// The owner blocks w0 and publishes, while w0's refresh is refused but not answered.
#[test]
fn r3_3_3_whoever_is_refused_leaves_its_group_before_that_gets_more() {
    let mut grants = [Grant::All, Grant::All];
    let mut world = World::new(&grants);
    world.publish();
    (0..2).for_each(|index| world.follow(index, Bond::Contact));
    world.flow();
    world.now = world.now.after(TERMS.lease / 2);
    assert_eq!(world.ask(10), 2);
    grants[0] = Grant::Block;
    world.set_rules(&grants);
    while world.take() {}
    assert!(world.home.watcher(&watcher(0)).is_none(), "refused");
    world.publish();
    assert!(world.tell(ROOM));
    // Nobody has what is not its own: that is checked at each step.
    while world.hear() {}
    world.flow();
    assert_eq!(world.mirror.version_for(&watcher(0)), None);
    assert_eq!((world.repairs, world.unsolicited), (0, 0));
}
