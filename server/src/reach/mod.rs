//! One door to what lies beyond this principal: a presentity here, or of another domain.
//!
//! Links are left to `link`; what there is to ask of one is said by [`Beyond`].

mod beyond;

pub use beyond::Beyond;
