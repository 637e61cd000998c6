//! What a home says over a link, and how little.

use super::*;

/// The notifications that are on the way.
fn on_the_way(world: &World) -> Vec<&Notify> {
    world.to_mirror.iter().filter_map(Frame::notify).collect()
}

#[test]
fn r3_3_2_a_change_is_said_once_for_all_watchers_of_a_view_and_names_none() {
    for count in [1, 10, 1000] {
        let mut world = followed(&vec![Grant::All; count]);
        world.publish();
        assert!(world.tell(ROOM));
        let told = on_the_way(&world);
        assert_eq!(told.len(), 1);
        assert!(told[0].watchers.is_empty() && told[0].patch.is_some());
        assert!(told[0].patch.as_ref().unwrap().len() < 120);
        world.flow();
        assert_eq!(world.repairs, 0);
        for index in 0..count {
            let own = world.mirror.version_for(&watcher(index));
            assert_eq!(own, world.mirror.version_for(&watcher(0)));
        }
    }
}

#[test]
fn r3_3_3_whoever_loses_a_view_leaves_its_group_before_it_gets_more() {
    // Three of one view and two of another change places, and then the document changes.
    use Grant::{All, Note};
    let mut world = followed(&[All, All, All, Note, Note]);
    world.set_rules(&[Note, Note, Note, All, All]);
    world.publish();
    assert!(world.tell(ROOM));
    // Whoever was named last in a group is in it; nobody is in one that gets another's view.
    while world.hear() {}
    for index in 0..5 {
        world.look(index);
    }
    assert_eq!(world.repairs, 0);
    let seen = |index| world.mirror.version_for(&watcher(index)).unwrap();
    assert_eq!((seen(0), seen(3)), (seen(2), seen(4)));
    assert_ne!(seen(0), seen(3));
}

#[test]
fn r3_3_3_a_rule_that_takes_something_away_purges_it() {
    let mut world = followed(&[Grant::All, Grant::Note, Grant::All]);
    let all = world.mirror.bytes();
    world.set_rules(&[Grant::Confirm, Grant::Note, Grant::Block]);
    world.flow();
    let states = |world: &World, index| {
        world.mirror.follower(&watcher(index)).map(|follower| follower.state)
    };
    assert_eq!(states(&world, 0), Some(SubscriptionState::Pending));
    assert_eq!(states(&world, 1), Some(SubscriptionState::Active));
    assert_eq!(states(&world, 2), Some(SubscriptionState::Terminated));
    for index in [0, 2] {
        assert_eq!(world.mirror.version_for(&watcher(index)), None);
        assert!(world.mirror.fetch(&watcher(index), None).is_none());
    }
    assert!(world.mirror.bytes() < all);
}

#[test]
fn who_waits_is_told_alone_and_joins_when_the_owner_allows_it() {
    let mut world = followed(&[Grant::Confirm, Grant::Note]);
    world.set_rules(&[Grant::Note, Grant::Note]);
    assert!(world.tell(ROOM));
    let told = on_the_way(&world);
    assert_eq!((told.len(), &told[0].watchers[..]), (1, &[watcher(0)][..]));
    assert!(told[0].snapshot.is_none() && told[0].patch.is_none());
    world.flow();
    assert_eq!(world.mirror.version_for(&watcher(0)), world.mirror.version_for(&watcher(1)));
}

#[test]
fn who_comes_back_with_the_newest_is_sent_nothing_and_with_an_older_one_a_patch() {
    let mut world = followed(&[Grant::All, Grant::All]);
    for publish in [false, true] {
        world.cut();
        if publish {
            // They have followed before that.
            world.now = world.now.after(Duration::from_secs(1));
            world.publish();
        }
        world.link_up();
        world.ask(10);
        while world.take() {}
        while world.answer(0) {}
        assert_eq!(world.tell(ROOM), publish);
        let told = on_the_way(&world);
        assert!(told.iter().all(|told| told.patch.is_some() && told.watchers.is_empty()));
        world.flow();
        assert_eq!(world.repairs, 0);
        let own = world.mirror.version_for(&watcher(0));
        assert!(own.is_some() && own == world.mirror.version_for(&watcher(1)));
    }
}

