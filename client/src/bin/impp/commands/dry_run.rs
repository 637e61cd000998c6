//! `impp rules set --dry-run`: what would be otherwise by other rules, and for whom.
//!
//! It is the server that is asked, about each; what is compared is what it says of them.

use std::collections::BTreeSet;
use std::path::Path;

use impp_client::protocol::Address;
use impp_client::{Client, ClientError, ExplainKind, Supposed};
use serde::Serialize;

use super::rules;
use super::supposed::{Ruling, explained, patiently};
use crate::output::{Output, printable};
use crate::report::Failure;

/// For whom something would be otherwise by other rules.
#[derive(Debug, PartialEq, Serialize)]
struct ChangeJson {
    watcher: String,
    purpose: &'static str,
    before: String,
    after: String,
    /// Fields, and what selects parts of the document.
    gains: Vec<String>,
    loses: Vec<String>,
    /// Fields that are seen then.
    sees: Vec<String>,
}

/// Asks about all who follow now, and all in the contact list. That one is its owner's alone; of somebody
/// else's rules it is about those whom the rules name, and, for who may see that, those who follow.
pub(super) async fn run(
    file: &Path,
    rules: String,
    owner: Option<&Address>,
    client: &Client,
    out: &mut Output,
) -> Result<(), Failure> {
    let now = Supposed { owner: owner.cloned(), ..Supposed::default() };
    let then = Supposed { rules: Some(rules.clone()), ..now.clone() };
    let (all, who_they_are) = match owner {
        None => {
            let watchers = patiently(|| client.watchers()).await?;
            let contacts = patiently(|| client.contacts()).await?;
            let watchers = watchers.into_iter().map(|entry| entry.watcher);
            let all = watchers.chain(contacts.into_iter().map(|entry| entry.address));
            (all.collect(), "who follow or are contacts")
        }
        Some(owner) => others(owner, &rules, client).await?,
    };
    // A file with a fault is refused though nobody is there to be asked about.
    let own = explained(client, client.address(), ExplainKind::Access, &then).await;
    own.map_err(|error| rules::located(error, file))?;
    let mut changed = 0;
    for who in &all {
        let before = rulings(client, who, &now).await?;
        let after = rulings(client, who, &then).await?;
        for (before, after) in before.into_iter().zip(after) {
            if let Some(item) = ChangeJson::between(who, before, after) {
                changed += 1;
                out.item(&item, ChangeJson::text)?;
            }
        }
    }
    if changed == 0 {
        let count = all.len();
        out.note(&format!(
            "nothing changes now, to see or to write, for the {count} {who_they_are}"
        ));
    }
    Ok(())
}

/// About whom it is of somebody else's rules, and in words who they are. Who may not see who follows is told
/// of those alone whom the rules name, which it reads. How many others there are for whom something is
/// otherwise would tell who follows, one by one, to who may try rules.
async fn others(
    owner: &Address,
    rules: &str,
    client: &Client,
) -> Result<(BTreeSet<Address>, &'static str), Failure> {
    let held = patiently(|| client.delegations()).await?;
    let own = held.iter().filter(|one| one.owner == *owner && one.delegate == *client.address());
    let before = patiently(|| client.rules_for(owner)).await?.0;
    let mut all = &named(&before) | &named(rules);
    if own.flat_map(|one| &one.rights).any(|held| held.right == WATCHERS) {
        // Whom a rule blocks politely is listed to the owner alone: a rule names them all the same.
        let watchers = patiently(|| client.watchers_for(owner)).await?;
        all.extend(watchers.into_iter().map(|entry| entry.watcher));
        return Ok((all, "who follow or whom the rules name"));
    }
    Ok((all, "whom the rules name; of who follows you may not be told"))
}

