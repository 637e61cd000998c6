//! What the watching side asks, believes and tells.

use impp_protocol::state::SubscriptionEvent;

use super::*;

fn state(world: &World, index: usize) -> Option<SubscriptionState> {
    world.mirror.follower(&watcher(index)).map(|follower| follower.state)
}

/// The notification that is on the way.
fn last(world: &mut World) -> Notify {
    match world.to_mirror.pop_back() {
        Some(Frame::Notify(notify)) => notify,
        _ => panic!("no notification is on the way"),
    }
}

#[test]
fn f9_what_was_not_asked_for_is_ignored_and_counted() {
    let mut world = followed(&[Grant::All, Grant::Note]);
    let before = world.mirror.version_for(&watcher(0));
    world.publish();
    world.tell(ROOM);
    let told = last(&mut world);
    world.to_mirror.clear();
    let foreign = Notify { watchers: vec![watcher(7)], group: Some(99), ..told.clone() };
    let unknown = Notify { group: Some(98), watchers: vec![], ..told.clone() };
    let alone = Notify {
        group: None,
        watchers: vec![watcher(7)],
        state: SubscriptionState::Active,
        ..told
    };
    for notify in [foreign, unknown, alone] {
        let effects = world.mirror.notified(world.now, &notify, TERMS, ROOM);
        assert!(effects.unsolicited > 0 && effects.wake.is_empty(), "{notify:?}");
        assert_eq!(world.mirror.version_for(&watcher(0)), before);
        assert!(world.mirror.follower(&watcher(7)).is_none());
    }
    let answer = Ok(Done { state: Some(SubscriptionState::Active), ..Done::empty() });
    let effects = world.mirror.answered(world.now, &watcher(0), answer, TERMS);
    assert_eq!(effects.unsolicited, 1);
}

#[test]
fn r5_2_2_what_does_not_fit_is_not_shown_but_asked_for_again() {
    let spoil: [fn(&mut Notify); 5] = [
        |notify| notify.set = None,
        |notify| notify.set = Some(Version([1; 16])),
        |notify| notify.base = Some(Version([2; 16])),
        |notify| notify.version = Some(Version([3; 16])),
        |notify| notify.patch = Some(bytes::Bytes::from_static(b"\xff\xff")),
    ];
    for spoil in spoil {
        let mut world = followed(&[Grant::All, Grant::All]);
        let before = world.mirror.version_for(&watcher(0));
        world.publish();
        world.tell(ROOM);
        let mut told = last(&mut world);
        spoil(&mut told);
        let effects = world.mirror.notified(world.now, &told, TERMS, ROOM);
        assert_eq!((effects.repairs, effects.asks), (1, true));
        assert_eq!(world.mirror.version_for(&watcher(0)), before);
        world.flow();
        assert_eq!(state(&world, 0), Some(SubscriptionState::Active));
        let after = world.mirror.version_for(&watcher(0));
        assert!(after != before && after == world.mirror.version_for(&watcher(1)));
        // And then all fits again.
        world.publish();
        world.advance(10);
        world.flow();
        assert_ne!(world.mirror.version_for(&watcher(0)), after);
        assert_eq!(world.repairs, 0);
    }
}

#[test]
fn a_home_that_never_fits_is_not_asked_all_the_time() {
    let mut world = followed(&[Grant::All]);
    world.publish();
    world.tell(ROOM);
    let told = Notify { set: Some(Version([1; 16])), ..last(&mut world) };
    let mut asked = 0;
    for _ in 0..100 {
        world.mirror.notified(world.now, &told, TERMS, ROOM);
        asked += world.ask(10);
        world.flow();
    }
    assert!(asked <= 1, "{asked}");
}

#[test]
fn a_lost_link_makes_all_stale_at_once_and_the_end_of_the_lease_unknown() {
    let mut world = followed(&[Grant::All, Grant::Polite, Grant::Note]);
    (0..3).for_each(|index| world.look(index));
    let versions: Vec<_> = (0..3).map(|i| world.mirror.version_for(&watcher(i))).collect();
    world.cut();
    world.advance(59);
    let active = Some(SubscriptionState::Active);
    assert!((0..3).all(|index| state(&world, index) == active));
    world.advance(1);
    let stale = Some(SubscriptionState::Stale);
    assert!((0..3).all(|index| state(&world, index) == stale));
    // What was shown stays, for those too who only come now.
    for (index, version) in versions.iter().enumerate() {
        assert_eq!(world.mirror.version_for(&watcher(index)), *version);
        assert!(world.mirror.fetch(&watcher(index), None).is_none());
        world.look(index);
        assert_eq!(world.clients[&watcher(index)].state, stale);
        assert!(matches!(world.clients[&watcher(index)].held, Held::Sent(_)));
    }
    world.advance(3600);
    for index in 0..3 {
        assert_eq!(state(&world, index), Some(SubscriptionState::Unknown));
        assert_eq!(world.mirror.version_for(&watcher(index)), None);
        world.look(index);
        assert!(matches!(world.clients[&watcher(index)].held, Held::Nothing));
    }
    assert_eq!(world.mirror.bytes(), 0);
    world.link_up();
    world.flow();
    assert!((0..3).all(|index| state(&world, index) == active));
}

