//! What `imppd check` says of certificates: until when they hold, what they are for, and whether
//! other domains' servers would believe them, as those judge it.
//!
//! Whether the files can be used at all is found when they are loaded.

use std::path::Path;

use impp_protocol::Timestamp;
use impp_trust::certificate::{Validity, proves_servers};
use impp_trust::{Trust, Unproven, convinces, files};

use super::check::{Finding, finding, fine};
use crate::core::config::{Federation, Hosted};

const AREA: &str = "certificate";
const CLOCK: &str = "is this machine's clock right?";
const RENEW: &str = "replace the files and run `imppd reload`";

/// The findings about all domains' certificates.
pub(super) fn check(domains: &[Hosted], links: &Federation, now: Timestamp) -> Vec<Finding> {
    // That they cannot be read has been told.
    let trust = Trust::load(links.ca.as_deref(), links.crl.as_deref()).ok();
    let mut findings = Vec::new();
    for hosted in domains {
        for file in hosted.certificates() {
            findings.extend(validity(hosted, file, now));
            findings.extend(purpose(hosted, file));
        }
        if links.enabled && hosted.name.is_global() {
            findings.extend(trust.as_ref().and_then(|trust| chain(hosted, trust, now)));
        }
    }
    findings
}

/// What one of its certificates is called: its own, or that of the web, which has a file of its own.
fn called(hosted: &Hosted, file: &Path) -> String {
    match file == hosted.certificate {
        true => format!("the certificate of {}", hosted.name),
        false => format!("the certificate of the web of {}", hosted.name),
    }
}

/// How long a domain's certificate holds; `None` if it cannot be read, which has been told.
fn validity(hosted: &Hosted, file: &Path, now: Timestamp) -> Option<Finding> {
    let validity = Validity::of(&files::first(file)?)?;
    let called = called(hosted, file);
    if let Some(fault) = validity.fault(now) {
        let message = format!("{called} {fault}");
        let hint = if now < validity.from { CLOCK } else { RENEW };
        return Some(finding("error", AREA, message, Some(hint)));
    }
    let message = format!("{called} holds until {}", validity.until);
    Some(match validity.is_late(now) {
        true => finding("warn", AREA, message, Some(RENEW)),
        false => fine(AREA, message),
    })
}

/// Whether a domain's certificate is for something else than servers.
fn purpose(hosted: &Hosted, file: &Path) -> Option<Finding> {
    let certificate = files::first(file)?;
    let wrong = proves_servers(&certificate) == Some(false);
    wrong.then(|| {
        let message = format!(
            "{} is not for server authentication: clients and other domains will refuse it",
            called(hosted, file)
        );
        let hint = "have one made with the extended key usage serverAuth, or with none";
        finding("error", AREA, message, Some(hint))
    })
}

/// What other domains' servers make of the whole chain, if they trust whom this one trusts.
fn chain(hosted: &Hosted, trust: &Trust, now: Timestamp) -> Option<Finding> {
    let chain = files::chain(&hosted.certificate).ok()?;
    let (name, file) = (&hosted.name, hosted.certificate.display());
    let unproven = match convinces(trust, &chain, now) {
        Ok(()) => {
            let message = format!("other domains that trust the same CAs believe it of {name}");
            return Some(fine(AREA, message));
        }
        Err(unproven) => unproven,
    };
    let (level, hint) = match &unproven {
        // Told of the domain's own certificate already, which is it then.
        Unproven::Expired(_) | Unproven::NotYetValid(_) | Unproven::WrongUse
            if validity_or_use(hosted, now) =>
        {
            return None;
        }
        // Others may trust other CAs.
        Unproven::UnknownIssuer => (
            "warn",
            "the file holds the domain's certificate and, behind it, all above it but the root; \
             [federation] ca names a CA that is not the system's",
        ),
        Unproven::NotYetValid(_) => ("error", CLOCK),
        Unproven::StaleRevocationList(_) => {
            ("error", "[federation] crl: fetch the lists anew, and run `imppd reload`")
        }
        _ => ("error", RENEW),
    };
    let message = format!("{file}: other domains will refuse it for {name}: {unproven}");
    Some(finding(level, AREA, message, Some(hint)))
}

fn validity_or_use(hosted: &Hosted, now: Timestamp) -> bool {
    let own = &hosted.certificate;
    purpose(hosted, own).is_some()
        || validity(hosted, own, now).is_some_and(|found| found.is_error())
}
