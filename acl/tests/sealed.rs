//! A view, the permission to send presence, cannot be made outside this crate: it does not compile.

#[test]
fn a_view_comes_only_from_a_decision() {
    trybuild::TestCases::new().compile_fail("tests/sealed/*.rs");
}
