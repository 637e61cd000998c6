//! The layers of a presentity, one for each device that publishes, and the document they compose.
//!
//! Who may publish is left to the session, storing leased layers to the server. Layers are cheap to
//! clone.

use std::sync::Arc;

use bytes::Bytes;
use impp_protocol::field::Fault;
use impp_protocol::presence::{DOCUMENT_BYTES_MAX, Document, Patch, Version};
use impp_protocol::{Address, DeviceId, SessionId, Timestamp};

/// Most layers of one presentity; more than devices.
pub const LAYERS_MAX: usize = 64;

/// Most of these that delegates have, and their bytes together: they leave the owner room.
pub const DELEGATED_MAX: usize = 16;
/// See there. Each delegate has at most half of what the others leave of both: so there is always some
/// for one more.
pub const DELEGATED_BYTES_MAX: usize = 16 * 1024;

/// How long a layer stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Until then, whatever happens to the connection; it survives a restart.
    Until(Timestamp),
    /// As long as the session has a connection.
    Bound(SessionId),
    /// Its session has lost the connection; it stays until then.
    Grace(SessionId, Timestamp),
}

impl Lease {
    /// Whether it ends with this session.
    pub(crate) fn is_of(&self, session: SessionId) -> bool {
        matches!(self, Lease::Bound(of) | Lease::Grace(of, _) if *of == session)
    }

    /// A session has lost its connection, and this stays until then, or it has found one again.
    pub(crate) fn rebind(&mut self, session: SessionId, grace: Option<Timestamp>) {
        if self.is_of(session) {
            *self = grace.map_or(Lease::Bound(session), |until| Lease::Grace(session, until));
        }
    }
}

/// A document and its encoding, made once: of this its length is known, and it is what is stored.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    document: Arc<Document>,
    encoded: Bytes,
}

impl Said {
    #[expect(clippy::disallowed_methods, reason = "the owner's own layer: no watcher gets it")]
    fn new(document: Document) -> Arc<Said> {
        let encoded = document.encode();
        Arc::new(Said { document: Arc::new(document), encoded })
    }
}

/// The id of the layer that a delegate publishes from one of its devices: a digest of both, so that no
/// choice of a device's id makes it that of somebody else's layer.
pub fn delegated(delegate: &Address, device: DeviceId) -> DeviceId {
    DeviceId(Version::of(&[delegate.as_str().as_bytes(), &[0], &device.0].concat()).0)
}

/// What one device publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layer {
    device: DeviceId,
    /// Whose it is, if it is a delegate's.
    by: Option<Address>,
    said: Arc<Said>,
    lease: Lease,
    /// Rises with every publication: the newest shows.
    order: u64,
    /// The crash that was being recovered from when it was published.
    crash: Option<Timestamp>,
}

/// A leased layer as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The document, encoded.
    pub document: Bytes,
    /// When the lease ends.
    pub until: Timestamp,
    /// Its place among the others: the highest was published last.
    pub order: u64,
    /// Whose it is, if it is a delegate's.
    pub by: Option<Address>,
    /// The crash that was being recovered from when it was published, by when that was begun: it is none
    /// of what that crash has left.
    pub crash: Option<Timestamp>,
}

/// All layers of one presentity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    layers: Vec<Layer>,
    /// The crash that is being recovered from.
    crash: Option<Timestamp>,
}

impl Layers {
    /// None yet, of who may have lost some in a crash that is being recovered from since then.
    pub fn after(crash: Option<Timestamp>) -> Layers {
        Layers { crash, ..Layers::default() }
    }

    /// Whether a device of the owner's has published since the crash.
    pub(crate) fn has_returned(&self) -> bool {
        let since = |layer: &Layer| layer.by.is_none() && layer.crash == self.crash;
        self.crash.is_some() && self.layers.iter().any(since)
    }

    /// Changes the layer of a device, which is made if it is not there; what all compose then. It shows
    /// above those of a lower order.
    ///
    /// # Errors
    /// [`Fault`] if limits would be exceeded: of the layer, of their number, of all of them together.
    /// Nothing changed then.
    pub(crate) fn publish(
        &mut self,
        order: u64,
        device: DeviceId,
        patch: &Patch,
        replace: bool,
        lease: Lease,
    ) -> Result<Arc<Document>, Fault> {
        self.publish_by(order, None, device, patch, replace, lease)
    }

