//! The end of a presentity, and what those are told of it who watch, or wait for its owner.

use impp_protocol::state::SubscriptionEvent;
use impp_protocol::{Address, Timestamp};

use super::change::State;
use super::layers::Layers;
use crate::watching::Watching;

impl State {
    pub(super) fn close(&mut self, now: Timestamp, event: SubscriptionEvent) {
        let told = |(who, watching): (&Address, &Watching)| {
            // Who waits elsewhere was never told that there is an owner: it is given up, as it would be
            // at an address that nobody has.
            let waits_elsewhere =
                watching.is_waiting() && who.domain_str() != self.owner.domain_str();
            (who.clone(), if waits_elsewhere { SubscriptionEvent::Giveup } else { event })
        };
        let all: Vec<_> = self.watchers.iter().map(told).collect();
        for (who, event) in all {
            self.terminate(now, &who, event);
        }
        self.layers = Layers::default();
        self.recompose();
    }
}
