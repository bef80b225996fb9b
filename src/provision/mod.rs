//! Gives a cluster its processes and containers. Local processes so far; called by `dev`.

pub mod postgres;
pub mod process;
