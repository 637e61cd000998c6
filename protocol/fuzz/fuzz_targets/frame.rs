//! Bytes of a connection, as frames and commands and all that they carry.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| impp_protocol::corpus::read_frames(bytes));
