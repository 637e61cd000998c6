//! Disks that a play fills up.

use std::ffi::OsStr;
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

/// A file system with a journal, in a file, that can fail beneath what runs on it. Unmounted when dropped.
#[derive(Debug)]
pub struct JournalDisk(tempfile::TempDir);

impl JournalDisk {
    /// None if that cannot be made here, which is then said on stderr.
    pub fn mount(bytes: u64) -> Option<JournalDisk> {
        let disk = JournalDisk(tempfile::tempdir().unwrap());
        std::fs::create_dir(disk.path()).unwrap();
        std::fs::File::create(disk.image()).unwrap().set_len(bytes).unwrap();
        let image = disk.image().into_os_string();
        let made = run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), &image]);
        match made.and_then(|()| disk.mount_image()) {
            Ok(()) => Some(disk),
            Err(why) => {
                skipped(&format!("no ext4 can be mounted: {why}"));
                None
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.0.path().join("mounted")
    }

    /// It fails: what it has not written to its journal is lost, and from now on it is only read.
    pub fn fail(&self) {
        let path = self.path();
        run("mount", &["-o".as_ref(), "remount,abort".as_ref(), path.as_os_str()]).unwrap();
    }

    /// It is looked over and mounted again; nothing may run on it.
    pub fn mend(&self) {
        run("umount", &[self.path().as_os_str()]).unwrap();
        // 1: it has mended something.
        let check = Command::new("e2fsck").env("PATH", PATH).arg("-fp").arg(self.image()).output();
        let check = check.unwrap();
        assert!(matches!(check.status.code(), Some(0 | 1)), "{check:?}");
        self.mount_image().unwrap();
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("image")
    }

    fn mount_image(&self) -> Result<(), String> {
        let (image, path) = (self.image(), self.path());
        let options = "loop,errors=remount-ro".as_ref();
        run("mount", &["-o".as_ref(), options, image.as_os_str(), path.as_os_str()])
    }
}

impl Drop for JournalDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

/// Where programs for file systems are, for whoever has no path to them.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

fn run(program: &str, arguments: &[&OsStr]) -> Result<(), String> {
    match Command::new(program).env("PATH", PATH).args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        other => Err(format!("{program}: {other:?}")),
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
