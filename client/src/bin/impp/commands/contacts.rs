//! `impp contacts`: the contact list, entries added, changed and removed.

use clap::{Subcommand, ValueEnum};
use impp_client::protocol::state::{Contact, Grant};
use impp_client::{Client, contact_change};
use serde::Serialize;

use super::Who;
use crate::output::{Output, in_line};
use crate::report::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Who is in it.
    List,
    /// Add somebody, or change their entry: what is not said stays as it was.
    Add(Add),
    /// Remove somebody; they see nothing by this list any more.
    Remove(Who),
}

#[derive(Debug, clap::Args)]
struct Add {
    #[command(flatten)]
    who: Who,
    /// What you call them.
    #[arg(long)]
    name: Option<String>,
    /// A group of yours that they are in; may be said more than once.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// What they may see of yours [default: status].
    #[arg(long)]
    grant: Option<GrantArg>,
    /// Do not ask to see their presence.
    #[arg(long)]
    no_follow: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum GrantArg {
    None,
    Status,
    All,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct ContactJson {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    groups: Vec<String>,
    follow: bool,
    grants: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<&'static str>,
}

pub(crate) async fn run(args: &Args, client: &Client, out: &mut Output) -> Result<(), Failure> {
    match &args.action {
        None | Some(Action::List) => {
            for contact in client.contacts().await? {
                out.item(&json(&contact), text)?;
            }
            Ok(())
        }
        Some(Action::Add(add)) => {
            let (old, number) = find(client, add).await?;
            let contact = entry(add, old.clone());
            match number {
                Some(number) => {
                    let change = contact_change(old.as_ref(), &contact);
                    if !client.change_contact(change, number).await? {
                        let who = &contact.address;
                        let text = format!("{who} was removed by another device; nothing changed");
                        return Err(Failure::Missing(text));
                    }
                }
                // A server of before knows whole entries alone.
                None => client.set_contact(contact.clone()).await?,
            }
            let now = find(client, add).await?.0.unwrap_or(contact);
            out.note(&consequence(&now));
            out.item(&json(&now), text)
        }
        Some(Action::Remove(who)) => Ok(client.remove_contact(&who.address).await?),
    }
}

/// The entry as it is, and the number of the list in which it is so.
async fn find(client: &Client, add: &Add) -> Result<(Option<Contact>, Option<u64>), Failure> {
    let (contacts, number) = client.contacts_numbered().await?;
    let entry = contacts.into_iter().find(|contact| contact.address == add.who.address);
    Ok((entry, number))
}

/// The entry as it shall be: what was said, else what it was, else the default.
fn entry(add: &Add, old: Option<Contact>) -> Contact {
    let mut contact = old.unwrap_or_else(|| Contact {
        address: add.who.address.clone(),
        name: None,
        groups: Vec::new(),
        follow: true,
        grant: Grant::Status.into(),
        subscription: None,
    });
    if add.name.is_some() {
        contact.name = add.name.clone();
    }
    if !add.groups.is_empty() {
        contact.groups = add.groups.clone();
        contact.groups.sort();
        contact.groups.dedup();
    }
    contact.grant = match add.grant {
        None => contact.grant,
        Some(GrantArg::None) => Grant::None.into(),
        Some(GrantArg::Status) => Grant::Status.into(),
        Some(GrantArg::All) => Grant::All.into(),
    };
    contact.follow = !add.no_follow;
    contact.subscription = None;
    contact
}

/// What the entry means, in words.
fn consequence(contact: &Contact) -> String {
    let sees = match contact.grant.known() {
        Some(Grant::None) => "they will see nothing of yours by this",
        Some(Grant::Status) => "they will see your status (--grant none if they should not)",
        Some(Grant::All) => "they will see all that you publish",
        None => "what you grant them is not known to this program",
    };
    let follow = if contact.follow { "you ask to see theirs" } else { "you do not follow them" };
    format!("{} is in your contact list: {sees}; {follow}", contact.address)
}

fn json(contact: &Contact) -> ContactJson {
    ContactJson {
        address: contact.address.to_string(),
        name: contact.name.clone(),
        groups: contact.groups.clone(),
        follow: contact.follow,
        grants: contact.grant.to_string(),
        subscription: contact.subscription.map(|state| state.as_str()),
    }
}

fn text(item: &ContactJson) -> String {
    let mut line = item.address.clone();
    if let Some(name) = &item.name {
        line.push_str(&format!(" ({})", in_line(name)));
    }
    if !item.groups.is_empty() {
        line.push_str(&format!("  in {}", in_line(&item.groups.join(", "))));
    }
    line.push_str(&format!("  sees {}", item.grants));
    match (item.follow, item.subscription) {
        (true, Some(state)) => line.push_str(&format!(", followed: {state}")),
        (true, None) => line.push_str(", followed"),
        (false, _) => line.push_str(", not followed"),
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args as All, Command};
    use clap::Parser;
    use impp_client::protocol::field::OrLater;
    use impp_client::protocol::state::SubscriptionState;

    fn add(words: &str) -> Add {
        let line = format!("impp contacts add bob@a.example {words}");
        let all = All::try_parse_from(line.split_whitespace()).unwrap();
        match all.command {
            Command::Contacts(Args { action: Some(Action::Add(add)) }) => add,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_new_entry_is_followed_and_granted_the_status() {
        let mut contact = entry(&add("--group work --group home --group work"), None);
        contact.subscription = Some(SubscriptionState::Pending);
        assert_eq!(
            serde_json::to_string(&json(&contact)).unwrap(),
            concat!(
                r#"{"address":"bob@a.example","groups":["home","work"],"follow":true,"#,
                r#""grants":"status","subscription":"pending"}"#
            )
        );
        assert!(consequence(&contact).contains("they will see your status"));
    }

    #[test]
    fn what_is_not_said_stays_as_it_was() {
        let old = entry(&add("--name Bob --group home --grant all"), None);
        let new = entry(&add("--no-follow"), Some(old));
        assert_eq!(text(&json(&new)), "bob@a.example (Bob)  in home  sees all, not followed");
        assert_eq!(entry(&add("--grant none"), Some(new)).grant, Grant::None.into());
    }

    /// A grant that came later is shown as its number, and stays as it is where nothing else is said.
    #[test]
    fn what_is_granted_by_a_later_number_is_shown_and_kept() {
        let later = entry(&add("--name Bob"), None);
        let later = Contact { grant: OrLater::Later(9), ..later };
        assert_eq!(text(&json(&later)), "bob@a.example (Bob)  sees 9, followed");
        assert!(consequence(&later).contains("not known"));
        let now = entry(&add("--name B"), Some(later.clone()));
        assert_eq!((now.grant, contact_change(Some(&later), &now).grant), (later.grant, None));
    }
}