/// Those whom rules name, as far as these can be read: what is wrong with them the server says.
fn named(rules: &str) -> BTreeSet<Address> {
    let table: toml::Table = rules.parse().unwrap_or_default();
    let groups = table.get("groups").and_then(toml::Value::as_table).into_iter().flatten();
    let kinds = ["rule", "delivery", "delegate"].into_iter().filter_map(|kind| table.get(kind));
    let rules = kinds.filter_map(toml::Value::as_array).flatten();
    let words = rules.flat_map(|rule| [rule.get("who"), rule.get("except")]).flatten();
    let lists = groups.map(|(_, members)| members).chain(words);
    let words = lists.filter_map(toml::Value::as_array).flatten().filter_map(toml::Value::as_str);
    words.filter_map(|word| Address::parse(word).ok()).collect()
}

/// The right to see who watches.
const WATCHERS: &str = "watchers";

/// What becomes of somebody who follows, looks once, or writes.
async fn rulings(
    client: &Client,
    who: &Address,
    supposed: &Supposed,
) -> Result<[Ruling; 3], ClientError> {
    let access = explained(client, who, ExplainKind::Access, supposed).await?;
    let delivery = explained(client, who, ExplainKind::Delivery, supposed).await?;
    let [follow, once] = Ruling::access(access);
    Ok([follow, once, Ruling::delivery(delivery)])
}

impl ChangeJson {
    /// What is otherwise, if anything is.
    fn between(who: &Address, before: Ruling, after: Ruling) -> Option<ChangeJson> {
        if before == after {
            return None;
        }
        Some(ChangeJson {
            watcher: who.to_string(),
            purpose: before.purpose,
            gains: more(&after, &before),
            loses: more(&before, &after),
            sees: after.fields.iter().cloned().collect(),
            before: before.decision,
            after: after.decision,
        })
    }

    fn text(&self) -> String {
        let marked = |mark: char, words: &[String]| -> String {
            words.iter().map(|word| format!(" {mark}{word}")).collect()
        };
        let (gains, loses) = (marked('+', &self.gains), marked('-', &self.loses));
        let decision = match self.before == self.after {
            true => self.after.clone(),
            false => format!("{} becomes {}", self.before, self.after),
        };
        // Who sees all no more may see much.
        let rest = match self.loses.iter().any(|word| word == "all") && !self.sees.is_empty() {
            true => format!(", and sees {}", self.sees.join(", ")),
            false => String::new(),
        };
        printable(&format!("{} ({}): {decision}{gains}{loses}{rest}", self.watcher, self.purpose))
    }
}

