use impp_acl::View;
use impp_protocol::presence::Document;

fn widen(view: &mut View, full: Document) {
    view.document = full;
}

fn main() {}
