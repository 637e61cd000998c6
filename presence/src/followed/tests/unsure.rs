//! What is not known for sure is not shown as if it were, and what was shown before is not kept.

use super::*;

/// Former contents of those who see nothing any more are gone with the last of them, though they
/// still follow.
#[test]
fn r3_3_3_former_contents_go_with_the_last_who_saw_them() {
    let mut world = followed(&[Grant::All, Grant::Note]);
    for _ in 0..3 {
        world.publish();
        world.flow();
    }
    // A watcher who joins makes what the others saw former.
    world.set_rules(&[Grant::Note, Grant::Note]);
    world.flow();
    world.publish();
    world.flow();
    assert!(world.mirror.bytes() > 0);
    world.set_rules(&[Grant::Confirm, Grant::Confirm]);
    world.flow();
    assert_eq!(world.mirror.len(), 2);
    assert_eq!(world.mirror.bytes(), 0);
}

/// Whom the home has not answered over this link it cannot put into a group.
#[test]
fn f9_nobody_is_put_into_a_group_before_the_home_has_answered() {
    let mut world = followed(&[Grant::All, Grant::All]);
    world.publish();
    world.tell(ROOM);
    let Some(Frame::Notify(told)) = world.to_mirror.pop_back() else { panic!("no NOTIFY") };
    let seen = world.mirror.version_for(&watcher(0));
    world.link_up();
    // As if over the new link, which has asked nothing yet.
    let joins = Notify { group: Some(77), watchers: vec![watcher(0)], ..told.clone() };
    let alone = Notify {
        group: None,
        watchers: vec![watcher(1)],
        state: SubscriptionState::Terminated,
        snapshot: None,
        patch: None,
        version: None,
        base: None,
        set: None,
        ..told
    };
    for notify in [joins, alone] {
        let effects = world.mirror.notified(world.now, &notify, TERMS, ROOM);
        assert!(effects.unsolicited > 0, "{notify:?}");
        assert!(effects.wake.is_empty(), "{notify:?}");
    }
    assert_eq!(world.mirror.version_for(&watcher(0)), seen);
    let state = |index| world.mirror.follower(&watcher(index)).unwrap().state;
    assert_eq!((state(0), state(1)), (SubscriptionState::Active, SubscriptionState::Active));
}

/// Whoever looks once is answered from here only as long as the home is known to see it the same;
/// after a cut it is asked, also before anything is said to be stale.
#[test]
fn d_6_6_a_fetch_is_not_answered_from_what_may_be_old() {
    let mut world = followed(&[Grant::All]);
    assert!(world.mirror.fetch(&watcher(0), None).is_some());
    world.cut();
    let state = world.mirror.follower(&watcher(0)).unwrap().state;
    assert_eq!(state, SubscriptionState::Active, "not stale yet");
    assert!(world.mirror.fetch(&watcher(0), None).is_none());
    world.link_up();
    assert!(world.mirror.fetch(&watcher(0), None).is_none(), "not asked yet");
    world.flow();
    assert!(world.mirror.fetch(&watcher(0), None).is_some());
}

/// A refresh that could not be stored takes nothing away that stood before, and what is new goes.
#[test]
fn g8_a_renewal_that_is_not_stored_leaves_the_lease_that_stood() {
    let mut world = followed(&[Grant::All]);
    let after = |seconds| world.now.after(std::time::Duration::from_secs(seconds));
    let (stood, renewed) =
        (Bond::Lease(DeviceId([1; 16]), after(500)), Bond::Lease(DeviceId([1; 16]), after(900)));
    let (other, now) = (Bond::Lease(DeviceId([2; 16]), after(900)), world.now);
    world.mirror.follow(now, &watcher(0), stood, None);
    for bond in [renewed, other] {
        let (id, effects) = world.mirror.stage(now, &watcher(0), bond, None);
        assert!(effects.records.contains(&watcher(0)), "it is to be stored");
        let effects = world.mirror.unstage(&watcher(0), id);
        assert!(effects.records.contains(&watcher(0)), "and what stood before, again");
        let bonds = &world.mirror.follower(&watcher(0)).unwrap().bonds;
        let device = bonds.of(stood.keeper());
        assert_eq!((device, bonds.leases().len()), (Some(stood), 1), "{bonds:?}");
        assert!(bonds.of(Keeper::Contact).is_some(), "{bonds:?}");
    }
}

/// Of what is not stored yet nobody hears, and the home is asked nothing; what is written of the follower
/// meanwhile has it all the same, and who lets go meanwhile does not follow.
#[test]
fn g8_nobody_follows_before_that_is_stored() {
    let mut world = World::new(&[Grant::All]);
    let (who, until) = (watcher(0), world.now.after(std::time::Duration::from_secs(900)));
    let lease = |device| Bond::Lease(DeviceId([device; 16]), until);
    let (first, _) = world.mirror.stage(world.now, &who, lease(1), None);
    assert!(!world.mirror.asks(world.now, TERMS) && world.mirror.follower(&who).is_none());
    assert!(!world.mirror.is_empty());
    let (second, _) = world.mirror.stage(world.now, &who, lease(2), None);
    assert_eq!(world.mirror.kept(&who).unwrap().leases.len(), 2);
    // The first one is not stored: the record has it no more.
    assert!(world.mirror.unstage(&who, first).records.contains(&who));
    let (state, effects) = world.mirror.committed(world.now, &who, second);
    assert_eq!(state, SubscriptionState::Unknown);
    assert!(effects.asks && effects.records.is_empty(), "{effects:?}");
    assert!(world.mirror.follower(&who).unwrap().bonds.of(lease(2).keeper()).is_some());
    // A renewal that comes to its end after a later one does not take its place.
    let sooner =
        Bond::Lease(DeviceId([2; 16]), world.now.after(std::time::Duration::from_secs(99)));
    let (former, _) = world.mirror.stage(world.now, &who, sooner, None);
    let (later, _) = world.mirror.stage(world.now, &who, lease(2), None);
    world.mirror.committed(world.now, &who, later);
    world.mirror.committed(world.now, &who, former);
    let bonds = &world.mirror.follower(&who).unwrap().bonds;
    assert_eq!(bonds.of(lease(2).keeper()), Some(lease(2)));
    // Who lets go of what is on its way does not follow by it.
    world.mirror.unfollow(world.now, &who, &[lease(2).keeper()], None);
    let (third, _) = world.mirror.stage(world.now, &who, lease(3), None);
    world.mirror.unfollow(world.now, &who, &[lease(3).keeper()], None);
    assert_eq!(world.mirror.kept(&who), None);
    let (state, effects) = world.mirror.committed(world.now, &who, third);
    assert_eq!(state, SubscriptionState::Terminated);
    assert!(effects.let_go.contains(&who) && world.mirror.is_empty());
}
