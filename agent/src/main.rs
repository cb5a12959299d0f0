//! cygnetd
fn main() {}
