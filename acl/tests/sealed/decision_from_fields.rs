use impp_acl::{Decision, Grants, Handling};

fn main() {
    let _ = Decision { handling: Handling::Allow, grants: Grants::everything() };
}
