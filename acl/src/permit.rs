//! Who may act on somebody's things, as a value that one has to hold; and what each thing is.
//!
//! That who acts has proven who they are is left to the callers: the sign-in, the operator's socket.

use impp_protocol::{Address, What};

/// The permission to act on things of one owner, within one scope.
///
/// Nothing makes one but the functions here that say who acts, so a handler that is given one need not
/// ask again whose things it may touch. By hand it is neither made, nor widened, nor turned to another
/// owner:
///
/// ```compile_fail
/// # use impp_acl::{Acting, By, Scope};
/// # fn forge(owner: impp_protocol::Address) -> Acting {
/// Acting { owner, by: By::Oneself, scope: Scope::Account }
/// # }
/// ```
///
/// ```compile_fail
/// # use impp_acl::{Acting, Scope};
/// # fn widen(acting: &mut Acting) {
/// acting.scope = Scope::Account;
/// # }
/// ```
///
/// ```compile_fail
/// # use impp_acl::Acting;
/// # fn turn(acting: Acting, other: impp_protocol::Address) -> Acting {
/// Acting { owner: other, ..acting }
/// # }
/// ```
///
/// What these examples name is there: they are refused for what they do with it.
///
/// ```
/// use impp_acl::{Acting, By, Scope};
/// use impp_protocol::Address;
///
/// let alice = Address::parse("alice@a.example").unwrap();
/// let acting = Acting::oneself(&alice, &alice, Scope::Rules).unwrap();
/// assert_eq!((acting.owner(), acting.by(), acting.scope()), (&alice, By::Oneself, Scope::Rules));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acting {
    owner: Address,
    by: By,
    scope: Scope,
}

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The owner.
    Oneself,
    /// The operator of the server.
    Administrator,
    /// The server itself, where its own limits ask for it.
    System,
}

/// What of an owner's things may be acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// What the owner shows.
    Presence,
    /// Who may see and write, and whoever waits for that.
    Rules,
    /// Who watches.
    Watchers,
    /// What the owner follows, and the contact list.
    Contacts,
    /// The log, and fates of messages.
    Inbox,
    /// The account: its devices.
    Account,
}

/// Somebody else's things were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotYours {
    /// Who asks.
    pub who: Address,
    /// Whose they are.
    pub owner: Address,
}

impl Acting {
    /// Somebody who has signed in, on their own things.
    ///
    /// # Errors
    /// [`NotYours`] if they are another's.
    pub fn oneself(
        signed_in: &Address,
        owner: &Address,
        scope: Scope,
    ) -> Result<Acting, Box<NotYours>> {
        match signed_in == owner {
            true => Ok(Acting { owner: owner.clone(), by: By::Oneself, scope }),
            false => Err(Box::new(NotYours { who: signed_in.clone(), owner: owner.clone() })),
        }
    }

    /// The operator of the server, who may open its control socket.
    pub fn administrator(owner: &Address, scope: Scope) -> Acting {
        Acting { owner: owner.clone(), by: By::Administrator, scope }
    }

    /// The server itself.
    pub fn system(owner: &Address, scope: Scope) -> Acting {
        Acting { owner: owner.clone(), by: By::System, scope }
    }

    /// On whose things.
    pub fn owner(&self) -> &Address {
        &self.owner
    }

    /// Who.
    pub fn by(&self) -> By {
        self.by
    }

    /// On which of them.
    pub fn scope(&self) -> Scope {
        self.scope
    }
}

/// A service of an account that a thing belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Presence.
    Presence,
    /// Messages.
    Messages,
}

/// How a thing is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It is something at any time: reading it again gives what is then.
    State,
    /// It grows: it is read from a place on.
    Series,
    /// It answers a question.
    Answer,
}

/// What there is to know of a thing before it is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thing {
    /// How it is read.
    pub shape: Shape,
    /// The service that its owner has to have, if it belongs to one.
    pub service: Option<Service>,
    /// What a permit to it has to be over. Presence is asked for by watchers too: what they see, the
    /// owner's rules say.
    pub scope: Scope,
    /// Whether it can be followed.
    pub followable: bool,
}

/// The table of things.
pub const fn thing(what: What) -> Thing {
    use Service::{Messages, Presence};
    use Shape::{Answer, Series, State};
    let (shape, service, scope, followable) = match what {
        What::Presence => (State, Some(Presence), Scope::Presence, true),
        What::Layer => (State, Some(Presence), Scope::Presence, false),
        What::Watchers => (State, Some(Presence), Scope::Watchers, false),
        What::Subscriptions => (State, Some(Presence), Scope::Contacts, false),
        What::Contacts => (State, None, Scope::Contacts, true),
        What::Rules => (State, None, Scope::Rules, false),
        What::Requests => (State, None, Scope::Rules, false),
        What::Explain => (Answer, None, Scope::Rules, false),
        What::Devices => (State, None, Scope::Account, false),
        What::Log => (Series, Some(Messages), Scope::Inbox, true),
        What::Fate => (Answer, Some(Messages), Scope::Inbox, false),
        What::ReadMarks => (State, Some(Messages), Scope::Inbox, false),
    };
    Thing { shape, service, scope, followable }
}
