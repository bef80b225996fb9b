//! The router's pure part: protocol, authentication, settings, transactions, and from a statement's
//! text to a plan. No I/O here: catalog, search path and parameter values are arguments. Called by the
//! router's session and executor.

pub mod auth;
pub mod catalog;
pub mod error;
pub mod hash;
pub mod plan;
pub mod plan_utility;
pub mod protocol;
pub mod settings;
pub mod sql;
pub mod transaction;
