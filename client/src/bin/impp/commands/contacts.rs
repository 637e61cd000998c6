//! `impp contacts`: the contact list, entries added, changed and removed. What is to wait for a server is
//! put into the outbox by `later`.

use clap::{Subcommand, ValueEnum};
use impp_client::outbox::Outbox;
use impp_client::protocol::Address;
use impp_client::protocol::state::{Contact, ContactChange, ContactEdit, Following, Grant};
use impp_client::{Client, contact_change};
use serde::Serialize;

use super::Who;
use super::later::{self, Came};
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
    Remove(Remove),
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
    /// Keep it in the outbox until the server has taken it, if it cannot be reached now: it goes with the
    /// next `--later` or `outbox send`, made on the list as it was last shown here. It grants nobody
    /// anything; what is granted already stays, and so do groups.
    #[arg(long, conflicts_with = "grant")]
    later: bool,
}

#[derive(Debug, clap::Args)]
struct Remove {
    #[command(flatten)]
    who: Who,
    /// Keep it in the outbox until the server has taken it, if it cannot be reached now: it goes with the
    /// next `--later` or `outbox send`, and may then undo what another device has added meanwhile.
    #[arg(long)]
    later: bool,
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

pub(crate) async fn run(
    args: &Args,
    client: &Client,
    outbox: &Outbox,
    out: &mut Output,
) -> Result<(), Failure> {
    match &args.action {
        None | Some(Action::List) => list(client, outbox, out).await,
        Some(Action::Add(args)) if args.later => add_later(args, client, outbox, out).await,
        Some(Action::Add(args)) => add(args, client, outbox, out).await,
        Some(Action::Remove(Remove { who, later })) => {
            remove(&who.address, *later, client, outbox, out).await
        }
    }
}

async fn add(
    args: &Add,
    client: &Client,
    outbox: &Outbox,
    out: &mut Output,
) -> Result<(), Failure> {
    let (old, number) = find(client, &args.who.address).await?;
    let contact = entry(args, old.clone());
    match number {
        Some(number) => {
            let change = contact_change(old.as_ref(), &contact);
            let Some(number) = client.change_contact(change, number).await? else {
                return Err(later::dropped(&contact.address));
            };
            known(client, outbox, &contact.address, number, out);
        }
        // A server of before knows whole entries alone.
        None => client.set_contact(contact.clone()).await?,
    }
    match find(client, &contact.address).await {
        Ok((now, _)) => show(&now.unwrap_or(contact), out),
        Err(_) => show_unread(&contact.address, out),
    }
}

/// An entry that was changed, as it is now.
fn show(now: &Contact, out: &mut Output) -> Result<(), Failure> {
    out.note(&consequence(now));
    out.item(&json(now), text)
}

/// An entry was changed, which is so also where it cannot be read how it is now.
fn show_unread(address: &Address, out: &Output) -> Result<(), Failure> {
    out.note(&format!("{address} was changed; the contact list could not be read anew"));
    Ok(())
}

async fn add_later(
    args: &Add,
    client: &Client,
    outbox: &Outbox,
    out: &mut Output,
) -> Result<(), Failure> {
    let edit = ContactEdit::change(change(args));
    match later::edit(edit, client, outbox, out).await? {
        Came::Stays => {}
        Came::Waits => out.note(&waits(args)),
        Came::Done => match find(client, &args.who.address).await {
            Ok((now, _)) => {
                let now = now.ok_or_else(|| later::dropped(&args.who.address))?;
                show(&now, out)?;
            }
            Err(_) => show_unread(&args.who.address, out)?,
        },
    }
    Ok(())
}

async fn remove(
    address: &Address,
    later: bool,
    client: &Client,
    outbox: &Outbox,
    out: &mut Output,
) -> Result<(), Failure> {
    if later {
        let edit = ContactEdit::remove(address.clone());
        if let Came::Waits = later::edit(edit, client, outbox, out).await? {
            out.note(&format!("{WHEN}; until then {address} stays in your contact list"));
        }
        return Ok(());
    }
    if let Some(number) = client.remove_contact(address).await? {
        known(client, outbox, address, number, out);
    }
    Ok(())
}

/// An edit was done, and edits that wait from now on are made on it.
fn known(client: &Client, outbox: &Outbox, address: &Address, number: u64, out: &Output) {
    if let Err(error) = outbox.was_edited(client.address(), address, number) {
        // It is done all the same.
        out.note(&format!("--later will not know of this change: {error}"));
    }
}

/// The whole list; edits that wait are made on it from now on.
async fn list(client: &Client, outbox: &Outbox, out: &mut Output) -> Result<(), Failure> {
    let (contacts, number) = client.contacts_numbered().await?;
    for contact in contacts {
        out.item(&json(&contact), text)?;
    }
    out.flush()?;
    let kept = number.map(|number| outbox.was_shown(client.address(), number));
    if let Some(Err(error)) = kept {
        // It was shown all the same.
        out.note(&format!("--later will not know that the list was shown: {error}"));
    }
    Ok(())
}

/// When what waits goes, in words.
const WHEN: &str = "it waits, and goes with the next --later or `impp outbox send`";

/// What follows from an edit that waits, in words.
fn waits(add: &Add) -> String {
    let follow = match add.no_follow {
        true => "you do not follow them",
        false => "you ask to see their presence",
    };
    format!(
        "{WHEN}; then {follow}, and they see of yours what you grant them now: nothing, if they are new"
    )
}

/// What `add --later` says of the entry, whatever that is when it goes.
fn change(add: &Add) -> ContactChange {
    ContactChange {
        name: add.name.clone(),
        more_groups: add.groups.clone(),
        follow: Some(if add.no_follow { Following::No } else { Following::Yes }),
        add: true,
        ..ContactChange::of(add.who.address.clone())
    }
}

/// The entry as it is, and the number of the list in which it is so.
async fn find(
    client: &Client,
    address: &Address,
) -> Result<(Option<Contact>, Option<u64>), Failure> {
    let (contacts, number) = client.contacts_numbered().await?;
    let entry = contacts.into_iter().find(|contact| contact.address == *address);
    Ok((entry, number))
}

/// How an entry is now, in a line.
pub(super) async fn as_it_is(client: &Client, address: &Address) -> Result<String, Failure> {
    Ok(match find(client, address).await?.0 {
        Some(contact) => text(&json(&contact)),
        None => format!("{address} is not in it"),
    })
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
