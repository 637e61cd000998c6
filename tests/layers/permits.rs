//! What handles things of an owner is handed a permit, and neither a session nor an address: who acts
//! and on whose things is in the permit alone. And permits are made where it is proven who asks.

use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{FnArg, ImplItem, Item, Visibility};

use crate::sources::sources;

/// Which files of the server make permits, by which of the doors that `acl` has.
const MINTED: &[(&str, &str)] = &[
    // The operator has opened the control socket.
    ("front/control/devices.rs", "Acting::administrator"),
    ("front/control/explain.rs", "Acting::administrator"),
    // A link has proven its domain.
    ("link/home.rs", "Acting::elsewhere"),
    // The owner's rules were asked.
    ("session/delegated.rs", "Acting::sending"),
    ("session/delegated.rs", "Permit::delegate"),
    // Somebody has signed in.
    ("session/things/mod.rs", "Permit::oneself"),
    // Nothing was proven.
    ("session/visitor.rs", "Acting::anonymous"),
];

/// What says who asks, or from where, beside the permit.
const ASKERS: &[&str] = &["Account", "Client", "Mailbox", "Session", "SessionId"];

/// Handlers that are handed such a thing all the same, and why.
const OF_SESSIONS: &[(&str, &str)] = &[
    ("presence.rs publish", "what is bound to a session ends with it, and with its device"),
    ("requests.rs follow", "which session is told"),
    ("requests.rs unfollow", "which session is not told any more"),
    ("seldom.rs may", "which session is woken when it may be told again"),
    ("typing.rs new", "which session is told"),
    ("watchers.rs news", "which session is told"),
    ("watchers.rs unfollow", "which session is not told any more"),
];

/// A function that is asked from outside its file.
struct Handler {
    name: String,
    is_async: bool,
    types: Vec<TokenStream>,
}

/// What is asked from outside its file; a `Following` is handed its permit when it begins, and its session
/// whenever that looks.
fn handlers(root: &Path) -> Vec<Handler> {
    let mut handlers = Vec::new();
    for source in sources(root) {
        let file = source.path.file_name().unwrap().to_str().unwrap().to_owned();
        for item in &source.file.items {
            let Item::Impl(block) = item else { continue };
            for item in &block.items {
                let ImplItem::Fn(function) = item else { continue };
                if matches!(function.vis, Visibility::Inherited) {
                    continue;
                }
                let types = function.sig.inputs.iter().filter_map(|input| match input {
                    FnArg::Typed(typed) => Some(typed.ty.to_token_stream()),
                    FnArg::Receiver(_) => None,
                });
                handlers.push(Handler {
                    name: format!("{file} {}", function.sig.ident),
                    is_async: function.sig.asyncness.is_some(),
                    types: types.collect(),
                });
            }
        }
    }
    handlers
}

fn of_things() -> Vec<Handler> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/src/session/things");
    // Where a client is turned into a permit.
    handlers(&root).into_iter().filter(|handler| !handler.name.starts_with("mod.rs ")).collect()
}

/// Whether a type names one of these.
pub(crate) fn names(ty: TokenStream, of: &[&str]) -> bool {
    ty.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => of.iter().any(|name| ident == name),
        TokenTree::Group(group) => names(group.stream(), of),
        _ => false,
    })
}

#[test]
fn handlers_of_things_are_handed_a_permit() {
    let all: Vec<Handler> = of_things().into_iter().filter(|handler| handler.is_async).collect();
    assert!(all.len() > 15, "{}", all.len());
    for Handler { name, types, .. } in all {
        let types: Vec<String> = types.iter().map(ToString::to_string).collect();
        assert!(
            types.iter().any(|ty| ty.starts_with("& Acting < scope ::")),
            "{name} is handed no permit: {types:?}"
        );
        let other = types.iter().find(|ty| ["& Address", "Address"].contains(&ty.as_str()));
        assert_eq!(other, None, "{name} asks whose things they are beside the permit");
    }
}

#[test]
fn handlers_of_things_do_not_ask_who_asks() {
    // `Account` is a scope of permits too.
    let is_permit = |ty: &TokenStream| names(ty.clone(), &["Acting"]);
    let asks = |handler: &Handler| {
        handler.types.iter().any(|ty| !is_permit(ty) && names(ty.clone(), ASKERS))
    };
    let found: Vec<String> =
        of_things().into_iter().filter(asks).map(|handler| handler.name).collect();
    let listed: Vec<&str> = OF_SESSIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, listed, "handed a session, or whose it is: the permit says who asks");
    assert!(OF_SESSIONS.iter().all(|(_, why)| !why.is_empty()));
}

/// What is called of a permit's type here: `Acting::name`, `Acting::<S>::name`, `<Acting<S>>::name`.
fn minted(tokens: TokenStream, found: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => minted(group.stream(), found),
            TokenTree::Ident(of) if of == "Acting" || of == "Permit" => {
                if let Some(name) = called(&tokens[at + 1..]) {
                    found.push(format!("{of}::{name}"));
                }
            }
            _ => {}
        }
    }
}

/// The function that these tokens lead to behind a type's name, over its parameters.
fn called(tokens: &[TokenTree]) -> Option<String> {
    let sign = |at: usize| match tokens.get(at) {
        Some(TokenTree::Punct(sign)) => Some(sign.as_char()),
        _ => None,
    };
    let (mut at, mut depth) = (0, 0);
    loop {
        match sign(at) {
            Some('<') => depth += 1,
            Some('>') => depth -= 1,
            Some(':') if depth <= 0 && sign(at + 1) == Some(':') => match tokens.get(at + 2) {
                // A variant of `Permit` begins with a capital.
                Some(TokenTree::Ident(name)) => {
                    let name = name.to_string();
                    return name.starts_with(|first: char| first.is_lowercase()).then_some(name);
                }
                _ => at += 1,
            },
            _ if depth <= 0 => return None,
            _ => {}
        }
        at += 1;
    }
}

#[test]
fn permits_are_made_where_it_is_proven_who_asks() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/src");
    let mut all = Vec::new();
    for source in sources(&root) {
        let path = source.path.strip_prefix(&root).unwrap().display().to_string();
        let mut found = Vec::new();
        minted(source.file.to_token_stream(), &mut found);
        found.sort_unstable();
        found.dedup();
        all.extend(found.into_iter().map(|door| (path.clone(), door)));
    }
    let all: Vec<(&str, &str)> = all.iter().map(|(path, door)| (&**path, &**door)).collect();
    assert_eq!(all, MINTED);
}

#[test]
fn a_permit_that_is_made_is_found_however_it_is_written() {
    for (text, wanted) in [
        ("let a = Acting::administrator(owner);", &["Acting::administrator"][..]),
        ("f(Acting::<scope::Rules>::administrator)", &["Acting::administrator"]),
        ("<impp_acl::Acting<scope::Rules>>::administrator(o)", &["Acting::administrator"]),
        ("fn f(a: &Acting<scope::Rules>) -> B { B::new(a) }", &[]),
        ("match p { Permit::Rules(acting) => a::b(acting) }", &[]),
        ("let p = Permit::oneself(a, b, What::Log)?;", &["Permit::oneself"]),
    ] {
        let mut found = Vec::new();
        minted(text.parse().unwrap(), &mut found);
        assert_eq!(found, wanted, "{text}");
    }
}
