//! What the system says of DNS: its servers (`/etc/resolv.conf`) and the names that it knows itself
//! (`/etc/hosts`), read again when they have changed.
//!
//! Asking the servers is left to `servers`.

use std::fs::{self, Metadata};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::Hosts;

use crate::servers::{Servers, at_its_port};

const SERVERS: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// Servers of the system that are asked, as resolv.conf(5) has it.
const SERVERS_MAX: usize = 3;
/// Bytes of the file that are looked at.
const BYTES_MAX: usize = 64 * 1024;

/// See the module. The files are looked at before each question, as they change under a program that
/// runs: another network, a VPN, a resolver that is put in.
#[derive(Debug)]
pub(crate) struct System {
    /// One question to its servers may take so long.
    limit: Duration,
    now: Mutex<Option<Arc<Known>>>,
}

/// What one reading has found.
pub(crate) struct Known {
    /// The servers, or why there are none.
    pub(crate) servers: Result<Servers, String>,
    /// The names that are answered without them.
    pub(crate) hosts: Hosts,
    read: [Stamp; 2],
}

/// By what a file that was changed is told: device, inode, size and time of change. Nothing if it is
/// not there.
type Stamp = Option<[i64; 5]>;

impl System {
    /// Of whose servers one question may take `limit`. Nothing is read yet.
    pub(crate) fn new(limit: Duration) -> System {
        System { limit, now: Mutex::default() }
    }

    /// What holds now.
    pub(crate) fn now(&self) -> Arc<Known> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at before it is read: what is written meanwhile is read again next time.
        let stamps = [SERVERS, HOSTS].map(|path| fs::metadata(path).ok().as_ref().map(stamp));
        if let Some(known) = now.as_ref().filter(|known| known.read == stamps) {
            return known.clone();
        }
        let servers = servers().and_then(|addresses| {
            let addresses: Vec<_> = addresses.into_iter().map(at_its_port).collect();
            Servers::new(&addresses, self.limit)
        });
        let servers = servers.map_err(|error| format!("{SERVERS}: {error}"));
        let hosts = Hosts::from_system().unwrap_or_default();
        let known = Arc::new(Known { servers, hosts, read: stamps });
        *now = Some(known.clone());
        known
    }

    /// Has all read again, whatever the files look like.
    pub(crate) fn forget(&self) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("read", &self.read).finish_non_exhaustive()
    }
}

fn stamp(file: &Metadata) -> [i64; 5] {
    let (device, inode) = (file.dev().cast_signed(), file.ino().cast_signed());
    [device, inode, file.size().cast_signed(), file.mtime(), file.mtime_nsec()]
}

fn servers() -> Result<Vec<IpAddr>, String> {
    let bytes = fs::read(SERVERS).map_err(|error| error.to_string())?;
    let named = named(bytes.get(..BYTES_MAX).unwrap_or(&bytes));
    if named.is_empty() {
        Err("names no DNS server that can be asked".to_owned())
    } else {
        Ok(named)
    }
}

/// The servers that the file names. Nothing else in it is ours to use (domains are looked up as they
/// are, in a time of our own), so nothing else in it is looked at, nor does a line that cannot be
/// read take the others with it.
fn named(file: &[u8]) -> Vec<IpAddr> {
    let text = String::from_utf8_lossy(file);
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        words.next()?.parse().ok()
    };
    text.lines().filter_map(server).take(SERVERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_used_of_the_file_does_not_break_it() {
        let file = b"\xef\xbb\xbf# made by \xff\nsearch . ..  \x00 -\ndomain \nsortlist 1/2/3\n\
            options ndots:999999999999 no-such trust-ad\nnameserver\nnameserver fe80::1%eth0\n\
            nameserver one.example\nnameserver 192.0.2.1\n\tnameserver  2001:db8::1 # ours\n\
            nameservers 192.0.2.9\nnameserver 192.0.2.2\r\nnameserver 192.0.2.3\n";
        let expected = ["192.0.2.1", "2001:db8::1", "192.0.2.2"];
        assert_eq!(named(file), expected.map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert_eq!(named(b""), Vec::<IpAddr>::new());
    }
}
