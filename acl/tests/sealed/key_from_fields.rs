use impp_acl::{Grants, ViewKey};

fn main() {
    let _ = ViewKey(Grants::everything());
}
