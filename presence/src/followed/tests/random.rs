//! Anything in any order, with cuts at any moment.

use super::*;

const WATCHERS: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    Publish,
    Rule(usize, Grant),
    Follow(usize, bool),
    Unfollow(usize),
    /// The owner ends a subscription.
    End(usize),
    Advance(u64),
    Ask(usize),
    Take,
    Late(usize),
    Answer(usize),
    Tell(usize),
    Hear,
    Look(usize),
    Flow,
    Cut,
    Up,
    RestartHome,
    RestartMirror,
}

fn grant() -> impl Strategy<Value = Grant> {
    prop_oneof![
        1 => Just(Grant::Block),
        1 => Just(Grant::Confirm),
        2 => Just(Grant::Polite),
        2 => Just(Grant::Status),
        3 => Just(Grant::Note),
        3 => Just(Grant::All),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..WATCHERS;
    prop_oneof![
        6 => Just(Step::Publish),
        4 => (who.clone(), grant()).prop_map(|(who, grant)| Step::Rule(who, grant)),
        6 => (who.clone(), any::<bool>()).prop_map(|(who, contact)| Step::Follow(who, contact)),
        3 => who.clone().prop_map(Step::Unfollow),
        1 => who.clone().prop_map(Step::End),
        3 => prop_oneof![Just(1), Just(3), Just(61), Just(1900), Just(4000)]
            .prop_map(Step::Advance),
        6 => (1..4_usize).prop_map(Step::Ask),
        8 => Just(Step::Take),
        8 => (0..4_usize).prop_map(Step::Answer),
        8 => prop_oneof![Just(1), Just(ROOM)].prop_map(Step::Tell),
        16 => Just(Step::Hear),
        1 => who.clone().prop_map(Step::Late),
        6 => who.prop_map(Step::Look),
        2 => Just(Step::Flow),
        1 => Just(Step::Cut),
        2 => Just(Step::Up),
        1 => Just(Step::RestartHome),
        1 => Just(Step::RestartMirror),
    ]
}

fn run(world: &mut World, grants: &mut [Grant], step: &Step) {
    match *step {
        Step::Publish => world.publish(),
        Step::Rule(who, grant) => {
            grants[who] = grant;
            world.set_rules(grants);
        }
        Step::Follow(who, contact) => {
            let session = Bond::Session(world.session(&watcher(who)));
            world.follow(who, if contact { Bond::Contact } else { session });
        }
        Step::Unfollow(who) => world.unfollow(who),
        Step::End(who) => {
            let event = impp_protocol::state::SubscriptionEvent::Deactivated;
            world.home.make(world.now, Change::End(watcher(who), event));
        }
        Step::Advance(seconds) => world.advance(seconds),
        Step::Ask(max) => drop(world.ask(max)),
        Step::Take => drop(world.take()),
        Step::Answer(index) => drop(world.answer(index)),
        Step::Tell(room) => drop(world.tell(room)),
        Step::Hear => drop(world.hear()),
        Step::Late(who) => world.take_late(who),
        Step::Look(who) => world.look_if_woken(who),
        Step::Flow => world.flow(),
        Step::Cut => world.cut(),
        Step::Up => world.link_up(),
        Step::RestartHome => world.restart_home(),
        Step::RestartMirror => world.restart_mirror(),
    }
    world.check();
}

/// How each follower must stand at last, as the home says.
fn settled(world: &mut World) {
    for index in 0..WATCHERS {
        let who = watcher(index);
        world.look_if_woken(index);
        let kept = world.mirror.follower(&who).is_some_and(|f| !f.bonds.is_empty());
        if !kept {
            continue;
        }
        let state = world.mirror.follower(&who).map(|f| f.state);
        let there = world.home.watcher(&who).map(|w| w.state);
        assert_eq!(state, there, "{who}");
        let asker = Watcher::Principal(who.clone());
        let own = match world.home.fetch(world.now, &asker, None) {
            Fetched::Shown(version, _) => Some(version),
            Fetched::Pending | Fetched::Refused => None,
        };
        assert_eq!(world.mirror.version_for(&who), own, "{who}");
        let client = &world.clients[&who];
        if client.follows {
            assert_eq!(client.state, state, "{who}");
            let holds = match client.held {
                Held::Sent(version) | Held::Claimed(version) => Some(version),
                Held::Nothing | Held::Whole(_) => None,
            };
            assert_eq!(holds, own, "{who}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// After the last link is up and all has arrived, everybody has what its own view says at home;
    /// and never had anything else.
    #[test]
    fn r5_2_2_whatever_is_cut_all_watchers_end_with_their_own_view(
        mut grants in proptest::collection::vec(grant(), WATCHERS),
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let mut world = World::new(&grants);
        world.publish();
        for step in &steps {
            run(&mut world, &mut grants, step);
        }
        // Both sides agree at every point of the stream.
        prop_assert_eq!((world.repairs, world.unsolicited), (0, 0));
        world.link_up();
        world.flow();
        world.advance(10);
        world.flow();
        settled(&mut world);
        prop_assert_eq!((world.repairs, world.unsolicited), (0, 0));
    }
}