/// After a crash of the home nobody is told that the owner is away who may only not be back yet; and
/// nobody can tell by that what the owner's rules say.
#[test]
fn r3_3_3_for_a_while_after_a_crash_nobody_is_told_that_the_owner_is_away() {
    for grants in [[Grant::All, Grant::Polite], [Grant::Polite, Grant::Note]] {
        let mut world = World::new(&grants);
        let pace = PaceLimit { burst: 3, interval: Duration::from_secs(2) };
        let recovered = Some(world.now.after(Duration::from_secs(60)));
        let (layers, watchers) = Default::default();
        let (owner, policy) = (world.owner.clone(), world.home.policy().clone());
        let restored =
            Presentity::restored(owner, policy, layers, watchers, world.now, pace, recovered);
        world.home = restored.0;
        world.note_views();
        (0..2).for_each(|index| world.follow(index, Bond::Contact));
        world.flow();
        for index in 0..2 {
            let follower = world.mirror.follower(&watcher(index)).unwrap();
            assert_eq!(follower.state, SubscriptionState::Active);
            assert_eq!(world.mirror.version_for(&watcher(index)), None);
        }
        world.advance(61);
        world.flow();
        for index in 0..2 {
            assert!(world.mirror.version_for(&watcher(index)).is_some());
        }
        assert_eq!((world.repairs, world.unsolicited), (0, 0));
    }
}

#[test]
fn long_lists_of_watchers_are_split_to_fit_frames() {
    // All wait, and are allowed at once.
    let mut world = followed(&vec![Grant::Confirm; 2600]);
    world.set_rules(&vec![Grant::Note; 2600]);
    let pulled = world.home.pull_groups(world.now, world.link, &mut world.groups, usize::MAX);
    let PulledGroups::Told(told) = pulled else { panic!("all is told") };
    assert_eq!(told.iter().filter(|told| told.content.is_some()).count(), 1);
    assert_eq!(told.iter().map(|told| told.watchers.len()).sum::<usize>(), 2600);
    let owner = world.owner.clone();
    let frames = told.into_iter().map(|told| {
        let command = notify(&owner, told).into();
        let mut out = bytes::BytesMut::new();
        impp_protocol::Request { number: 0, command }.put(&mut out).unwrap();
        out.len()
    });
    let frames: Vec<usize> = frames.collect();
    assert!(frames.iter().all(|length| *length <= impp_protocol::frame::FRAME_BYTES_MAX));
    assert!(frames.len() > 1);
}

/// F13, H4: whatever pace a home keeps, who follows looks at the pace at which a presentity may be shown
/// changing; what came last is looked at in the end, and what it is is known at once.
#[test]
fn f13_h4_what_a_home_shows_too_fast_is_looked_at_in_its_pace() {
    const FOLLOWERS: usize = 3;
    let interval = Duration::from_secs(2);
    let paced = Terms { pace: PaceLimit { burst: 2, interval }, ..TERMS };
    let mut world = followed(&[Grant::All; FOLLOWERS]);
    let (heard, mut shown, mut woken) = (world.now, 0, 0);
    for _ in 0..50 {
        // As if the home took no pace of its own.
        world.now = world.now.after(interval);
        world.publish();
        world.tell(ROOM);
        while let Some(Frame::Notify(notify)) = world.to_mirror.pop_front() {
            shown += 1;
            woken += world.mirror.notified(heard, &notify, paced, ROOM).wake.len();
        }
    }
    assert_eq!((shown, woken), (50, 2 * FOLLOWERS));
    let newest = world.mirror.version_for(&watcher(0));
    let due = world.mirror.next_deadline(heard, paced).unwrap();
    assert_eq!(due, heard.after(interval));
    assert_eq!(world.mirror.expire(due, paced).wake.len(), FOLLOWERS);
    assert_eq!(world.mirror.version_for(&watcher(0)), newest);
    // That was the last, and there is no more to look at.
    let later = due.after(interval);
    assert!(world.mirror.next_deadline(due, paced).is_none_or(|at| at > later));
    assert!(world.mirror.expire(later, paced).wake.is_empty());
}

/// What somebody may not see any more is gone for them at once, however much was shown just before.
#[test]
fn d4_what_is_taken_away_elsewhere_waits_for_no_pace() {
    let none = Terms { pace: PaceLimit { burst: 0, interval: Duration::from_secs(9) }, ..TERMS };
    let mut world = followed(&[Grant::All, Grant::All]);
    let mut woken = Vec::new();
    for grants in [[Grant::Note, Grant::All], [Grant::Confirm, Grant::All]] {
        world.set_rules(&grants);
        world.tell(ROOM);
        let mut wake = Vec::new();
        while let Some(Frame::Notify(notify)) = world.to_mirror.pop_front() {
            wake.extend(world.mirror.notified(world.now, &notify, none, ROOM).wake);
        }
        woken.push(wake.len());
    }
    assert_eq!(woken, [1, 1]);
}
