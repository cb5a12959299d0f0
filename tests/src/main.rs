//! cygnet-tests
fn main() {}
