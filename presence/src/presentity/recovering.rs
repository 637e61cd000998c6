//! After a crash: layers that were bound to sessions are lost, and nobody knows what they have said of
//! the sphere, until a device publishes or the window of recovery ends.
//!
//! What becomes meanwhile of who it hangs on is decided in `policy`.

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
}
