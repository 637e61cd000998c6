//! What may stand in `[log] level`. A filter takes any word for the name of a program part, so that a
//! misspelt level would silence everything, errors too: names that nothing here logs under are
//! refused.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::error::nearest;

/// The levels that there are.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
/// What logs in this program: a filter names one of these, or a module within.
const TARGETS: [&str; 10] = [
    "impp_server",
    "impp_storage",
    "impp_federation",
    "impp_locate",
    "hickory_net",
    "hickory_proto",
    "hickory_resolver",
    "rustls",
    "hyper",
    "axum",
];

/// Checks a level or filter.
///
/// # Errors
/// In words: which part of it is not right, and what was meant, maybe.
pub(super) fn check(level: &str) -> Result<(), String> {
    for directive in level.split(',') {
        let (target, named) = match directive.split_once('=') {
            Some((target, level)) => (Some(target), Some(level)),
            None if LEVELS.contains(&directive) => (None, Some(directive)),
            None => (Some(directive), None),
        };
        if let Some(level) = named.filter(|level| LevelFilter::from_str(level).is_err()) {
            return Err(unknown(level, "level", &LEVELS));
        }
        // A module, a span or a field within it may follow the name.
        let name = |target: &str| target.split([':', '[']).next().unwrap_or_default().to_owned();
        if let Some(name) = target.map(name).filter(|name| !TARGETS.contains(&name.as_str())) {
            let meant = if named.is_some() { &TARGETS[..] } else { &LEVELS[..] };
            return Err(unknown(&name, "level or part of the program", meant));
        }
    }
    EnvFilter::try_new(level).map(drop).map_err(|error| format!("\"{level}\": {error}"))
}

fn unknown(word: &str, what: &str, known: &[&str]) -> String {
    match nearest(&word.trim().to_lowercase(), known.iter().copied()) {
        Some(near) => format!("\"{word}\" is no {what}; did you mean \"{near}\"?"),
        None => format!("\"{word}\" is no {what}; known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn levels_and_filters_over_what_logs_are_taken() {
        for good in [
            "error",
            "warn",
            "info",
            "debug",
            "trace",
            "off",
            "info,impp_server=debug",
            "warn,impp_server::link=trace,rustls=off",
            "impp_storage",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_would_silence_everything_is_refused_and_says_what_was_meant() {
        for (bad, word, meant) in [
            ("verbose", "\"verbose\"", "error, warn"),
            ("warning", "\"warning\"", "\"warn\""),
            ("Info ", "\"Info \"", "\"info\""),
            ("", "\"\"", "error, warn"),
            ("info,imp_server=debug", "\"imp_server\"", "\"impp_server\""),
            ("impp_server=verbose", "\"verbose\"", "error, warn"),
            ("info,,debug", "\"\"", "error, warn"),
        ] {
            let said = check(bad).unwrap_err();
            assert!(said.contains(word) && said.contains(meant), "{bad}: {said}");
        }
    }
}
