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
        let before = world.mirror.follower(&watcher(0)).cloned();
        world.mirror.follow(now, &watcher(0), bond, None);
        world.mirror.unfollow_unstored(now, &watcher(0), bond, None, before.as_ref());
        let bonds = &world.mirror.follower(&watcher(0)).unwrap().bonds;
        let device = bonds.of(stood.keeper());
        assert_eq!((device, bonds.leases().len()), (Some(stood), 1), "{bonds:?}");
        assert!(bonds.of(Keeper::Contact).is_some(), "{bonds:?}");
    }
}
