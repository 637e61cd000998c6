//! What ties a watcher to a presentity: what keeps the subscription, and who is told of it. Of nearly all
//! watchers one session is both, and there are very many of these, so then its id is all that is kept.

use std::slice;

use smallvec::SmallVec;

use crate::bonds::{Bond, Bonds};
use crate::ids::ListenerId;

/// Who is told.
pub(crate) type Listeners = SmallVec<[ListenerId; 1]>;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ties(Tied);

/// Equal ties have one form only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Tied {
    #[default]
    None,
    /// A session keeps it and is told.
    Session(ListenerId),
    Otherwise(Box<(Bonds, Listeners)>),
}

impl Ties {
    fn of(bonds: Bonds, listeners: Listeners) -> Ties {
        Ties(match (bonds.only(), &listeners[..]) {
            (None, []) if bonds.is_empty() => Tied::None,
            (Some(Bond::Session(keeps)), [told]) if *told == keeps.into() => Tied::Session(*told),
            _ => Tied::Otherwise(Box::new((bonds, listeners))),
        })
    }

    /// What keeps the subscription.
    pub(crate) fn bonds(&self) -> Bonds {
        match &self.0 {
            Tied::None => Bonds::default(),
            Tied::Session(listener) => Bonds::one(Bond::Session(listener.as_session())),
            Tied::Otherwise(ties) => ties.0.clone(),
        }
    }

    /// Who is told.
    pub(crate) fn listeners(&self) -> &[ListenerId] {
        match &self.0 {
            Tied::None => &[],
            Tied::Session(listener) => slice::from_ref(listener),
            Tied::Otherwise(ties) => &ties.1,
        }
    }

    /// Changes them.
    pub(crate) fn edit<R>(&mut self, act: impl FnOnce(&mut Bonds, &mut Listeners) -> R) -> R {
        let (mut bonds, mut listeners) = match std::mem::take(&mut self.0) {
            Tied::Otherwise(ties) => *ties,
            tied => {
                let ties = Ties(tied);
                (ties.bonds(), Listeners::from_slice(ties.listeners()))
            }
        };
        let answer = act(&mut bonds, &mut listeners);
        *self = Ties::of(bonds, listeners);
        answer
    }
}

#[cfg(test)]
mod tests {
    use impp_protocol::SessionId;

    use super::*;
    use crate::bonds::Keeper;

    #[test]
    fn a_session_that_keeps_it_and_is_told_is_kept_once() {
        let (one, other) = (SessionId([1; 16]), SessionId([2; 16]));
        let mut ties = Ties::default();
        ties.edit(|bonds, _| bonds.keep(Bond::Session(one)));
        assert!(matches!(ties.0, Tied::Otherwise(_)), "nobody is told");
        ties.edit(|_, listeners| listeners.push(one.into()));
        assert!(matches!(ties.0, Tied::Session(_)));
        assert_eq!(ties.bonds().of(Keeper::Session(one)), Some(Bond::Session(one)));
        assert_eq!(ties.listeners(), [one.into()]);
        let alone = ties.clone();
        ties.edit(|bonds, listeners| {
            bonds.keep(Bond::Session(other));
            listeners.push(other.into());
        });
        assert_eq!((ties.bonds().len(), ties.listeners().len()), (2, 2));
        ties.edit(|bonds, listeners| {
            assert!(bonds.release(Keeper::Session(other)));
            listeners.retain(|listener| *listener != other.into());
        });
        assert_eq!(ties, alone);
        ties.edit(|bonds, listeners| {
            bonds.clear();
            listeners.clear();
        });
        assert_eq!(ties, Ties::default());
    }

    #[test]
    fn who_is_told_and_what_keeps_it_may_differ() {
        let (one, other) = (SessionId([1; 16]), SessionId([2; 16]));
        let mut ties = Ties::default();
        ties.edit(|bonds, listeners| {
            bonds.keep(Bond::Session(one));
            listeners.push(other.into());
        });
        assert!(ties.bonds().of(Keeper::Session(other)).is_none());
        assert_eq!(ties.listeners(), [other.into()]);
    }
}