/// What one has that is not in what the other has.
fn more(one: &Ruling, other: &Ruling) -> Vec<String> {
    let field = |word: &&String| {
        let whole = word.split_once(':').map_or(&***word, |(field, _)| field);
        ![&***word, whole, "all"].iter().any(|word| other.fields.contains(*word))
    };
    let part = |word: &&String| {
        let (kind, selector) = word.split_once(':').unwrap_or((&***word, ""));
        // To see anything at all is to see what rules grant that name no parts.
        if other.parts.is_empty() && (**word == "tuples:all" || selector == "by-fields") {
            return false;
        }
        // Each part is among all, but a class shows only if it is what selects.
        let among = other.parts.contains(&format!("{kind}:all"));
        !other.parts.contains(*word) && (!among || selector.starts_with("class:"))
    };
    one.fields.iter().filter(field).chain(one.parts.iter().filter(part)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use impp_client::protocol::state::Explanation;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn told(decision: &str, fields: &[&str], parts: &[&str], rate: Option<&str>) -> Explanation {
        Explanation {
            owner: "alice@a.example".parse().unwrap(),
            watcher: "bob@a.example".parse().unwrap(),
            decision: decision.to_owned(),
            fields: words(fields),
            rules: vec![],
            fetch_decision: Some(decision.to_owned()),
            fetch_fields: words(fields),
            fetch_rules: vec![],
            parts: words(parts),
            fetch_parts: words(parts),
            rate: rate.map(str::to_owned),
        }
    }

    fn change(before: Ruling, after: Ruling) -> Option<String> {
        let bob = "bob@a.example".parse().unwrap();
        ChangeJson::between(&bob, before, after).map(|item| item.text())
    }

    fn seen(before: (&[&str], &[&str]), after: (&[&str], &[&str])) -> [Option<String>; 2] {
        let [follow, once] = Ruling::access(told("allow", before.0, before.1, None));
        let [follows, looks] = Ruling::access(told("allow", after.0, after.1, None));
        [change(follow, follows), change(once, looks)]
    }

    #[test]
    fn a_change_of_parts_alone_is_one() {
        let note: &[&str] = &["note", "status"];
        let one = |before: &[&str], after: &[&str]| {
            let [follow, once] = seen((note, before), (note, after));
            let follow = follow.map(|text| text.replace("bob@a.example (subscribe): allow ", ""));
            let once = once.map(|text| text.replace("bob@a.example (fetch): allow ", ""));
            assert_eq!(follow, once);
            follow.unwrap_or_default()
        };
        let work = ["tuples:class:work", "tuples:id:desk"];
        assert_eq!(one(&work, &["tuples:all"]), "+tuples:all -tuples:class:work");
        assert_eq!(one(&work[1..], &["tuples:all"]), "+tuples:all");
        assert_eq!(one(&["tuples:all"], &work[1..]), "-tuples:all");
        assert_eq!(
            one(&["tuples:uri:sip:a"], &["tuples:uri:sip:b"]),
            "+tuples:uri:sip:b -tuples:uri:sip:a"
        );
        assert_eq!(
            one(&["persons:by-fields"], &["persons:class:x"]),
            "+persons:class:x -persons:by-fields"
        );
        assert_eq!(one(&["devices:id:d1"], &["devices:id:d1", "devices:id:d2"]), "+devices:id:d2");
        assert_eq!(one(&work, &work), "");
        let whole = ["tuples:all", "persons:by-fields", "devices:by-fields"];
        let of = |decision, fields: &[&str], parts: &[&str]| {
            Ruling::access(told(decision, fields, parts, None)).into_iter().next().unwrap()
        };
        assert_eq!(
            change(of("block", &[], &[]), of("allow", note, &whole)).unwrap(),
            "bob@a.example (subscribe): block becomes allow +note +status"
        );
        assert_eq!(
            change(of("allow", note, &[work[0], whole[1]]), of("block", &[], &[])).unwrap(),
            "bob@a.example (subscribe): allow becomes block -note -status -tuples:class:work"
        );
    }

    #[test]
    fn whom_rules_name_is_whoever_stands_in_their_lists() {
        let rules = "[groups]\nf = [\"b@a.example\"]\n[[rule]]\nid = \"x@a.example\"\n\
                     who = [\"domain:a.example\", \"anyone\", \"c@a.example\"]\n\
                     tuples = [\"uri:sip:t@a.example\"]\n\
                     [[delivery]]\nwho = [\"anyone\"]\nexcept = [\"d@a.example\"]\n";
        let all: Vec<String> = named(rules).iter().map(Address::to_string).collect();
        assert_eq!(all, ["b@a.example", "c@a.example", "d@a.example"]);
        assert!(named("[[rule").is_empty());
    }

    #[test]
    fn fields_that_are_among_others_are_not_lost() {
        let parts: &[&str] = &["tuples:all"];
        let one =
            |before: &[&str], after: &[&str]| seen((before, parts), (after, parts))[0].clone();
        let text = |marks: &str| Some(format!("bob@a.example (subscribe): allow {marks}"));
        assert_eq!(one(&["note"], &["all"]), text("+all"));
        assert_eq!(one(&["all"], &["note"]), text("-all, and sees note"));
        assert_eq!(one(&["user-input:bare"], &["user-input"]), text("+user-input"));
        assert_eq!(one(&["note"], &["mood"]), text("+mood -note"));
        assert_eq!(one(&["note"], &["note"]), None);
    }

    #[test]
    fn a_change_of_delivery_alone_is_one() {
        let of = |action, rate| Ruling::delivery(told(action, &[], &[], rate));
        let text = |words: &str| Some(format!("bob@a.example (message): {words}"));
        assert_eq!(change(of("accept", None), of("refuse", None)), text("accept becomes refuse"));
        let few = Some("5 in 60 s");
        assert_eq!(
            change(of("accept", few), of("accept", None)),
            text("accept, at most 5 in 60 s becomes accept")
        );
        assert_eq!(change(of("accept", few), of("accept", few)), None);
    }
}
