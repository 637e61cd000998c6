//! `imppd check`: look whether a configuration will work, one finding a line.

use std::path::PathBuf;

use serde::Serialize;

use super::Failure;
use crate::config::{Config, ConfigError};
use crate::net::tls;

/// Arguments of `imppd check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// One finding.
#[derive(Debug, Serialize)]
struct Finding {
    level: &'static str,
    area: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut findings = Vec::new();
    match Config::load(&arguments.config) {
        Err(error) => findings.push(wrong("config", error)),
        Ok(config) => {
            findings.push(fine("config", format!("{} can be used", arguments.config.display())));
            findings.push(match tls::for_clients(&config) {
                Ok(_) => fine("tls", "certificates and keys can be used".to_owned()),
                Err(error) => wrong("tls", error),
            });
        }
    }
    for finding in &findings {
        println!("{}", serde_json::to_string(finding).unwrap_or_default());
    }
    let errors = findings.iter().filter(|finding| finding.level == "error").count();
    if errors == 0 { Ok(()) } else { Err(Failure::new(1, format!("{errors} errors found"))) }
}

fn fine(area: &'static str, message: String) -> Finding {
    Finding { level: "ok", area, message, hint: None }
}

fn wrong(area: &'static str, error: ConfigError) -> Finding {
    Finding { level: "error", area, message: error.to_string(), hint: error.hint }
}
