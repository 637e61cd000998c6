//! The layers of a presentity, one for each device that publishes, and the document they compose.
//!
//! Who may publish is left to the session, storing leased layers to the host.

use crate::ids::{DeviceId, SessionId};
use bytes::Bytes;
use impp_protocol::Timestamp;
use impp_protocol::field::Fault;
use impp_protocol::presence::{Document, Patch};

/// Most layers of one presentity; more than devices.
pub const LAYERS_MAX: usize = 64;

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

/// What one device publishes.
#[derive(Clone, Debug)]
struct Layer {
    device: DeviceId,
    document: Document,
    lease: Lease,
    /// Rises with every publication: the newest shows.
    order: u64,
}

/// A device's layer, or that it has none, to be put back.
#[derive(Clone, Debug)]
pub struct Saved {
    device: DeviceId,
    layer: Option<Layer>,
}

impl Saved {
    /// Whether it was one with a lease.
    pub fn is_leased(&self) -> bool {
        matches!(&self.layer, Some(Layer { lease: Lease::Until(_), .. }))
    }

    fn order(&self) -> Option<u64> {
        self.layer.as_ref().map(|layer| layer.order)
    }
}

/// All layers of one presentity.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    layers: Vec<Layer>,
    published: u64,
}

impl Layers {
    /// Changes the layer of a device, which is made if it is not there.
    ///
    /// # Errors
    /// [`Fault::TooLong`] if the layer or their number would exceed the limits.
    pub fn publish(
        &mut self,
        device: DeviceId,
        patch: &Patch,
        replace: bool,
        lease: Lease,
    ) -> Result<(), Fault> {
        let index = self.layers.iter().position(|layer| layer.device == device);
        let mut document = match index {
            Some(index) if !replace => self.layers[index].document.clone(),
            _ => Document::default(),
        };
        patch.apply(&mut document)?;
        if index.is_none() && self.layers.len() == LAYERS_MAX {
            return Err(Fault::TooLong);
        }
        self.published += 1;
        let layer = Layer { device, document, lease, order: self.published };
        match index {
            Some(index) => self.layers[index] = layer,
            None => self.layers.push(layer),
        }
        Ok(())
    }

    /// A device's layer as it is.
    pub fn saved(&self, device: DeviceId) -> Saved {
        let layer = self.layers.iter().find(|layer| layer.device == device).cloned();
        Saved { device, layer }
    }

    /// Takes back the change of one layer from `before` to `after`, if it is still as that left it;
    /// layers of other devices, and what came later, stay. Whether anything changed.
    pub fn put_back(&mut self, before: Saved, after: &Saved) -> bool {
        if self.saved(after.device).order() != after.order() {
            return false;
        }
        self.remove(after.device);
        self.layers.extend(before.layer);
        true
    }

    /// Takes a layer back from the store.
    pub fn restore(&mut self, device: DeviceId, document: Document, until: Timestamp) {
        self.published += 1;
        let (lease, order) = (Lease::Until(until), self.published);
        self.layers.push(Layer { device, document, lease, order });
    }

    /// Ends the layer of a device.
    pub fn remove(&mut self, device: DeviceId) -> bool {
        let before = self.layers.len();
        self.layers.retain(|layer| layer.device != device);
        self.layers.len() != before
    }

    /// Moves the layers bound to a session into their grace, or back.
    pub fn rebind(&mut self, session: SessionId, grace: Option<Timestamp>) {
        for layer in &mut self.layers {
            if matches!(layer.lease, Lease::Bound(of) | Lease::Grace(of, _) if of == session) {
                layer.lease =
                    grace.map_or(Lease::Bound(session), |until| Lease::Grace(session, until));
            }
        }
    }

    /// Ends the layers bound to a session.
    pub fn end_session(&mut self, session: SessionId) -> bool {
        let before = self.layers.len();
        self.layers.retain(
            |layer| !matches!(layer.lease, Lease::Bound(of) | Lease::Grace(of, _) if of == session),
        );
        self.layers.len() != before
    }

