//! The servers of other domains, as those who need something of them see them. Links stand above, and
//! are known here by this alone.

use futures_util::future::BoxFuture;
use impp_federation::shares::Claim;
use impp_protocol::command::Done;
use impp_protocol::{Address, Command, Domain, Error};

/// See the module.
pub trait Beyond: Send + Sync {
    /// The claim by which an account may ask, follow or write to another domain, and which is held as
    /// long as that goes on.
    ///
    /// # Errors
    /// full, if it has its share of domains already.
    fn claim(&self, account: &Address, remote: &Domain) -> Result<Claim, Error>;

    /// There is something to ask of the other domain: a link is needed, or has to look.
    fn wanted(&self, local: &Domain, remote: &Domain);

    /// Asks the other domain's server something in the name of whoever has this claim.
    ///
    /// # Errors
    /// Its answer, or unreachable.
    fn ask(&self, claim: Claim, command: Command) -> BoxFuture<'static, Result<Done, Error>>;
}
