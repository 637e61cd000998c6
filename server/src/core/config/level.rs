//! What may stand in `[log] level`: a level, or levels of parts of the program. A misspelt word would
//! silence everything, errors too: names that nothing here logs under are refused, of what is not named
//! errors are logged always, and so are events (`core/event.rs`) unless they are named themselves.

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::error::nearest;
use crate::core::event;

/// The levels that there are, each with all before it.
const LEVELS: [(&str, LevelFilter); 6] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
    ("off", LevelFilter::OFF),
];
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

/// Reads a level or a filter: `info`, or `info,impp_server::link=debug,rustls=off`.
///
/// # Errors
/// In words: which part of it is not right, and what was meant, maybe.
pub fn parse(text: &str) -> Result<Targets, String> {
    let events = Targets::new().with_target(event::TARGET, LevelFilter::INFO);
    let (mut targets, mut rest) = (events, None);
    for directive in text.split(',').map(str::trim) {
        match directive.split_once('=') {
            Some((target, word)) => {
                let part = target.split("::").next().unwrap_or_default();
                if !TARGETS.contains(&part) && target != event::TARGET {
                    return Err(unknown(target, part, "part of the program", &TARGETS));
                }
                targets = targets.with_target(target, level(word)?);
            }
            None if TARGETS.contains(&directive) => {
                targets = targets.with_target(directive, LevelFilter::TRACE);
            }
            None => {
                if rest.replace(level(directive)?).is_some() {
                    return Err(format!("\"{directive}\" is a second level for everything"));
                }
            }
        }
    }
    Ok(targets.with_default(rest.unwrap_or(LevelFilter::ERROR)))
}

fn level(word: &str) -> Result<LevelFilter, String> {
    let found = LEVELS.iter().find(|(name, _)| *name == word);
    found.map(|(_, level)| *level).ok_or_else(|| {
        let names: Vec<&str> = LEVELS.iter().map(|(name, _)| *name).collect();
        unknown(word, word, "level", &names)
    })
}

fn unknown(word: &str, part: &str, what: &str, known: &[&str]) -> String {
    match nearest(&part.trim().to_lowercase(), known.iter().copied()) {
        Some(near) => format!("\"{word}\" is no {what}; did you mean \"{near}\"?"),
        None => format!("\"{word}\" is no {what}; known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::parse;

    /// The finest level that is logged of a link, and of what no filter here names.
    #[test]
    fn levels_and_filters_over_what_logs_are_taken_and_errors_are_always_logged() {
        let all = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        for (text, link, other) in [
            ("error", Some(Level::ERROR), Some(Level::ERROR)),
            ("info", Some(Level::INFO), Some(Level::INFO)),
            ("trace", Some(Level::TRACE), Some(Level::TRACE)),
            ("off", None, None),
            ("info,impp_server=debug", Some(Level::DEBUG), Some(Level::INFO)),
            ("warn, impp_server::link=trace,rustls=off", Some(Level::TRACE), Some(Level::WARN)),
            ("rustls=debug", Some(Level::ERROR), Some(Level::ERROR)),
            ("impp_server", Some(Level::TRACE), Some(Level::ERROR)),
        ] {
            let filter = parse(text).unwrap();
            for (target, finest) in [("impp_server::link", link), ("hickory_net", other)] {
                let logged = all.iter().rfind(|level| filter.would_enable(target, level));
                assert_eq!(logged, finest.as_ref(), "{text}: {target}");
            }
        }
    }

    #[test]
    fn d12_events_are_logged_at_every_level_unless_they_are_named() {
        for (text, logged) in [
            ("info", true),
            ("error", true),
            ("off", true),
            ("impp_server=off", true),
            ("trace,impp::event=off", false),
            ("impp::event=warn", false),
        ] {
            let filter = parse(text).unwrap();
            assert_eq!(filter.would_enable("impp::event", &Level::INFO), logged, "{text}");
        }
        assert!(parse("impp=off").is_err() && parse("impp::events=off").is_err());
    }

    #[test]
    fn what_would_silence_everything_is_refused_and_says_what_was_meant() {
        for (bad, word, meant) in [
            ("verbose", "\"verbose\"", "error, warn"),
            ("warning", "\"warning\"", "\"warn\""),
            ("Info ", "\"Info\"", "\"info\""),
            ("", "\"\"", "error, warn"),
            ("info,imp_server=debug", "\"imp_server\"", "\"impp_server\""),
            ("impp_server=verbose", "\"verbose\"", "error, warn"),
            ("impp_server[a]=debug", "\"impp_server[a]\"", "\"impp_server\""),
            ("info,,debug", "\"\"", "error, warn"),
            ("info,debug", "\"debug\"", "second level"),
            ("3", "\"3\"", "error, warn"),
        ] {
            let said = parse(bad).unwrap_err();
            assert!(said.contains(word) && said.contains(meant), "{bad}: {said}");
        }
    }

    /// A crate that is gone would be a name that is silently taken.
    #[test]
    fn all_targets_are_crates_of_the_program() {
        let lock = include_str!("../../../../Cargo.lock");
        for target in super::TARGETS {
            let named = |name: &str| lock.contains(&format!("name = \"{name}\"\n"));
            assert!(named(target) || named(&target.replace('_', "-")), "{target}");
        }
    }
}
