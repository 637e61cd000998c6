//! Writing profiles: a new one, and the device id of one that has none yet.
//!
//! A file is only ever readable by its owner; what a person wrote into it stays.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use impp_protocol::DeviceId;
use serde::Serialize;

use super::{Profile, ProfileError};

/// What goes into a new profile.
#[derive(Clone, Serialize)]
pub struct New {
    /// The account.
    pub address: String,
    /// Where its server is, host:port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// DNS servers that say where it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<SocketAddr>,
    /// Its password.
    pub password: String,
    /// The certificates to trust.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<PathBuf>,
    /// The device, in hexadecimal digits.
    pub device: String,
}

/// Writes a new profile for its owner's eyes alone, with its folder; a file there is replaced
/// whole.
///
/// # Errors
/// [`ProfileError`] if it cannot be written.
pub fn create(path: &Path, new: &New) -> Result<(), ProfileError> {
    let fail = |error: std::io::Error| ProfileError::io("write profile", path, &error);
    let text = toml::to_string(new)
        .map_err(|error| ProfileError::new(format!("cannot write profile: {error}")))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let written = write_private(&beside, text.as_bytes());
    let moved = written.and_then(|()| std::fs::rename(&beside, path));
    if moved.is_err() {
        drop(std::fs::remove_file(&beside));
    }
    moved.map_err(fail)
}

/// Gives the profile a device id if it has none, and keeps it in the file.
///
/// The file is locked and read again first: of two programs that begin at once, one makes the id.
///
/// # Errors
/// [`ProfileError`] if the file cannot be changed.
pub fn ensure_device(profile: &mut Profile, path: &Path) -> Result<DeviceId, ProfileError> {
    if let Some(device) = profile.device {
        return Ok(device);
    }
    let fail = |error: std::io::Error| {
        ProfileError::io("keep the device id in", path, &error)
            .hint("a profile needs a line device = \"32 hexadecimal digits\"")
    };
    let mut file = OpenOptions::new().read(true).append(true).open(path).map_err(fail)?;
    file.lock().map_err(fail)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(fail)?;
    let device = match Profile::parse(&text, path)?.device {
        Some(device) => device,
        None => {
            let device = new_device()?;
            let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            let line = format!("{gap}device = \"{device}\"\n");
            file.write_all(line.as_bytes()).map_err(fail)?;
            device
        }
    };
    profile.device = Some(device);
    Ok(device)
}

/// 128 random bits.
///
/// # Errors
/// [`ProfileError`] if the system has no randomness.
pub(crate) fn new_device() -> Result<DeviceId, ProfileError> {
    let mut device = [0; 16];
    getrandom::fill(&mut device)
        .map_err(|error| ProfileError::new(format!("no randomness for a device id: {error}")))?;
    Ok(DeviceId(device))
}

/// Writes a new file that is its owner's alone; on the disk when it returns.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file: File = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_made_once_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        let text = "# mine\naddress = \"a@b.example\"\npassword = \"p\"";
        write_private(&path, text.as_bytes()).unwrap();
        let mut first = Profile::load(&path).unwrap();
        let mut second = first.clone();
        let device = ensure_device(&mut first, &path).unwrap();
        assert_eq!(ensure_device(&mut second, &path), Ok(device));
        assert_eq!(Profile::load(&path).unwrap().device, Some(device));
        assert!(std::fs::read_to_string(&path).unwrap().starts_with(text));
    }

    #[cfg(unix)]
    #[test]
    fn a_new_profile_is_for_its_owner_alone_and_a_wider_one_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/p.toml");
        let new = New {
            address: "a@b.example".to_owned(),
            server: None,
            dns: vec!["127.0.0.1:53".parse().unwrap()],
            password: "a \"quoted\" one".to_owned(),
            trust: Some("/ca.pem".into()),
            device: DeviceId([7; 16]).to_string(),
        };
        create(&path, &new).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Profile::load(&path).unwrap().device, Some(DeviceId([7; 16])));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Profile::load(&path).unwrap_err();
        assert!(error.hint.unwrap().starts_with("chmod 600"));
    }
}
