//! Frames that are almost those of the vectors: what this reader makes of each, so that another one can be
//! held against it. They are drawn from numbers, and so need not be written down.
//!
//! `UPDATE=1 cargo test -p impp-protocol --test mutated` writes the verdicts anew.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use bytes::BytesMut;
use impp_protocol::Request;
use impp_protocol::frame::{self, FRAME_BYTES_MAX};

const COUNT: u64 = 5_000;
const LINE: usize = 100;
const HEADER: &str = "\
# What becomes of 5,000 frames that are almost those of accepted.txt, one sign for each: `-` it is refused,
# `=` it is read, and written again the same, `~` it is read and written again with less, since it has fields
# that nobody knows. The n-th (from 0) is drawn by xorshift64* from the state (n * 0x9e3779b97f4a7c15) | 1:
# roll(s) is x ^= x >> 12, x ^= x << 25, x ^= x >> 27, and then (x * 0x2545f4914f6cdd1d >> 33) mod s, all in 64
# bits. Frame number roll(how many there are) is taken without its head. 1 + roll(2) times, as long as something
# is left, by roll(5), with `at` = roll(its length): 0 flips the bit roll(8) at `at`; 1 puts roll(256) there; 2
# takes the octet away; 3 puts roll(256) before it; 4 copies 1 + roll(16) octets from there, or what there is,
# to before roll(its length). Then the kind is roll(16) if roll(8) is 0. The head says the length as it is then.
";

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    fn octet(&mut self) -> u8 {
        u8::try_from(self.roll(256)).unwrap()
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn unhex(digits: &str) -> Vec<u8> {
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.as_bytes().chunks(2).map(octet).collect()
}

/// The frames of `accepted.txt`, in their order.
fn accepted() -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(folder().join("accepted.txt")).unwrap();
    let is_hex = |line: &&str| line.len() > 7 && line.bytes().all(|c| c.is_ascii_hexdigit());
    text.lines().filter(is_hex).map(unhex).collect()
}

/// The kind and the body of the n-th, as the header says.
fn drawn(frames: &[Vec<u8>], n: u64) -> (u8, Vec<u8>) {
    let mut dice = Dice::new(n);
    let frame = &frames[dice.roll(frames.len())];
    let (mut kind, mut body) = (frame[3], frame[4..].to_vec());
    for _ in 0..=dice.roll(2) {
        if body.is_empty() {
            break;
        }
        let what = dice.roll(5);
        let at = dice.roll(body.len());
        match what {
            0 => body[at] ^= 1 << dice.roll(8),
            1 => body[at] = dice.octet(),
            2 => drop(body.remove(at)),
            3 => body.insert(at, dice.octet()),
            _ => {
                let end = body.len().min(at + 1 + dice.roll(16));
                let (piece, to) = (body[at..end].to_vec(), dice.roll(body.len()));
                body.splice(to..to, piece);
            }
        }
    }
    if dice.roll(8) == 0 {
        kind = u8::try_from(dice.roll(16)).unwrap();
    }
    (kind, body)
}

fn whole(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind], body].concat()
}

fn verdict(bytes: &[u8]) -> char {
    let taken = frame::take(&mut BytesMut::from(bytes), FRAME_BYTES_MAX);
    let Ok(Some(frame)) = taken else { return '-' };
    let Ok(request) = Request::decode(frame) else { return '-' };
    let mut again = BytesMut::new();
    request.put(&mut again).unwrap();
    match again == bytes {
        true => '=',
        false => '~',
    }
}

/// What is read is written the same, or with less; the verdicts are those of the file.
#[test]
fn a16_what_is_almost_a_vector_comes_to_what_the_file_says() {
    let frames = accepted();
    let said: String = (0..COUNT)
        .map(|n| {
            let (kind, body) = drawn(&frames, n);
            verdict(&whole(kind, &body))
        })
        .collect();
    for sign in ['-', '=', '~'] {
        assert!(said.matches(sign).count() > 20, "{sign}: too few to show anything");
    }
    let lines: Vec<&str> =
        said.as_bytes().chunks(LINE).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let text = format!("{HEADER}{}\n", lines.join("\n"));
    let path = folder().join("mutated.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{}", path.display());
}