#[test]
fn a_link_that_comes_back_in_time_tells_nobody_anything() {
    let mut world = followed(&[Grant::All, Grant::Confirm]);
    (0..2).for_each(|index| world.look(index));
    world.cut();
    world.advance(30);
    world.link_up();
    world.flow();
    world.advance(100);
    for index in 0..2 {
        let (watcher, session) = (watcher(index), world.session(&watcher(index)));
        let client = &world.clients[&watcher];
        let pulled = world.mirror.pull(&watcher, session, client.held, client.state);
        assert!(matches!(pulled, Pulled::Nothing), "{pulled:?}");
    }
}

#[test]
fn leases_are_refreshed_at_half_time() {
    let mut world = followed(&[Grant::All]);
    world.now = at(1799);
    assert_eq!(world.ask(10), 0);
    world.now = at(1800);
    assert_eq!(world.ask(10), 1);
    let refresh = world.to_home.pop_front().unwrap();
    assert_eq!(refresh.version, world.mirror.version_for(&watcher(0)));
    assert_eq!(refresh.lease, Some(TERMS.lease));
}

#[test]
fn r5_1_8_only_when_nobody_keeps_it_any_more_the_home_is_told_the_end() {
    let mut world = followed(&[Grant::All, Grant::All]);
    let session = Bond::Session(world.session(&watcher(0)));
    world.follow(0, session);
    world.mirror.unfollow(world.now, &watcher(0), &[Keeper::Contact], None);
    assert_eq!(world.ask(10), 0);
    world.unfollow(0);
    assert_eq!(world.ask(10), 1);
    assert_eq!(world.to_home[0].lease, Some(Duration::ZERO));
    // Until the home knows, it is in the home's groups, and sees nothing.
    assert_eq!(world.mirror.version_for(&watcher(0)), None);
    world.publish();
    world.flow();
    assert_eq!((world.repairs, world.unsolicited), (0, 0));
    assert!(world.mirror.follower(&watcher(0)).is_none());
    assert_eq!(state(&world, 1), Some(SubscriptionState::Active));
    let there = world.home.watcher(&watcher(0)).map(|watching| watching.state);
    assert_eq!(there, Some(SubscriptionState::Terminated));
}

#[test]
fn a_refusal_ends_it_and_a_home_in_trouble_is_asked_again_later() {
    let mut world = World::new(&[Grant::Block]);
    world.follow(0, Bond::Contact);
    let mut waited = Vec::new();
    for _ in 0..4 {
        assert_eq!(world.ask(1), 1);
        let busy = Err(Error::new(Code::Busy, "later"));
        world.mirror.answered(world.now, &watcher(0), busy, TERMS);
        assert_eq!(state(&world, 0), Some(SubscriptionState::Unknown));
        let next = world.mirror.next_deadline(world.now, TERMS).unwrap();
        waited.push(next.since(world.now).as_secs());
        world.now = next;
    }
    assert_eq!(waited, [1, 2, 4, 8]);
    world.flow();
    assert_eq!(state(&world, 0), Some(SubscriptionState::Terminated));
    let event = world.mirror.follower(&watcher(0)).map(|follower| follower.event);
    assert_eq!(event, Some(SubscriptionEvent::Rejected));
    world.look(0);
    assert!(world.mirror.is_empty());
}

#[test]
fn what_has_no_room_is_not_kept_and_its_followers_know_nothing() {
    let mut world = World::new(&[Grant::All, Grant::Status]);
    world.publish();
    (0..2).for_each(|index| world.follow(index, Bond::Contact));
    world.ask(10);
    while world.take() {}
    while world.answer(0) {}
    world.tell(ROOM);
    while let Some(frame) = world.to_mirror.pop_front() {
        match frame {
            Frame::Answer(watcher, answer) => {
                world.mirror.answered(world.now, &watcher, answer, TERMS);
            }
            Frame::Notify(notify) => drop(world.mirror.notified(world.now, &notify, TERMS, 200)),
        }
    }
    assert_eq!(state(&world, 0), Some(SubscriptionState::Unknown));
    assert_eq!(state(&world, 1), Some(SubscriptionState::Active));
    assert!(world.mirror.bytes() <= 200);
    // With the next refresh it is tried again.
    world.advance(1900);
    world.flow();
    assert_eq!(state(&world, 0), Some(SubscriptionState::Active));
}

