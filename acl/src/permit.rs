//! Who may act on somebody's things, as a value that one has to hold.
//!
//! That who acts has proven who they are is left to the callers: the sign-in, the operator's socket.
//! Which thing asks for which permit says the table in `things`.

use std::marker::PhantomData;
use std::sync::Arc;

use impp_protocol::{Address, What};

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
/// What these examples name is there: they are refused for what they do with it.
///
/// ```
/// use impp_acl::{Acting, By, scope};
/// use impp_protocol::Address;
///
/// fn remove_a_device(_: &Acting<scope::Account>) {}
///
/// let alice = Address::parse("alice@a.example").unwrap();
/// let acting = Acting::oneself(&alice, &alice).unwrap();
/// assert_eq!((acting.owner(), acting.by()), (&alice, &By::Oneself));
/// remove_a_device(&acting);
/// ```
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
    /// The operator of the server.
    Administrator,
    /// The server itself, where its own limits ask for it.
    System,
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
}

impl<S> Acting<S> {
    /// Somebody who has signed in, on their own things.
    ///
    /// # Errors
    /// [`NotYours`] if they are another's.
    pub fn oneself(signed_in: &Address, owner: &Address) -> Result<Acting<S>, Box<NotYours>> {
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

    /// The server itself.
    pub fn system(owner: &Address) -> Acting<S> {
        Acting { owner: owner.clone(), by: By::System, over: PhantomData }
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
