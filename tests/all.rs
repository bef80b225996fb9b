//! Every integration test, in one binary: each further one would cost a link of everything.

mod agent;
mod chaos;
mod cluster;
mod coordinators;
mod distributed;
#[allow(dead_code, unused_imports, reason = "benchmarks use the rest")]
mod harness;
mod model;
mod planner;
mod router;
mod scenarios;
mod simulation;
mod status_schema;
mod tidy;