#[test]
fn who_follows_by_contact_or_lease_is_remembered_over_a_restart() {
    let mut world = World::new(&[Grant::All, Grant::Confirm, Grant::All]);
    world.publish();
    let lease = Bond::Lease(DeviceId([5; 16]), world.now.after(Duration::from_secs(7200)));
    let session = Bond::Session(world.session(&watcher(2)));
    world.follow(0, lease);
    world.follow(1, Bond::Contact);
    world.follow(2, session);
    world.flow();
    world.restart_mirror();
    assert_eq!(state(&world, 0), Some(SubscriptionState::Unknown));
    assert_eq!(state(&world, 1), Some(SubscriptionState::Pending));
    assert_eq!(state(&world, 2), None);
    world.link_up();
    world.flow();
    assert_eq!(state(&world, 0), Some(SubscriptionState::Active));
    assert!(world.mirror.version_for(&watcher(0)).is_some());
    world.advance(7200);
    world.flow();
    assert!(world.mirror.follower(&watcher(0)).is_none());
}

#[test]
fn what_does_not_fit_while_others_are_asked_for_is_asked_for_again_too() {
    let mut world = followed(&[Grant::All, Grant::Note]);
    let spoil = |world: &mut World| {
        for frame in &mut world.to_mirror {
            if let Frame::Notify(notify) = frame {
                notify.version = Some(Version([3; 16]));
            }
        }
        while world.hear() {}
    };
    world.publish();
    world.tell(ROOM);
    spoil(&mut world);
    assert!(world.repairs > 0);
    // The one is answered, and what it is sent does not fit either; the other waits.
    world.ask(1);
    world.take();
    world.answer(0);
    world.tell(ROOM);
    spoil(&mut world);
    world.flow();
    world.advance(11);
    world.flow();
    for index in 0..2 {
        let asker = Watcher::Principal(watcher(index));
        let own = world.home.fetch(world.now, &asker, None);
        let Fetched::Shown(own, _) = own else { panic!("{own:?}") };
        assert_eq!(world.mirror.version_for(&watcher(index)), Some(own), "{index}");
    }
}

#[test]
fn whoever_only_waits_to_be_asked_for_after_a_cut_is_not_told_of_it() {
    let mut world = followed(&[Grant::All, Grant::Note]);
    world.cut();
    world.now = world.now.after(Duration::from_secs(50));
    world.expire();
    world.link_up();
    // There is room for one request only, for half a minute.
    world.ask(1);
    world.now = world.now.after(Duration::from_secs(30));
    world.expire();
    assert_eq!(state(&world, 1), Some(SubscriptionState::Active));
    world.now = world.now.after(Duration::from_secs(30));
    world.expire();
    assert_eq!(state(&world, 1), Some(SubscriptionState::Stale));
}

#[test]
fn a_home_that_asks_to_be_left_alone_for_ever_is_asked_again_in_an_hour() {
    let mut world = followed(&[Grant::All]);
    world.advance(1800);
    assert_eq!(world.ask(1), 1);
    let busy = Error::new(Code::Busy, "later").retry_after(Duration::from_secs(1 << 40));
    world.mirror.answered(world.now, &watcher(0), Err(busy), TERMS);
    // And a little later, so that not all who follow come at once.
    world.now = world.now.after(Duration::from_secs(5400));
    assert_eq!(world.ask(1), 1);
}

/// Many followers of a home that has failed do not all come back in one instant.
#[test]
fn those_who_follow_a_home_that_failed_come_back_one_after_the_other() {
    let all = vec![Grant::All; 200];
    let mut world = followed(&all);
    world.advance(1800);
    assert_eq!(world.ask(1000), 200);
    for index in 0..200 {
        let busy = Error::new(Code::Busy, "later").retry_after(Duration::from_secs(60));
        world.mirror.answered(world.now, &watcher(index), Err(busy), TERMS);
    }
    let mut most = 0;
    for _ in 0..91 {
        world.now = world.now.after(Duration::from_secs(1));
        most = most.max(world.mirror.requests(world.now, 1000, TERMS).len());
    }
    assert!(world.mirror.requests(world.now, 1000, TERMS).is_empty(), "somebody is not asked for");
    assert!((1..40).contains(&most), "{most} at once");
}
