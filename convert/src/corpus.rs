//! What fuzzing checks, as functions of bytes; the corpus is replayed through them as ordinary tests.

use impp_protocol::MessageId;

use crate::cpim::{self, Cpim};

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
}
