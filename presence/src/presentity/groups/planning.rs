//! Who is said to be in which group next, and in which order that is said.

use std::cmp::Reverse;

use impp_protocol::Address;
use impp_protocol::hashing::{HashMap, HashSet};

use super::{Class, Groups, Step};

/// Watchers as they are, and as they should be.
pub(super) struct Planning<'a> {
    groups: &'a Groups,
    of: &'a [(Address, usize)],
    classes: &'a [Class],
    /// How many of each class are in its group in the end.
    sizes: Vec<usize>,
    /// The group that each class goes on in, if any.
    targets: Vec<Option<u64>>,
}

impl<'a> Planning<'a> {
    /// What there is to plan; `of` says which watcher is in which class.
    pub(super) fn new(
        groups: &'a Groups,
        of: &'a [(Address, usize)],
        classes: &'a [Class],
    ) -> Planning<'a> {
        let (sizes, targets) = (vec![0; classes.len()], Vec::new());
        let mut planning = Planning { groups, of, classes, sizes, targets };
        let mut shared: HashMap<(u64, usize), usize> = HashMap::default();
        for (watcher, class) in of {
            let group = planning.here(watcher);
            planning.sizes[*class] += usize::from(planning.moves(group, *class));
            if let Some(group) = group {
                *shared.entry((group, *class)).or_default() += 1;
            }
        }
        planning.targets = assign(&shared, classes.len());
        planning
    }

    /// What there is to say, in order; group 0 is a new one.
    pub(super) fn plan(&self) -> Vec<Step> {
        let (mut steps, mut leaving) = self.steps();
        let mut plan = Vec::new();
        while !steps.is_empty() {
            let free = |step: &Step| {
                let none_leaves = || leaving.get(&step.group).is_none_or(|count| *count == 0);
                step.group == 0 || none_leaves() || self.is_told(step)
            };
            let index = match steps.iter().position(free) {
                Some(index) => index,
                None => {
                    // They wait for each other: the fewest go into a group of their own instead.
                    let fewest = |index: &usize| (self.sizes[steps[*index].class], *index);
                    let Some(index) = (0..steps.len()).min_by_key(fewest) else { break };
                    let all = self.all_of(steps[index].class);
                    (steps[index].group, steps[index].joined) = (0, all);
                    index
                }
            };
            let step = steps.remove(index);
            let own = self.targets[step.class];
            let left = step.joined.iter().filter_map(|watcher| self.here(watcher));
            for group in left.filter(|group| Some(*group) != own) {
                leaving.entry(group).and_modify(|count| *count -= 1);
            }
            plan.push(step);
        }
        plan
    }

    /// What there is to say, in no order; and how many are in a group that another class goes on in, or
    /// nobody.
    fn steps(&self) -> (Vec<Step>, HashMap<u64, usize>) {
        let (mut steps, mut leaving) = (Vec::new(), HashMap::default());
        for (class, target) in self.targets.iter().enumerate() {
            if self.sizes[class] > 0 {
                steps.push(Step { group: target.unwrap_or_default(), joined: vec![], class });
            }
        }
        for (watcher, class) in self.of {
            let group = self.here(watcher);
            if !self.moves(group, *class) || (group.is_some() && group == self.targets[*class]) {
                continue;
            }
            if let Some(group) = group {
                *leaving.entry(group).or_default() += 1;
            }
            if let Some(step) = steps.iter_mut().find(|step| step.class == *class) {
                step.joined.push(watcher.clone());
            }
        }
        steps.retain(|step| step.group == 0 || !step.joined.is_empty() || !self.is_told(step));
        (steps, leaving)
    }

    fn here(&self, watcher: &Address) -> Option<u64> {
        self.groups.places.get(watcher).and_then(|place| place.group)
    }

    /// Whether a watcher of this class who is there is to be in its group: whoever was shown nothing may
    /// have to wait.
    fn moves(&self, group: Option<u64>, class: usize) -> bool {
        group.is_some() || !self.classes[class].withheld
    }

    /// Whether the other side holds for that group what it is to see.
    fn is_told(&self, step: &Step) -> bool {
        let told = self.groups.groups.get(&step.group).and_then(|group| group.told);
        told == Some(self.classes[step.class].version)
    }

    fn all_of(&self, class: usize) -> Vec<Address> {
        let all = self.of.iter().filter(|(_, of)| *of == class);
        let all = all.filter(|(watcher, _)| self.moves(self.here(watcher), class));
        all.map(|(watcher, _)| watcher.clone()).collect()
    }
}

/// The group that each class goes on in, if any: those that share most watchers first, then the
/// oldest group.
fn assign(shared: &HashMap<(u64, usize), usize>, classes: usize) -> Vec<Option<u64>> {
    let mut pairs: Vec<_> =
        shared.iter().map(|((group, class), n)| (Reverse(*n), *group, *class)).collect();
    pairs.sort_unstable();
    let (mut targets, mut taken) = (vec![None; classes], HashSet::default());
    for (_, group, class) in pairs {
        if targets[class].is_none() && taken.insert(group) {
            targets[class] = Some(group);
        }
    }
    targets
}
