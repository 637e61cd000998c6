//! What handles things of an owner is handed a permit, and neither a session nor an address: who acts
//! and on whose things is in the permit alone.

use std::path::Path;

use quote::ToTokens;
use syn::{FnArg, ImplItem, Item, Visibility};

use crate::sources::sources;

/// What a handler says that is asked from outside its file.
fn handlers(root: &Path) -> Vec<(String, Vec<String>)> {
    let mut handlers = Vec::new();
    for source in sources(root) {
        let file = source.path.file_name().unwrap().to_str().unwrap().to_owned();
        for item in &source.file.items {
            let Item::Impl(block) = item else { continue };
            for item in &block.items {
                let ImplItem::Fn(function) = item else { continue };
                if function.sig.asyncness.is_none() || matches!(function.vis, Visibility::Inherited)
                {
                    continue;
                }
                let types = function.sig.inputs.iter().filter_map(|input| match input {
                    FnArg::Typed(typed) => Some(typed.ty.to_token_stream().to_string()),
                    FnArg::Receiver(_) => None,
                });
                handlers.push((format!("{file} {}", function.sig.ident), types.collect()));
            }
        }
    }
    handlers
}

#[test]
fn handlers_of_things_are_handed_a_permit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/src/session/things");
    // Where a client is turned into a permit.
    let all = handlers(&root).into_iter().filter(|(name, _)| !name.starts_with("mod.rs "));
    let all: Vec<_> = all.collect();
    assert!(all.len() > 15, "{all:?}");
    for (name, types) in all {
        assert!(
            types.iter().any(|ty| ty.starts_with("& Acting < scope ::")),
            "{name} is handed no permit: {types:?}"
        );
        let others = ["& Address", "Address", "& Session", "& mut Session"];
        let other = types.iter().find(|ty| others.contains(&ty.as_str()));
        assert_eq!(other, None, "{name} asks whose things they are beside the permit");
    }
}
