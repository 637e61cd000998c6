//! Which file the profile is in.
//!
//! The environment comes in as an argument, so that it can be tested.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use impp_protocol::Address;

use super::ProfileError;

/// The profile to use: the one named, else `IMPP_PROFILE`, else the only one in the folder of
/// profiles.
///
/// # Errors
/// [`ProfileError`] if there is none, or more than one to choose from.
pub fn locate(
    named: Option<&Path>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, ProfileError> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    if let Some(path) = env("IMPP_PROFILE").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let folder = folder(&env)?;
    let mut found: Vec<PathBuf> = match std::fs::read_dir(&folder) {
        Ok(entries) => entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect(),
        Err(_) => Vec::new(),
    };
    found.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    found.sort();
    match (found.pop(), found.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => Err(ProfileError::new(format!("no profile in {}", folder.display()))
            .hint("impp login ADDRESS makes one; --profile FILE or IMPP_PROFILE names one")),
        (Some(last), _) => {
            found.push(last);
            let names = found.iter().map(|path| path.display().to_string());
            let text = format!("{} profiles in {}", found.len(), folder.display());
            Err(ProfileError::new(text).hint(format!(
                "--profile FILE or IMPP_PROFILE says which: {}",
                names.collect::<Vec<_>>().join(", ")
            )))
        }
    }
}

/// Where a new profile of an account goes if no file is named.
///
/// # Errors
/// [`ProfileError`] if there is no home folder.
pub fn default_path(
    address: &Address,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, ProfileError> {
    match env("IMPP_PROFILE").filter(|path| !path.is_empty()) {
        Some(path) => Ok(path.into()),
        None => Ok(folder(&env)?.join(format!("{address}.toml"))),
    }
}

fn folder(env: &impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, ProfileError> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    base.map(|base| base.join("impp")).ok_or_else(|| {
        ProfileError::new("no folder of profiles: neither XDG_CONFIG_HOME nor HOME is set")
            .hint("--profile FILE names a profile")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_then_the_environment_then_the_only_one() {
        let home = tempfile::tempdir().unwrap();
        let base = home.path().as_os_str().to_owned();
        let env = |name: &str| (name == "XDG_CONFIG_HOME").then(|| base.clone());
        let with = |name: &str| match name {
            "IMPP_PROFILE" => Some(OsString::from("e.toml")),
            _ => env(name),
        };
        assert_eq!(locate(Some(Path::new("n.toml")), with), Ok("n.toml".into()));
        assert_eq!(locate(None, with), Ok("e.toml".into()));

        let folder = home.path().join("impp");
        assert!(locate(None, env).unwrap_err().text.starts_with("no profile in"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("alice@a.toml"), "").unwrap();
        std::fs::write(folder.join("notes.txt"), "").unwrap();
        assert_eq!(locate(None, env), Ok(folder.join("alice@a.toml")));
        std::fs::write(folder.join("bob@a.toml"), "").unwrap();
        assert!(locate(None, env).unwrap_err().hint.unwrap().contains("alice@a.toml"));
    }

    #[test]
    fn a_new_profile_is_named_for_its_account() {
        let home = |name: &str| (name == "HOME").then(|| OsString::from("/home/a"));
        let address = Address::parse("alice@a.example").unwrap();
        let path = default_path(&address, home).unwrap();
        assert_eq!(path, Path::new("/home/a/.config/impp/alice@a.example.toml"));
        assert!(default_path(&address, |_| None).is_err());
    }
}
