//! The one binary: arguments, config, tracing, one role's run.

fn main() {}
