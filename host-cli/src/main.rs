//! cygnet
fn main() {}
