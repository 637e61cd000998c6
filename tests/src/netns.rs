//! Two network namespaces with a cable between them, which the kernel itself pulls and plugs in.
//!
//! What runs inside is started from a thread that has moved there: sockets and processes follow it.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::wait::skipped;

/// A network namespace; goes when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// Its address on the cable.
    pub ip: Ipv4Addr,
}

/// See the module.
#[derive(Debug)]
pub struct Namespaces {
    /// One end of the cable.
    pub a: Namespace,
    /// The other.
    pub b: Namespace,
}

impl Namespaces {
    /// Two of them; none if that cannot be done here, which is then said on stderr.
    pub fn two() -> Option<Namespaces> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let net = NEXT.fetch_add(1, Ordering::Relaxed);
        let one = |side: &str, host| Namespace {
            name: format!("impp-{}-{net}{side}", std::process::id()),
            ip: Ipv4Addr::new(10, 213, net, host),
        };
        let two = Namespaces { a: one("a", 1), b: one("b", 2) };
        let (a, b) = (&two.a.name, &two.b.name);
        let cable = format!("link add cable netns {a} type veth peer name cable netns {b}");
        let commands = [format!("netns add {a}"), format!("netns add {b}"), cable]
            .into_iter()
            .chain([&two.a, &two.b].into_iter().flat_map(|end| {
                [
                    format!("-n {} link set lo up", end.name),
                    format!("-n {} addr add {}/30 dev cable", end.name, end.ip),
                    format!("-n {} link set cable up", end.name),
                ]
            }));
        for command in commands {
            if let Err(why) = ip(&command) {
                skipped(&format!("no network namespaces here: ip {command}: {why}"));
                return None;
            }
        }
        Some(two)
    }

    /// Pulls the cable: nothing comes through, and nobody is told.
    pub fn pull(&self) {
        ip(&format!("-n {} link set cable down", self.b.name)).unwrap();
    }

    /// Plugs it in again.
    pub fn plug(&self) {
        ip(&format!("-n {} link set cable up", self.b.name)).unwrap();
    }
}

impl Namespace {
    /// Does something inside.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(file.as_fd(), network).unwrap();
                act()
            });
            inside.join().unwrap()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    let output = output.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
