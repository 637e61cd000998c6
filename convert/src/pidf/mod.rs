//! PIDF (RFC 3863) with the data model (RFC 4479), RPID (RFC 4480) and CIPID's display name
//! (RFC 4482), in and out.
//!
//! Which element is which field stands in docs/formats.md. What has no field is named when it is
//! read, and what cannot be written when it is written: nothing is lost in silence.

mod read;
mod write;

use impp_protocol::Address;
use impp_protocol::presence::Document;

pub use read::read;
pub use write::write;

use crate::xml::XmlError;

/// Namespaces: PIDF's, the data model's, RPID's, CIPID's, the types of places', and our own.
const PIDF: &str = "urn:ietf:params:xml:ns:pidf";
const MODEL: &str = "urn:ietf:params:xml:ns:pidf:data-model";
const RPID: &str = "urn:ietf:params:xml:ns:pidf:rpid";
const CIPID: &str = "urn:ietf:params:xml:ns:pidf:cipid";
const PLACES: &str = "urn:ietf:params:xml:ns:location-type";
const OWN: &str = "urn:impp:presence";

/// A document that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Whose presence it is.
    pub entity: Address,
    /// What of it has a field.
    pub document: Document,
    /// What has none, each with its line, in words.
    pub lost: Vec<String>,
}

/// A document that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The XML.
    pub xml: String,
    /// Fields that XML cannot carry, in words.
    pub lost: Vec<String>,
}

/// Why a text is no presence document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PidfError {
    /// It is no XML that is read.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// It is, and breaks what RFC 3863 or 4479 ask for.
    #[error("line {line}: {fault}")]
    Wrong {
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        fault: String,
    },
}

/// What stands in an element's field: how it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Text, as it is.
    Text,
    /// Text without blanks around it.
    Token,
    /// One element of a list; or `<other>` with a text, if there is one, else `<word>` of our own.
    Choice(&'static [&'static str], bool),
    /// Any number of such.
    Words(&'static [&'static str], bool),
    /// A type of place, which have a namespace of their own, or `<other>`.
    Place,
    /// `<audio>`, `<video>`, `<text>` with an element in each.
    PlaceIs,
    /// `active` or `idle`, with attributes.
    UserInput,
}

/// The fields that have an element of their own, in RPID or CIPID: field, namespace, element, form. In
/// the order of RFC 4480; those of PIDF and the data model stand where these are written.
const ELEMENTS: &[(&str, &str, &str, Form)] = &[
    ("activities", RPID, "activities", Form::Words(ACTIVITIES, true)),
    ("class", RPID, "class", Form::Token),
    ("display-name", CIPID, "display-name", Form::Text),
    ("mood", RPID, "mood", Form::Words(MOODS, true)),
    ("place-is", RPID, "place-is", Form::PlaceIs),
    ("place-type", RPID, "place-type", Form::Place),
    ("privacy", RPID, "privacy", Form::Words(&["audio", "text", "unknown", "video"], false)),
    ("relationship", RPID, "relationship", Form::Choice(RELATIONSHIPS, true)),
    ("service-class", RPID, "service-class", Form::Choice(SERVICES, false)),
    ("sphere", RPID, "sphere", Form::Choice(&["home", "unknown", "work"], false)),
    ("status-icon", RPID, "status-icon", Form::Token),
    ("time-offset", RPID, "time-offset", Form::Token),
    ("user-input", RPID, "user-input", Form::UserInput),
];

/// RFC 4480 3.2, without `other`, which has a text.
const ACTIVITIES: &[&str] = &[
    "appointment",
    "away",
    "breakfast",
    "busy",
    "dinner",
    "holiday",
    "in-transit",
    "looking-for-work",
    "lunch",
    "meal",
    "meeting",
    "on-the-phone",
    "performance",
    "permanent-absence",
    "playing",
    "presentation",
    "shopping",
    "sleeping",
    "spectator",
    "steering",
    "travel",
    "tv",
    "unknown",
    "vacation",
    "working",
    "worship",
];

/// RFC 4480 3.5, without `other`.
const MOODS: &[&str] = &[
    "afraid",
    "amazed",
    "angry",
    "annoyed",
    "anxious",
    "ashamed",
    "bored",
    "brave",
    "calm",
    "cold",
    "confused",
    "contented",
    "cranky",
    "curious",
    "depressed",
    "disappointed",
    "disgusted",
    "distracted",
    "embarrassed",
    "excited",
    "flirtatious",
    "frustrated",
    "grumpy",
    "guilty",
    "happy",
    "hot",
    "humbled",
    "humiliated",
    "hungry",
    "hurt",
    "impressed",
    "in_awe",
    "in_love",
    "indignant",
    "interested",
    "invincible",
    "jealous",
    "lonely",
    "mean",
    "moody",
    "nervous",
    "neutral",
    "offended",
    "playful",
    "proud",
    "relieved",
    "remorseful",
    "restless",
    "sad",
    "sarcastic",
    "serious",
    "shocked",
    "shy",
    "sick",
    "sleepy",
    "stressed",
    "surprised",
    "thirsty",
    "unknown",
    "worried",
];

/// RFC 4480 3.9 and 3.10, without `other`.
const RELATIONSHIPS: &[&str] =
    &["assistant", "associate", "family", "friend", "self", "supervisor", "unknown"];
const SERVICES: &[&str] = &["courier", "electronic", "freight", "in-person", "postal", "unknown"];

/// RFC 4589's types of places, without `other`.
const PLACE_TYPES: &[&str] = &[
    "aircraft",
    "airport",
    "arena",
    "automobile",
    "bank",
    "bar",
    "bicycle",
    "bus",
    "bus-station",
    "cafe",
    "classroom",
    "club",
    "construction",
    "convention-center",
    "government",
    "hospital",
    "hotel",
    "industrial",
    "library",
    "motorcycle",
    "office",
    "outdoors",
    "parking",
    "place-of-worship",
    "prison",
    "public",
    "public-transport",
    "residence",
    "restaurant",
    "school",
    "shopping-area",
    "stadium",
    "store",
    "street",
    "theater",
    "train",
    "train-station",
    "truck",
    "underway",
    "unknown",
    "warehouse",
    "water",
    "watercraft",
];

/// RFC 4480 3.6: what a place is like for each kind of communication, in the order of the text.
const PLACE_IS: &[(&str, &[&str])] = &[
    ("audio", &["noisy", "ok", "quiet", "unknown"]),
    ("video", &["toobright", "ok", "dark", "unknown"]),
    ("text", &["uncomfortable", "inappropriate", "ok", "unknown"]),
];

#[cfg(test)]
mod tests;
