//! Who may act on somebody's things, as a value that one has to hold.
//!
//! That who acts has proven who they are is left to the callers: the sign-in, the operator's socket, the
//! link. Who they are, file by file, is listed in `tests/layers/permits.rs`. Which thing asks for which
//! permit says the table in `things`.

use std::marker::PhantomData;
use std::sync::Arc;

use impp_protocol::{Address, Domain, What};

use crate::delegation::{Mandate, Needs};
use crate::things::Ask;

/// The permission to act on things of one owner, within one [`scope`].
///
/// Nothing makes one but the functions here that say who acts, so a handler that is given one need not
/// ask again whose things it may touch. By hand it is neither made, nor widened, nor turned to another
/// owner, nor used for things of another scope:
///
/// ```compile_fail
/// # use std::marker::PhantomData;
/// # use impp_acl::{Acting, By, scope};
/// # fn forge(owner: impp_protocol::Address) -> Acting<scope::Account> {
/// Acting { owner, by: By::Oneself, over: PhantomData }
/// # }
/// ```
///
/// ```compile_fail
/// # use impp_acl::{Acting, scope};
/// # fn turn(acting: Acting<scope::Rules>, other: impp_protocol::Address) -> Acting<scope::Rules> {
/// Acting { owner: other, ..acting }
/// # }
/// ```
///
/// ```compile_fail,E0308
/// # use impp_acl::{Acting, scope};
/// fn remove_a_device(_: &Acting<scope::Account>) {}
///
/// # fn widen(acting: &Acting<scope::Rules>) {
/// remove_a_device(acting);
/// # }
/// ```
///
/// Nor by what makes permits inside `acl`: whoever has signed in comes by [`Permit::oneself`], a delegate by
/// [`Permit::delegate`], and both to the thing that they asked for.
///
/// ```compile_fail,E0624
/// # use impp_acl::{Acting, scope};
/// # fn turn(other: impp_protocol::Address) -> Acting<scope::Rules> {
/// Acting::oneself(&other, &other).unwrap()
/// # }
/// ```
///
/// ```compile_fail,E0624
/// # use impp_acl::{Acting, Mandate, Needs, scope};
/// # fn widen(mandate: std::sync::Arc<Mandate>) -> Option<Acting<scope::Account>> {
/// Acting::delegate(&mandate, Needs::Rules)
/// # }
/// ```
///
/// ```compile_fail,E0599
/// # use impp_acl::{Acting, Ask, scope};
/// # fn widen(other: &impp_protocol::Address) -> Option<Acting<scope::Inbox>> {
/// Acting::<scope::Inbox>::anonymous(other, impp_protocol::What::Log, Ask::Fetch)
/// # }
/// ```
///
/// What these examples name is there: they are refused for what they do with it.
///
/// ```
/// use impp_acl::{Acting, By, Permit, scope};
/// use impp_protocol::{Address, What};
///
/// fn remove_a_device(_: &Acting<scope::Account>) {}
///
/// let alice = Address::parse("alice@a.example").unwrap();
/// let bob = Address::parse("bob@a.example").unwrap();
/// let Ok(Permit::Devices(acting)) = Permit::oneself(&alice, &alice, What::Devices) else { panic!() };
/// assert_eq!((acting.owner(), acting.by()), (&alice, &By::Oneself));
/// remove_a_device(&acting);
/// assert!(Permit::oneself(&alice, &bob, What::Devices).is_err());
/// ```
///
/// [`Permit::oneself`]: crate::Permit::oneself
/// [`Permit::delegate`]: crate::Permit::delegate
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acting<S> {
    owner: Address,
    by: By,
    over: PhantomData<S>,
}

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The owner.
    Oneself,
    /// Somebody whom the owner's rules let, with all that they let them do.
    Delegate(Arc<Mandate>),
    /// Somebody who has proven no name.
    Anonymous,
    /// Somebody of another domain, in whose name its server asks.
    Elsewhere(Address),
    /// The operator of the server.
    Administrator,
}

/// What of an owner's things may be acted on.
pub mod scope {
    /// What the owner shows.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Presence;
    /// Who may see and write, and whoever waits for that.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rules;
    /// Who watches.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Watchers;
    /// What the owner follows, and the contact list.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Contacts;
    /// The log, and fates of messages.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Inbox;
    /// What goes out in the owner's name.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Sending;
    /// What the owner shows, as whoever looks or follows sees it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Sight;
    /// The account: its devices.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Account;
}

