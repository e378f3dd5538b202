//! A service; its parts come next.
fn main() {}
