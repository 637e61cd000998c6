//! The chapter of docs/rules.md that leads from a wish to a set, word for word: its files and commands,
//! and what comes of them for those whom it is about.

use impp_protocol::command::Outcome;
use impp_protocol::presence::Document;
use impp_tests::Server;
use impp_tests::impp::{Impp, Ran};
use impp_tests::peer::Peer;
use impp_tests::presence::{Watcher, at_once, document};

/// The blocks of the chapter in this language.
fn blocks(language: &str) -> Vec<String> {
    let text = include_str!("../../docs/rules.md");
    let (_, chapter) = text.split_once("\n## From a wish to a set\n").unwrap();
    let (chapter, _) = chapter.split_once("\n## ").unwrap();
    let begins = format!("\n```{language}\n");
    let begun = chapter.split(&begins).skip(1);
    begun.map(|rest| rest.split_once("\n```").unwrap().0.to_owned() + "\n").collect()
}

/// Runs what stands in a block as somebody, with files where they were written.
fn run(server: &Server, name: &str, block: &str) -> Vec<Ran> {
    let file = |word: &str| match word.ends_with(".toml") {
        true => server.data().join(word).to_str().unwrap().to_owned(),
        false => word.to_owned(),
    };
    let line = |line: &str| {
        let words: Vec<String> = line.split(' ').map(file).collect();
        assert_eq!(words[0], "impp", "{line}");
        let words: Vec<&str> = words[1..].iter().map(|word| &**word).collect();
        let ran = Impp::of(server, name).run(&words);
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
        ran
    };
    block.lines().map(line).collect()
}

/// Status for the domain, note and mood for friends, nothing for the ex, activities by the calendar: the
/// text leads there, its commands say so before and after, and so it is for each of them.
#[tokio::test]
async fn r2_3_3_r2_3_4_r5_1_15_the_text_on_rules_leads_to_what_it_promises() {
    let server = at_once().domain("a.example").accounts(["alice"]).start();
    ["bob", "dave", "mallory", "calendar"].iter().for_each(|name| server.add(name));
    let (tomls, commands) = (blocks("toml"), blocks("sh"));
    for (name, text) in ["rules.toml", "expect.toml"].iter().zip(&tomls) {
        std::fs::write(server.data().join(name), text).unwrap();
    }
    assert_eq!((tomls.len(), commands.len()), (2, 2));
    let mut alice = Peer::sign_in(&server, "alice").await;
    let shown = [("mood", "happy"), ("note", "in")];
    alice.show(&document(&shown, &[("im", &[("status", "open")])])).await;
    // Two who ask to follow before there are rules.
    let mut bob = Watcher::sign_in(&server, "bob", "alice@a.example").await;
    let mut mallory = Watcher::sign_in(&server, "mallory", "alice@a.example").await;

    let ran = run(&server, "alice", &commands[0]);
    let [tried, dry, _, again, as_bob, as_mallory, why, why_not] = &ran[..] else {
        panic!("{ran:?}")
    };
    for tested in [tried, again] {
        assert_eq!(tested.objects.len(), 6);
        assert!(tested.objects.iter().all(|expected| expected["ok"] == true), "{tested:?}");
    }
    let told = |who: &str, purpose: &str| {
        let of = |item: &&serde_json::Value| item["watcher"] == who && item["purpose"] == purpose;
        dry.objects.iter().find(of).unwrap_or_else(|| panic!("{who}: {dry:?}")).clone()
    };
    let gained = told("bob@a.example", "subscribe");
    assert_eq!((&gained["before"], &gained["after"]), (&"confirm".into(), &"allow".into()));
    assert_eq!(gained["gains"], serde_json::json!(["mood", "note", "status"]));
    assert_eq!(told("mallory@a.example", "subscribe")["after"], "polite-block");
    assert_eq!(told("mallory@a.example", "message")["after"], "drop");
    let person = &as_bob.objects[0]["document"]["person"];
    assert_eq!((&person["mood"], &person["note"]), (&"happy".into(), &"in".into()));
    assert_eq!(as_mallory.objects[0]["document"]["tuples"][0]["status"], "closed");
    assert_eq!(why.objects[0]["decision"], "polite-block");
    assert_eq!(why_not.objects[0]["decision"], "drop");

    let full = document(&shown, &[("im", &[("status", "open")])]);
    bob.until(|held| held.content.as_ref().is_some_and(|(_, seen)| *seen == full)).await;
    mallory.until(|held| held.content.is_some()).await;
    assert_eq!(mallory.held.document(), &Document::offline());
    let mut dave = Peer::sign_in(&server, "dave").await;
    let status = document(&[], &[("im", &[("status", "open")])]);
    assert_eq!(dave.look("alice@a.example").await, status);

    // The calendar says what it may, and no more; nobody is shown it but the owner.
    run(&server, "calendar", &commands[1]);
    let own = alice.look("alice@a.example").await;
    assert_eq!(impp_tests::presence::person(&own, "activities"), Some("meeting"));
    let other = ["--for", "alice@a.example", "status", "set", "--note", "away", "--lease", "3600"];
    let ran = Impp::of(&server, "calendar").run(&other);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!((bob.settle().await, mallory.settle().await), (0, 0));
    assert_eq!(mallory.peer.look("alice@a.example").await, Document::offline());

    // And who writes.
    assert_eq!(dave.send("alice@a.example", "hello").await, Outcome::Delivered);
    assert_eq!(mallory.peer.send("alice@a.example", "miss me?").await, Outcome::Delivered);
    assert_eq!(alice.inbox().await.len(), 1);
}
