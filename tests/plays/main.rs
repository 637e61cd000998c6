//! Plays against the real programs: one function for each row of what must hold and of what must
//! be survived, named after it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod before_sign_in;
mod bounded;
mod client;
mod corpus;
mod delivery;
mod edges;
mod external;
mod framing;
mod framing_values;
mod link_tls;
mod links_astray;
mod links_crash;
mod links_forged;
mod links_frames;
mod links_hostile;
mod links_many;
mod links_mended;
mod links_messages;
mod links_netns;
mod links_presence;
mod links_settle;
mod links_stubborn;
mod locate;
mod locate_client;
mod locate_search;
mod log_trimmed;
mod mended;
mod messages;
mod messages_crash;
mod messages_flow;
mod operate;
mod presence;
mod presence_leases;
mod presence_views;
mod resume;
mod resume_edges;
mod rules;
mod rules_change;
mod rules_polite;
mod rules_words;
mod services;
mod sign_in;
mod store;
mod two_domains;
