//! mm1: the MM1 recipe as one program.
fn main() {}