    /// Ends what has expired; the devices whose leased layers went.
    pub fn expire(&mut self, now: Timestamp) -> (bool, Vec<DeviceId>) {
        let (before, mut leased) = (self.layers.len(), Vec::new());
        self.layers.retain(|layer| match layer.lease {
            Lease::Until(until) if until <= now => {
                leased.push(layer.device);
                false
            }
            Lease::Grace(_, until) => until > now,
            _ => true,
        });
        (self.layers.len() != before, leased)
    }

    /// Ends all; the devices whose leased layers went.
    pub fn end_all(&mut self) -> Vec<DeviceId> {
        let layers = std::mem::take(&mut self.layers).into_iter();
        let leased = layers.filter(|layer| matches!(layer.lease, Lease::Until(_)));
        leased.map(|layer| layer.device).collect()
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
    #[expect(clippy::disallowed_methods, reason = "the owner's own layer: no watcher gets it")]
    pub fn of(&self, device: DeviceId) -> Option<(Bytes, Lease)> {
        let layer = self.layers.iter().find(|layer| layer.device == device)?;
        Some((layer.document.encode(), layer.lease))
    }

    /// The length of all layers together; what they compose is never longer.
    pub fn size(&self) -> usize {
        self.layers.iter().map(|layer| layer.document.size()).sum()
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
    /// several layers say the newest shows. Without layers it is [`Document::offline`].
    pub fn compose(&self) -> Document {
        let mut layers: Vec<&Layer> = self.layers.iter().collect();
        layers.sort_by_key(|layer| layer.order);
        let mut whole = Document::default();
        for Layer { document, .. } in layers {
            whole.person.extend(document.person.clone());
            whole.tuples.extend(document.tuples.clone());
            whole.devices.extend(document.devices.clone());
        }
        if whole == Document::default() { Document::offline() } else { whole }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use impp_protocol::presence::{FieldName, PartId};

    fn patch(tuple: &str, note: Option<&str>) -> Patch {
        let mut document = Document::default();
        let fields = [(FieldName::parse("status").unwrap(), "open".into())];
        document.tuples.insert(PartId::parse(tuple).unwrap(), fields.into());
        if let Some(note) = note {
            document.person.insert(FieldName::parse("note").unwrap(), note.into());
        }
        Patch::between(&Document::default(), &document)
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn the_newest_layer_shows_and_when_it_ends_the_next_one_again() {
        let mut layers = Layers::default();
        let (phone, laptop) = ([1; 16], [2; 16]);
        layers.publish(phone, &patch("phone", Some("old")), true, Lease::Until(at(100))).unwrap();
        layers.publish(laptop, &patch("laptop", Some("new")), true, Lease::Until(at(50))).unwrap();
        let both = layers.compose();
        assert_eq!((both.tuples.len(), &*both.person["note"]), (2, "new"));
        assert_eq!(layers.next_deadline(), Some(at(50)));
        assert_eq!(layers.expire(at(50)), (true, vec![laptop]));
        let one = layers.compose();
        assert_eq!((one.tuples.len(), &*one.person["note"]), (1, "old"));
        assert!(layers.remove(phone));
        assert_eq!(layers.compose(), Document::offline());
    }

    #[test]
    fn a_bound_layer_outlives_its_connection_by_the_grace() {
        let (mut layers, session) = (Layers::default(), SessionId([9; 16]));
        layers.publish([1; 16], &patch("t", None), true, Lease::Bound(session)).unwrap();
        assert_eq!(layers.next_deadline(), None);
        layers.rebind(session, Some(at(30)));
        assert_eq!(layers.expire(at(29)), (false, vec![]));
        layers.rebind(session, None);
        assert_eq!(layers.expire(at(31)), (false, vec![]));
        layers.rebind(session, Some(at(60)));
        assert_eq!(layers.expire(at(60)), (true, vec![]));
        assert!(layers.is_empty());
    }
}
