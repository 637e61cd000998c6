//! What processes have used so far, as the system tells it, and where threads run.

use std::fs;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};

/// What some processes have used, all together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// Processor time.
    pub cpu: Duration,
    /// Bytes of memory resident now.
    pub resident: u64,
    /// How often their threads gave up the processor or lost it.
    pub switches: u64,
}

/// Processor time of one tick of `/proc`, on every Linux that there is.
const TICK: Duration = Duration::from_millis(10);

impl Used {
    /// By these processes. One that has ended has used nothing.
    pub fn by(processes: &[u32]) -> Used {
        let mut all = Used::default();
        for process in processes {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            let fields: Vec<&str> =
                stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            let ticks = |at: usize| fields.get(at).and_then(|text| text.parse().ok()).unwrap_or(0);
            all.cpu += TICK * (ticks(11) + ticks(12));
            all.resident += 1024 * figure(&format!("/proc/{process}/status"), "VmRSS:");
            let threads = fs::read_dir(format!("/proc/{process}/task"));
            for thread in threads.into_iter().flatten().flatten() {
                let status = thread.path().join("status").display().to_string();
                all.switches += figure(&status, "voluntary_ctxt_switches:")
                    + figure(&status, "nonvoluntary_ctxt_switches:");
            }
        }
        all
    }

    /// What was used since, and what is resident more.
    #[must_use]
    pub fn since(&self, before: &Used) -> Used {
        Used {
            cpu: self.cpu.saturating_sub(before.cpu),
            resident: self.resident.saturating_sub(before.resident),
            switches: self.switches.saturating_sub(before.switches),
        }
    }
}

/// The first figure of the line that begins so.
fn figure(file: &str, line: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find_map(|other| other.strip_prefix(line));
    found.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Processor time that everything on the machine has used, and the time that the machine above has
/// taken away. What interrupts cost is left out: it belongs to whoever is measured.
pub fn whole_machine() -> Duration {
    const USER_NICE_SYSTEM_STOLEN: [usize; 4] = [1, 2, 3, 8];
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.lines().next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    USER_NICE_SYSTEM_STOLEN.into_iter().map(|at| TICK * ticks(at)).sum()
}

/// A process and all below it.
pub fn family(process: u32) -> Vec<u32> {
    let mut family = vec![process];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        let threads = fs::read_dir(format!("/proc/{parent}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            family
                .extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        next += 1;
    }
    family
}

/// From now on this thread, and those that it starts, run on one processor, if there are so many.
pub fn pin_to(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    // A machine of one processor has no second: then the figures are worth less, and it runs.
    let _ = sched_setaffinity(None, &set);
}

/// From now on this thread comes after others on its processor.
pub fn be_nice() {
    const LAST: i32 = 19;
    // Where it may not, it goes on as it is.
    let _ = rustix::process::nice(LAST);
}
