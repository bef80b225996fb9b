//! The router's pure part: protocol, authentication, settings, transactions, and from a statement's
//! text to a plan. No I/O here: catalog, search path and parameter values are arguments. Called by the
//! router's session and executor.

pub mod auth;
pub mod catalog;
pub mod copy_lines;
pub mod copy_split;
pub mod distribute;
pub mod error;
pub mod hash;
pub mod hold;
pub mod leaf_names;
mod lexer;
pub mod merge;
pub mod plan;
pub mod plan_utility;
pub mod planner;
pub mod protocol;
mod query;
pub mod request;
pub mod role_password;
pub mod session_number;
pub mod settings;
pub mod sql;
pub mod transaction;
pub mod two_phase;
