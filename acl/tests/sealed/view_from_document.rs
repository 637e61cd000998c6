use impp_acl::View;
use impp_protocol::presence::Document;

fn main() {
    let _: View = Document::offline().into();
}
