//! After a crash: layers that were bound to sessions are lost, and nobody knows what they have said of
//! the sphere, until a device publishes or the window of recovery ends.
//!
//! What becomes meanwhile of who it hangs on is decided in `policy`.

use impp_protocol::{Address, Timestamp};

use super::change::State;
use crate::policy::Sphere;

impl State {
    /// The owner's sphere.
    pub(super) fn sphere(&self) -> Sphere<'_> {
        match self.lost {
            true => Sphere::Lost,
            false => Sphere::Is(self.document.sphere()),
        }
    }

    /// Brings those up to date who were read from the store, and may not stand as is decided now.
    pub(super) fn restored(&mut self, now: Timestamp) {
        let all: Vec<Address> = self.watchers.iter().map(|(who, _)| who.clone()).collect();
        for who in all {
            let decision = self.decision(now, &who);
            self.watchers.edit(&who, |watching| {
                if let Some(watching) = watching {
                    watching.decide(now, decision);
                }
            });
        }
    }
}
