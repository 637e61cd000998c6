//! The protocols, each with the server that speaks it.

mod impp;
mod mqtt;
mod nats;
mod relay;
mod spawned;
mod stanzas;
mod xmpp;

use crate::protocol::{Later, Protocol, Wish};

/// Starts a server.
pub(crate) type Start = for<'a> fn(&'a Wish) -> Later<'a, Box<dyn Protocol>>;

macro_rules! protocol {
    ($name:literal, $start:path) => {
        ($name, |wish| {
            Box::pin(async move {
                let started: Box<dyn Protocol> = Box::new($start(wish).await);
                started
            })
        })
    };
}

/// All of them, the floor first.
pub(crate) const PROTOCOLS: [(&str, Start); 7] = [
    protocol!("relay", relay::Relay::start),
    protocol!("impp", impp::Impp::start),
    protocol!("impp-link", impp::Impp::start_linked),
    protocol!("nats", nats::Nats::start),
    protocol!("mosquitto", mqtt::Mosquitto::start),
    protocol!("ejabberd", xmpp::Xmpp::ejabberd),
    protocol!("prosody", xmpp::Xmpp::prosody),
];