    /// The same for a delegate, by the id that [`delegated`] says.
    ///
    /// # Errors
    /// [`Fault`], also if delegates' layers would exceed their part.
    pub(crate) fn publish_by(
        &mut self,
        order: u64,
        by: Option<&Address>,
        device: DeviceId,
        patch: &Patch,
        replace: bool,
        lease: Lease,
    ) -> Result<Arc<Document>, Fault> {
        let index = self.layers.iter().position(|layer| layer.device == device);
        let document = match index {
            Some(index) if !replace => Document::clone(&self.layers[index].said.document),
            _ => Document::default(),
        };
        let said = Said::new(patch.applied(document)?);
        if index.is_none() && self.layers.len() == LAYERS_MAX {
            return Err(Fault::TooLong);
        }
        let layer = Layer { device, by: by.cloned(), said, lease, order, crash: self.crash };
        let others = self.layers.iter().filter(|other| other.device != device);
        // With room for these and no more: most have one, and keep it long.
        let mut layers = Vec::with_capacity(self.layers.len() + usize::from(index.is_none()));
        layers.extend(others.cloned().chain([layer]));
        let layers = Layers { layers, crash: self.crash };
        // All layers together fit a frame, so that whatever they come to compose does.
        if layers.size() > DOCUMENT_BYTES_MAX || by.is_some_and(|by| layers.crowds(by, self)) {
            return Err(Fault::TooLong);
        }
        // Layers within limits may exceed them together.
        let composed = layers.compose();
        composed.check_counts()?;
        *self = layers;
        Ok(composed)
    }

    /// Takes a layer back from the store, in its place among the others. Those that were stored
    /// without a place (0) lie beneath all that have one, as they come.
    pub fn restore(&mut self, device: DeviceId, document: Document, until: Timestamp, order: u64) {
        self.restore_by(None, device, document, until, order, None);
    }

    /// The same of a layer that may be a delegate's, or have been published after a crash.
    pub fn restore_by(
        &mut self,
        by: Option<Address>,
        device: DeviceId,
        document: Document,
        until: Timestamp,
        order: u64,
        crash: Option<Timestamp>,
    ) {
        let lease = Lease::Until(until);
        self.layers.reserve_exact(1);
        self.layers.push(Layer { device, by, said: Said::new(document), lease, order, crash });
    }

    /// The layers of delegates: whose, which, and what they say.
    pub(crate) fn delegated(&self) -> impl Iterator<Item = (&Address, DeviceId, &Document)> {
        self.layers
            .iter()
            .filter_map(|layer| Some((layer.by.as_ref()?, layer.device, &*layer.said.document)))
    }

    /// Whether a delegate has come to more than its share of what there is for delegates. What it had
    /// before the others came it may go on saying.
    fn crowds(&self, by: &Address, before: &Layers) -> bool {
        let size = |of: &Layers, own: bool| {
            let delegated = of.layers.iter().filter_map(|layer| Some((layer.by.as_ref()?, layer)));
            let counted = delegated.filter(|(who, _)| (*who == by) == own);
            counted.fold((0, 0), |(count, bytes), (_, layer)| {
                (count + 1, bytes + layer.said.encoded.len())
            })
        };
        let (own, others, had) = (size(self, true), size(self, false), size(before, true));
        let exceeds = |own, others, had, max| 2 * own + others > max && own > had;
        exceeds(own.0, others.0, had.0, DELEGATED_MAX)
            || exceeds(own.1, others.1, had.1, DELEGATED_BYTES_MAX)
    }

    /// The order of the layer that was published last.
    pub(crate) fn last_order(&self) -> u64 {
        self.layers.iter().map(|layer| layer.order).max().unwrap_or_default()
    }

    /// Ends the layer of a device.
    pub(crate) fn remove(&mut self, device: DeviceId) {
        self.layers.retain(|layer| layer.device != device);
    }

    /// Moves the layers bound to a session into their grace, or back.
    pub(crate) fn rebind(&mut self, session: SessionId, grace: Option<Timestamp>) {
        for layer in &mut self.layers {
            layer.lease.rebind(session, grace);
        }
    }

    /// Ends the layers bound to a session.
    pub(crate) fn end_session(&mut self, session: SessionId) {
        self.layers.retain(|layer| !layer.lease.is_of(session));
    }

