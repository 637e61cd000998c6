//! Who has looked once, or was refused: noted for the owner, and where there is none as well, so that it
//! takes as long for nobody as for somebody who never comes.
//!
//! What is kept of it, and how it is told, is `impp_presence`'s.

use std::collections::VecDeque;
use std::sync::Arc;

use impp_protocol::Address;

use super::Principals;

/// Of so many looks that are kept, the last ones, those at addresses without an account may be among them:
/// of an account there are as many as a presentity keeps.
const LOOKED_AT_MAX: usize = 65_536;

/// At whom somebody has looked who had not lately, the last so often; each look at nobody that is kept is
/// one of these.
#[derive(Debug, Default)]
pub(super) struct LookedAt(VecDeque<Address>);

impl LookedAt {
    /// One more; of whom nothing is to be kept any more, unless there is an account.
    fn add(&mut self, owner: &Address) -> Option<Address> {
        self.0.push_back(owner.clone());
        if self.0.len() > LOOKED_AT_MAX { self.0.pop_front() } else { None }
    }
}

impl Principals {
    /// Somebody has looked once, or was refused: the owner's to see, if there ever is one.
    pub async fn looked(self: &Arc<Self>, owner: &Address, who: &Address, refused: bool) {
        let noted = self.look(owner, |principal, now| {
            let noted = principal.presentity.looked(now, who, refused);
            self.ground.listeners.wake(owner, &noted.wake);
            noted.is_new
        });
        match noted.await {
            Ok(true) => self.looked_anew(owner),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "who has looked could not be noted"),
        }
    }

    /// Of looks at those who do not exist there are not more than of all together.
    fn looked_anew(&self, owner: &Address) {
        let gone = self.looked_at.lock().add(owner);
        if let Some(nobody) = gone.filter(|gone| self.ground.accounts.get(gone).is_none())
            && let Some(entry) = self.entries.get(&nobody).map(|entry| entry.value().clone())
        {
            entry.lock().presentity.forget_looks();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f14_of_looks_the_last_so_many_are_known_whoever_was_looked_at() {
        let mut looked = LookedAt::default();
        let who = |n: usize| Address::parse(&format!("g{n}@a.example")).unwrap();
        assert!((0..LOOKED_AT_MAX).all(|n| looked.add(&who(n)).is_none()));
        assert_eq!(looked.add(&who(0)), Some(who(0)));
        assert_eq!(looked.add(&who(0)), Some(who(1)));
        assert_eq!(looked.0.len(), LOOKED_AT_MAX);
    }
}
