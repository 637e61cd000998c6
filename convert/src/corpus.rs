//! What fuzzing checks, as functions of bytes; the corpus is replayed through them as ordinary tests.

use impp_protocol::MessageId;

use crate::cpim::{self, Cpim};
use crate::pidf;

/// Reads bytes as a Message/CPIM: what is one is written the same again, as a whole and by way of a
/// message.
///
/// # Panics
/// If it is not.
pub fn read_cpim(bytes: &[u8]) {
    let Ok(read) = Cpim::parse(bytes) else { return };
    assert_eq!(Cpim::parse(&read.write()).as_ref(), Ok(&read));
    let Ok(message) = cpim::to_message(&read, MessageId([0; 16])) else { return };
    let (again, lost) = cpim::from_message(&message);
    assert_eq!((again, lost), (read, Vec::new()));
}

/// Reads bytes as PIDF: what is a document is written, and read as itself again.
///
/// # Panics
/// If it is not.
pub fn read_pidf(bytes: &[u8]) {
    let Ok(read) = pidf::read(bytes) else { return };
    let written = pidf::write(&read.entity, &read.document);
    assert_eq!(written.lost, Vec::<String>::new());
    // A document fills less than the XML that it came from may fill, but perhaps not as we write it.
    match pidf::read(written.xml.as_bytes()) {
        Ok(again) => assert_eq!((again.document, again.lost), (read.document, Vec::new())),
        Err(error) => assert!(written.xml.len() > crate::xml::XML_BYTES_MAX, "{error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    fn replay(target: &str, run: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        let mut count = 0;
        for entry in fs::read_dir(folder).unwrap() {
            run(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "the corpus of {target} is empty");
    }

    #[test]
    fn the_corpus_of_cpim() {
        replay("cpim", super::read_cpim);
    }

    #[test]
    fn the_corpus_of_pidf() {
        replay("pidf", super::read_pidf);
    }
}
