//! The router's pure part: from a statement's text to a plan. No I/O here: catalog, search path and
//! parameter values are arguments. Called by the router's session and executor.

pub mod catalog;
pub mod hash;
pub mod plan;
pub mod plan_utility;
pub mod sql;
