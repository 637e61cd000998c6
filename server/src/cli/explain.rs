//! `imppd explain`: what somebody's rules make of somebody else, said by the running server, which
//! writes down who has asked.

use super::{Failure, WhichServer, asked};
use crate::core::config::Config;
use crate::front::control::{Request, Response};

/// Arguments of `imppd explain`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Whose rules: user@domain
    owner: String,
    /// About whom: user@domain
    watcher: String,
    #[command(flatten)]
    which: WhichServer,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { owner, watcher, which } = arguments;
    let config = Config::load_without_policies(&which.path()?)?;
    let socket = &config.server.control;
    let hint = "rules are asked of a server that runs, which knows the sphere and the time";
    match asked(socket, &Request::Explain { owner, watcher }, hint).await? {
        Response::Explained(explained) => {
            for purpose in explained {
                data!("{}", serde_json::to_string(&purpose).unwrap_or_default());
            }
            Ok(())
        }
        _ => Err(Failure::new(3, format!("{}: no such answer", socket.display()))),
    }
}