    /// Ends what has expired.
    pub fn expire(&mut self, now: Timestamp) {
        self.layers.retain(|layer| match layer.lease {
            Lease::Until(until) | Lease::Grace(_, until) => until > now,
            Lease::Bound(_) => true,
        });
    }

    /// Ends all.
    pub(crate) fn end_all(&mut self) {
        self.layers.clear();
    }

    /// Whether [`Layers::expire`] has something to end.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.next_deadline().is_some_and(|at| at <= now)
    }

    /// When the next layer expires.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let deadline = |layer: &Layer| match layer.lease {
            Lease::Until(until) | Lease::Grace(_, until) => Some(until),
            Lease::Bound(_) => None,
        };
        self.layers.iter().filter_map(deadline).min()
    }

    /// What a device has published itself, encoded for the store and for its own eyes.
    pub fn of(&self, device: DeviceId) -> Option<(Bytes, Lease)> {
        let layer = self.find(device)?;
        Some((layer.said.encoded.clone(), layer.lease))
    }

    /// What of a device's layer survives a restart: nothing but a lease does.
    pub fn saved(&self, device: DeviceId) -> Option<Saved> {
        match self.find(device)?.lease {
            Lease::Until(until) => self.saved_until(device, until),
            Lease::Bound(_) | Lease::Grace(..) => None,
        }
    }

    /// A device's layer as one that is leased until then.
    pub fn saved_until(&self, device: DeviceId, until: Timestamp) -> Option<Saved> {
        let layer = self.find(device)?;
        let (document, by) = (layer.said.encoded.clone(), layer.by.clone());
        Some(Saved { document, until, order: layer.order, by, crash: layer.crash })
    }

    /// The devices whose layers, or their leases, are not the same in both.
    pub(crate) fn unlike(&self, other: &Layers) -> Vec<DeviceId> {
        let devices = |of: &Layers| of.layers.iter().map(|layer| layer.device).collect::<Vec<_>>();
        let (mut all, more) = (devices(self), devices(other));
        all.extend(more.into_iter().filter(|device| self.find(*device).is_none()));
        all.retain(|device| self.find(*device) != other.find(*device));
        all
    }

    /// What a layer says.
    pub(crate) fn document(&self, device: DeviceId) -> Option<&Document> {
        self.find(device).map(|layer| &*layer.said.document)
    }

    fn find(&self, device: DeviceId) -> Option<&Layer> {
        self.layers.iter().find(|layer| layer.device == device)
    }

    /// The length of all layers together; what they compose is never longer.
    pub fn size(&self) -> usize {
        self.layers.iter().map(|layer| layer.said.encoded.len()).sum()
    }

    /// The devices whose layers are bound to sessions, or in their grace.
    pub fn bound(&self) -> impl Iterator<Item = DeviceId> {
        let bound = |layer: &&Layer| !matches!(layer.lease, Lease::Until(_));
        self.layers.iter().filter(bound).map(|layer| layer.device)
    }

    /// Whether nobody publishes.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The document that the layers make together: tuples and devices are united, and of what
    /// several layers say the newest shows. Without layers it is [`Document::offline`]. Of one alone
    /// there is no copy.
    pub fn compose(&self) -> Arc<Document> {
        if let [Layer { said, .. }] = &*self.layers
            && *said.document != Document::default()
        {
            return said.document.clone();
        }
        let mut layers: Vec<&Layer> = self.layers.iter().collect();
        layers.sort_by_key(|layer| layer.order);
        let mut whole = Document::default();
        for document in layers.into_iter().map(|layer| &layer.said.document) {
            whole.person.extend(document.person.clone());
            whole.tuples.extend(document.tuples.clone());
            whole.devices.extend(document.devices.clone());
        }
        if whole == Document::default() { Document::offline().into() } else { whole.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use impp_protocol::presence::{FieldName, PartId};

    fn patch(tuple: &str, note: Option<&str>) -> Patch {
        let mut document = Document::default();
        let fields = [(FieldName::parse("status").unwrap(), "open".into())];
        document.tuples.insert(PartId::parse(tuple).unwrap(), fields.into_iter().collect());
        if let Some(note) = note {
            document.person.insert(FieldName::parse("note").unwrap(), note.into());
        }
        Patch::between(&Document::default(), &document)
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn layers_come_back_from_the_store_in_the_order_in_which_they_were_published() {
        let (first, second, until) = (DeviceId([2; 16]), DeviceId([1; 16]), at(100));
        let mut layers = Layers::default();
        layers.publish(1, first, &patch("a", Some("old")), true, Lease::Until(until)).unwrap();
        layers
            .publish(2, second, &patch("b", Some("new")), true, Lease::Bound(SessionId([7; 16])))
            .unwrap();
        let mut back = Layers::default();
        // By the ids of their devices, which is how they are stored.
        for device in [second, first] {
            let saved = layers.saved_until(device, until).unwrap();
            let document = Document::decode(saved.document).unwrap();
            back.restore(device, document, saved.until, saved.order);
        }
        assert_eq!(back.compose(), layers.compose());
        // One that was stored without a place lies beneath, and a new one on top.
        let other = patch("c", Some("older")).applied(Document::default()).unwrap();
        back.restore(DeviceId([3; 16]), other, until, 0);
        assert_eq!(&**back.compose().person.get("note").unwrap(), "new");
        let newest = patch("a", Some("newest"));
        let whole = back.publish(3, first, &newest, true, Lease::Until(until)).unwrap();
        assert_eq!(&**whole.person.get("note").unwrap(), "newest");
    }

    #[test]
    fn one_layer_alone_is_kept_once() {
        let (mut layers, device) = (Layers::default(), DeviceId([1; 16]));
        let lease = Lease::Until(at(100));
        let composed = layers.publish(1, device, &patch("a", Some("here")), true, lease).unwrap();
        assert!(std::ptr::eq(&*composed, layers.document(device).unwrap()));
        assert_eq!(layers.layers.capacity(), 1);
        layers.publish(2, device, &patch("a", Some("there")), false, lease).unwrap();
        assert_eq!(layers.layers.capacity(), 1);
        // Who says nothing is offline all the same.
        layers.publish(3, device, &Patch::default(), true, lease).unwrap();
        assert_eq!(*layers.compose(), Document::offline());
    }

    #[test]
    fn the_newest_layer_shows_and_when_it_ends_the_next_one_again() {
        let mut layers = Layers::default();
        let (phone, laptop) = (DeviceId([1; 16]), DeviceId([2; 16]));
        layers
            .publish(1, phone, &patch("phone", Some("old")), true, Lease::Until(at(100)))
            .unwrap();
        layers
            .publish(2, laptop, &patch("laptop", Some("new")), true, Lease::Until(at(50)))
            .unwrap();
        let both = layers.compose();
        assert_eq!((both.tuples.len(), &**both.person.get("note").unwrap()), (2, "new"));
        assert_eq!(layers.next_deadline(), Some(at(50)));
        layers.expire(at(50));
        let one = layers.compose();
        assert_eq!((one.tuples.len(), &**one.person.get("note").unwrap()), (1, "old"));
        layers.remove(phone);
        assert_eq!(*layers.compose(), Document::offline());
    }

    #[test]
    fn layers_that_fit_alone_are_refused_where_they_do_not_fit_together() {
        let tuples = |of: &str| {
            let mut document = Document::default();
            for index in 0..16 {
                let id = PartId::parse(&format!("{of}{index}")).unwrap();
                document.tuples.insert(id, Default::default());
            }
            Patch::between(&Document::default(), &document)
        };
        let (mut layers, lease) = (Layers::default(), Lease::Until(at(100)));
        layers.publish(1, DeviceId([1; 16]), &tuples("a"), true, lease).unwrap();
        let before = layers.clone();
        let second = layers.publish(2, DeviceId([2; 16]), &tuples("b"), true, lease);
        assert_eq!((second, layers), (Err(Fault::TooLong), before));
    }

    #[test]
    fn a_bound_layer_outlives_its_connection_by_the_grace() {
        let (mut layers, session) = (Layers::default(), SessionId([9; 16]));
        layers
            .publish(1, DeviceId([1; 16]), &patch("t", None), true, Lease::Bound(session))
            .unwrap();
        assert_eq!(layers.next_deadline(), None);
        layers.rebind(session, Some(at(30)));
        layers.expire(at(29));
        layers.rebind(session, None);
        layers.expire(at(31));
        assert!(!layers.is_empty());
        layers.rebind(session, Some(at(60)));
        layers.expire(at(60));
        assert!(layers.is_empty());
    }
}
