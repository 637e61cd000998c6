//! The text of a domain's policy: rules of the floor as users write theirs, and the ceiling.

use toml_edit::TableLike;

use super::reader::Reader;
use super::{Sections, document, read_groups};
use crate::domain::{Ceiling, DomainPolicy};
use crate::error::RulesError;
use crate::grants::FieldSet;
use crate::rules::Handling;

const TOP_KEYS: &[&str] = &["groups", "floor", "ceiling"];
/// As of a user's rule, but for the sphere, which is each owner's.
const FLOOR_KEYS: &[&str] = &[
    "id", "who", "except", "handling", "fields", "tuples", "persons", "devices", "valid", "fetch",
];
const CEILING_KEYS: &[&str] = &["id", "who", "except", "handling", "fields", "valid", "fetch"];
/// To ask an owner who may not allow it would be no answer.
const MOST: [Handling; 3] = [Handling::Block, Handling::PoliteBlock, Handling::Allow];

/// Reads a policy whole, or says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<DomainPolicy, RulesError> {
    let document = document(text)?;
    let reader = Reader { text };
    let top = document.as_table();
    reader.only_keys(top, TOP_KEYS)?;
    let groups = read_groups(reader, top.get("groups"))?;
    let sections = Sections { reader, groups: &groups };
    let floors = sections.each(top.get("floor"), "floor", FLOOR_KEYS, |all, table, id| {
        all.granting("floor", table, id)
    })?;
    let ceilings = sections.each(top.get("ceiling"), "ceiling", CEILING_KEYS, ceiling)?;
    if floors.is_empty() && ceilings.is_empty() {
        let message = "no [[floor]] and no [[ceiling]]".to_owned();
        let hint = "a domain without a policy does not name a file".to_owned();
        return Err(RulesError::at(text, None, message).hinting(Some(hint)));
    }
    Ok(DomainPolicy { floors, ceilings })
}

fn ceiling(
    sections: &Sections<'_>,
    table: &dyn TableLike,
    id: String,
) -> Result<Ceiling, RulesError> {
    let words = MOST.map(|handling| (handling.as_str(), handling));
    let handling = sections.reader.word(table, "handling", &words)?;
    let fetch = sections.reader.word(table, "fetch", &words)?;
    let fields = sections.fields(table)?;
    if handling.is_none() && fetch.is_none() && fields.is_none() {
        let message = format!("[[ceiling]] \"{id}\" has no \"handling\", \"fetch\" nor \"fields\"");
        let hint = "it would cut nothing".to_owned();
        let span = sections.reader.key_span(table, "id");
        return Err(sections.reader.error(span, message).hinting(Some(hint)));
    }
    Ok(Ceiling {
        id,
        conditions: sections.conditions(table)?,
        handling: handling.unwrap_or(Handling::Allow),
        fetch,
        fields: fields.unwrap_or(FieldSet::All),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> (usize, String) {
        let error = DomainPolicy::parse(text).expect_err(text);
        (error.line, error.message)
    }

    #[test]
    fn d8_a_policy_is_read_whole_or_refused_with_its_line() {
        let good = "[groups]\nhelp = [\"help@a.example\"]\n\n[[floor]]\nid = \"help\"\n\
                    who = [\"group:help\"]\nhandling = \"allow\"\nfields = [\"status\"]\n\n\
                    [[ceiling]]\nid = \"outside\"\nwho = [\"anyone\"]\n\
                    except = [\"domain:a.example\"]\nfields = [\"status\"]\n";
        let policy = DomainPolicy::parse(good).unwrap();
        assert_eq!((policy.floors.len(), policy.ceilings.len()), (1, 1));
        for (text, line, message) in [
            ("", 1, "no [[floor]] and no [[ceiling]]"),
            ("# nothing\n", 1, "no [[floor]] and no [[ceiling]]"),
            ("[[rule]]\nid = \"x\"", 1, "unknown key \"rule\""),
            (
                "[[floor]]\nid = \"x\"\nwho = [\"anyone\"]\nsphere = [\"work\"]",
                4,
                "unknown key \"sphere\"",
            ),
            (
                "[[ceiling]]\nid = \"x\"\nwho = [\"anyone\"]\ntuples = [\"all\"]",
                4,
                "unknown key \"tuples\"",
            ),
            (
                "[[ceiling]]\nid = \"x\"\nwho = [\"anyone\"]\nhandling = \"confirm\"",
                4,
                "unknown handling \"confirm\"",
            ),
            (
                "[[ceiling]]\nid = \"x\"\nwho = [\"anyone\"]",
                2,
                "[[ceiling]] \"x\" has no \"handling\", \"fetch\" nor \"fields\"",
            ),
            ("[[floor]]\nid = \"x\"\nwho = [\"anyone\"]", 2, "[[floor]] \"x\" has no \"handling\""),
        ] {
            assert_eq!(fault(text), (line, message.to_owned()));
        }
    }
}
