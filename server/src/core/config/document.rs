//! The annotated configuration file, made from the table of settings.

use std::fmt::Write;

use super::setting::Setting;
use super::{Federation, Inbox, Limits, Log, Server, Times, Tls};

/// The file with every setting at its default. `set` replaces some of them: (section, name, value
/// in TOML); the section `domain` is the hosted domain.
pub fn default_document(set: &[(&str, &str, String)]) -> String {
    let find = |section: &str, name: &str| {
        set.iter().find(|entry| entry.0 == section && entry.1 == name).map(|entry| &*entry.2)
    };
    let mut out = String::from(
        "# The configuration of imppd. Every setting is here; what is commented out is absent by\n\
         # default. Relative paths are relative to this file. \"(restart)\" marks what `imppd\n\
         # reload` does not change.\n",
    );
    let sections: [(&str, &[&str], Vec<Setting>); 7] = [
        ("server", Server::ABOUT, Server::settings()),
        ("tls", Tls::ABOUT, Tls::settings()),
        ("limits", Limits::ABOUT, Limits::settings()),
        ("times", Times::ABOUT, Times::settings()),
        ("inbox", Inbox::ABOUT, Inbox::settings()),
        ("federation", Federation::ABOUT, Federation::settings()),
        ("log", Log::ABOUT, Log::settings()),
    ];
    for (name, about, settings) in sections {
        out.push('\n');
        comment(&mut out, about, "");
        let _ = writeln!(out, "[{name}]");
        for setting in settings {
            comment(&mut out, setting.doc, if setting.reloads { "" } else { " (restart)" });
            match find(name, setting.name).or(setting.default.as_deref()) {
                Some(value) => writeln!(out, "{} = {value}", setting.name),
                None => writeln!(out, "# {} = \"{}\"", setting.name, setting.example),
            }
            .unwrap_or_default();
        }
        if name == "server" {
            domain(&mut out, find);
        }
        if name == "federation" {
            out.push_str(
                "\n# A way to another domain that comes before DNS; repeat for more. The \
                 certificate there\n# must be for the domain all the same.\n# [[route]]\n\
                 # domain = \"b.example\"\n# targets = [\"192.0.2.1:2778\"]\n",
            );
        }
    }
    out
}

/// The section of a hosted domain.
fn domain<'a>(out: &mut String, find: impl Fn(&str, &str) -> Option<&'a str>) {
    let find = |key| find("domain", key);
    out.push_str(
        "\n# A domain that this server hosts; repeat for more. The certificate is for the \
         domain's\n# name (DNS SAN), whatever the machine is called. Key files must not \
         be readable by others.\n[[domain]]\n",
    );
    for (key, default) in [
        ("name", "\"example.com\""),
        ("certificate", "\"tls/example.com.pem\""),
        ("key", "\"tls/example.com-key.pem\""),
    ] {
        let _ = writeln!(out, "{key} = {}", find(key).unwrap_or(default));
    }
    let _ = writeln!(
        out,
        "# How often passwords are hashed (SCRAM). Less than this only where all of them are \
         made by\n# `imppd user`, and nobody chooses one. It holds from the next password \
         of an account.\nscram_iterations = {}",
        find("scram_iterations").unwrap_or("100000")
    );
    out.push_str(
        "# Where those users are who are not here.\n# redirect = \"people.example.com\"\n\
         # redirect_users = [\"erin\", \"frank\"]\n\
         # The policy that stands above its users' rules: docs/rules.md.\n\
         # policy = \"policy.toml\"\n\
         # Whether those come in who prove no name: docs/operating.md.\n\
         # anonymous = true\n\
         # The names by which whoever speaks HTTP calls it: docs/http.md. The certificate of the \
         domain\n# has to be for them too, or there is one of their own.\n",
    );
    let _ = match find("web") {
        Some(names) => writeln!(out, "web = {names}"),
        None => writeln!(out, "# web = [\"chat.example.com\"]"),
    };
    out.push_str(
        "# web_certificate = \"tls/chat.example.com.pem\"\n\
         # web_key = \"tls/chat.example.com-key.pem\"\n",
    );
}

fn comment(out: &mut String, lines: &[&str], suffix: &str) {
    for (index, line) in lines.iter().enumerate() {
        let end = if index + 1 == lines.len() { suffix } else { "" };
        let _ = writeln!(out, "#{line}{end}");
    }
}
