//! Which of several links between the same two domains is kept (design: one link for a pair).
//!
//! Both ends decide alike from what both know, so they keep the same one. Draining and closing the
//! other is left to the server.

use impp_protocol::Domain;

/// Who a HELLO says is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of its store: the same after a restart.
    pub instance: [u8; 16],
    /// Of its run: another after a restart.
    pub boot: [u8; 16],
}

/// What of a link both ends know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who is at the other end.
    pub peer: Identity,
    /// Whether this end dialled.
    pub dialled_here: bool,
}

/// What becomes of an older link when a newer one to the same domain has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both stay: they lead to different servers.
    Both,
    /// The newer one stays, the older one drains.
    Newer,
    /// The older one stays, the newer one drains.
    Older,
}

/// Settles between two links of one (local, remote) pair.
pub fn settle(local: &Domain, remote: &Domain, older: Candidate, newer: Candidate) -> Verdict {
    if older.peer.instance != newer.peer.instance {
        return Verdict::Both;
    }
    // A server that was started anew, or that dials again, does not know the older link any more.
    if older.peer.boot != newer.peer.boot || older.dialled_here == newer.dialled_here {
        return Verdict::Newer;
    }
    // Dialled from both ends at once: the one that the smaller name dialled is kept.
    let smaller_is_here = local.as_str() < remote.as_str();
    if newer.dialled_here == smaller_is_here { Verdict::Newer } else { Verdict::Older }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    fn link(instance: u8, boot: u8, dialled_here: bool) -> Candidate {
        let peer = Identity { instance: [instance; 16], boot: [boot; 16] };
        Candidate { peer, dialled_here }
    }

    #[test]
    fn both_ends_keep_the_link_that_the_smaller_name_dialled() {
        let (a, b) = (domain("a.example"), domain("b.example"));
        // In whichever order an end sees the two: the one that a dialled stays.
        for a_saw_own_first in [true, false] {
            let older = link(1, 1, a_saw_own_first);
            let newer = link(1, 1, !a_saw_own_first);
            let kept = match settle(&a, &b, older, newer) {
                Verdict::Older => older,
                Verdict::Newer => newer,
                Verdict::Both => unreachable!(),
            };
            assert!(kept.dialled_here, "a keeps its own");
            let kept = match settle(&b, &a, older, newer) {
                Verdict::Older => older,
                Verdict::Newer => newer,
                Verdict::Both => unreachable!(),
            };
            assert!(!kept.dialled_here, "b keeps a's");
        }
    }

    #[test]
    fn a_restarted_end_and_a_second_dial_of_one_end_replace_and_other_servers_stay() {
        let (a, b) = (domain("a.example"), domain("b.example"));
        assert_eq!(settle(&b, &a, link(1, 1, false), link(1, 2, true)), Verdict::Newer);
        assert_eq!(settle(&b, &a, link(1, 1, true), link(1, 1, true)), Verdict::Newer);
        assert_eq!(settle(&a, &b, link(1, 1, true), link(2, 1, true)), Verdict::Both);
    }
}
