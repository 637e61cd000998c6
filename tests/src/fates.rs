//! What became of messages to other domains: their fates, where they wait, what has come in.

use impp_protocol::What;
use impp_protocol::command::{Fetch, Outcome};
use impp_protocol::state::{self, Fate, FateReport, ItemKind, Whereabouts};

use crate::peer::{Peer, fetch, message};
use crate::wait::eventually;

/// Rules that take messages from everybody with a name.
pub const OPEN: &str =
    "[[delivery]]\nid = \"all\"\nwho = [\"authenticated\"]\naction = \"accept\"\n";

impl Peer {
    /// Sends a text to another domain, where it has to be queued: its id.
    pub async fn queue(&mut self, to: &str, text: &str) -> [u8; 16] {
        let message = message(to, text);
        let id = message.id;
        assert_eq!(self.done(message).await.outcome, Some(Outcome::Queued));
        id
    }

    /// Where a message is.
    pub async fn whereabouts(&mut self, id: [u8; 16]) -> Whereabouts {
        let own = self.address.clone();
        let fetch = Fetch { id: Some(id), ..fetch(own.as_str(), What::Fate) };
        state::decode(self.done(fetch).await.content.expect("whereabouts")).unwrap()
    }

    /// The reports in the log of how messages ended.
    pub async fn reports(&mut self) -> Vec<FateReport> {
        let log = self.log().await.into_iter();
        log.filter(|item| item.kind == ItemKind::Fate).filter_map(|item| item.fate).collect()
    }

    /// How a message ends; it must have one end only.
    pub async fn end_of(&mut self, id: [u8; 16]) -> FateReport {
        let reports = eventually("the fate of a message", async || {
            let reports = self.reports().await;
            let own: Vec<_> = reports.into_iter().filter(|report| report.id == id).collect();
            (!own.is_empty()).then_some(own)
        });
        let [report] = <[FateReport; 1]>::try_from(reports.await).expect("one end");
        report
    }

    /// Waits until a message was delivered.
    pub async fn until_delivered(&mut self, id: [u8; 16]) {
        let report = self.end_of(id).await;
        assert_eq!(report.fate, Fate::Delivered, "{report:?}");
    }

    /// The texts in the inbox, in their order, when there are so many.
    pub async fn texts(&mut self, count: usize) -> Vec<String> {
        let inbox = eventually("messages", async || {
            let inbox = self.inbox().await;
            (inbox.len() >= count).then_some(inbox)
        });
        let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
        inbox.await.iter().map(|message| text(&message.body)).collect()
    }
}