/// Somebody else's things were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotYours {
    /// Who asks.
    pub who: Address,
    /// Whose they are.
    pub owner: Address,
}

impl Acting<scope::Sending> {
    /// Somebody whom the owner's rules let send in the owner's name; nothing without the right for it.
    pub fn sending(mandate: &Arc<Mandate>) -> Option<Acting<scope::Sending>> {
        Acting::delegate(mandate, Needs::SendAs)
    }
}

impl Acting<scope::Sight> {
    /// Somebody who has proven no name: they may look at presence and follow it, and nothing else. What
    /// they see of it, its owner's rules say.
    pub fn anonymous(owner: &Address, what: What, ask: Ask) -> Option<Acting<scope::Sight>> {
        let may = matches!((what, ask), (What::Presence, Ask::Fetch | Ask::Follow));
        let (owner, by) = (owner.clone(), By::Anonymous);
        may.then_some(Acting { owner, by, over: PhantomData })
    }

    /// Somebody in whose name the server of another domain asks, which has proven that domain: of its own
    /// users it may say so, and of nobody else.
    pub fn elsewhere(
        proven: &Domain,
        watcher: &Address,
        owner: &Address,
    ) -> Option<Acting<scope::Sight>> {
        let (owner, by) = (owner.clone(), By::Elsewhere(watcher.clone()));
        let is_theirs = watcher.domain_str() == proven.as_str();
        is_theirs.then_some(Acting { owner, by, over: PhantomData })
    }

    /// Who looks or follows, as the owner's rules know them.
    pub fn watcher(&self) -> &Address {
        match &self.by {
            By::Elsewhere(watcher) => watcher,
            By::Delegate(mandate) => mandate.delegate(),
            By::Anonymous => Address::anonymous(),
            By::Oneself | By::Administrator => &self.owner,
        }
    }
}

impl<S> Acting<S> {
    /// Somebody who has signed in, on their own things.
    ///
    /// # Errors
    /// [`NotYours`] if they are another's.
    pub(crate) fn oneself(
        signed_in: &Address,
        owner: &Address,
    ) -> Result<Acting<S>, Box<NotYours>> {
        match signed_in == owner {
            true => Ok(Acting { owner: owner.clone(), by: By::Oneself, over: PhantomData }),
            false => Err(Box::new(NotYours { who: signed_in.clone(), owner: owner.clone() })),
        }
    }

    /// Somebody whom the owner's rules let do that now.
    pub(crate) fn delegate(mandate: &Arc<Mandate>, needs: Needs) -> Option<Acting<S>> {
        let (owner, by) = (mandate.owner().clone(), By::Delegate(mandate.clone()));
        mandate.has(needs).then_some(Acting { owner, by, over: PhantomData })
    }

    /// The operator of the server, who may open its control socket.
    pub fn administrator(owner: &Address) -> Acting<S> {
        Acting { owner: owner.clone(), by: By::Administrator, over: PhantomData }
    }

    /// On whose things.
    pub fn owner(&self) -> &Address {
        &self.owner
    }

    /// Who.
    pub fn by(&self) -> &By {
        &self.by
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_asks_in_the_name_of_its_own_users_alone() {
        let [owner, bob, alike] = ["alice@a.example", "bob@b.example", "bob@b.example.b.example"]
            .map(|text| Address::parse(text).unwrap());
        let acting = Acting::elsewhere(&bob.domain(), &bob, &owner).unwrap();
        assert_eq!((acting.owner(), acting.watcher()), (&owner, &bob));
        assert_eq!(acting.by(), &By::Elsewhere(bob.clone()));
        for watcher in [&owner, &alike, Address::anonymous()] {
            assert_eq!(Acting::elsewhere(&bob.domain(), watcher, &owner), None);
        }
    }

    #[test]
    fn who_proves_no_name_looks_and_follows_and_no_more() {
        let owner = Address::parse("alice@a.example").unwrap();
        for what in What::EVERY.iter().copied() {
            for ask in [Ask::Fetch, Ask::Publish, Ask::Follow] {
                let acting = Acting::anonymous(&owner, what, ask);
                let may = what == What::Presence && ask != Ask::Publish;
                assert_eq!(acting.is_some(), may, "{ask:?} {what}");
                assert!(acting.is_none_or(|acting| acting.watcher().is_anonymous()));
            }
        }
    }
}
