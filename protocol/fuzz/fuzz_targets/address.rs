//! Text as an address.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| impp_protocol::corpus::read_address(bytes));
