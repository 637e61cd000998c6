//! Disks that a play fills up.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::wait::skipped;

/// A file system of its own, as small as it is asked for. Unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None if that cannot be made here, which is then said on stderr.
    pub fn mount(bytes: u64) -> Option<SmallDisk> {
        SmallDisk::mount_with(bytes, "")
    }

    /// The same, with further options.
    pub fn mount_with(bytes: u64, options: &str) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={bytes},mode=700{options}");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(SmallDisk(folder)),
            other => {
                skipped(&format!("no tmpfs can be mounted: {other:?}"));
                None
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all that is left; the file that does.
    pub fn fill(&self) -> PathBuf {
        let path = self.0.path().join("filler");
        let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        for size in [64 * 1024, 4096, 1] {
            let block = vec![0; size];
            while file.write_all(&block).is_ok() {}
        }
        path
    }
}

/// Makes empty files in a folder until the disk takes no more.
pub fn use_up_inodes(folder: &Path) {
    (0..).find(|n| std::fs::File::create(folder.join(n.to_string())).is_err());
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
