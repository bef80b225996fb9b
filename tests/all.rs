//! Every integration test, in one binary: each further one would cost a link of everything.

mod agent;
mod cluster;
mod coordinators;
mod distributed;
mod planner;
mod router;
mod scenarios;
mod simulation;
mod status_schema;
mod tidy;
