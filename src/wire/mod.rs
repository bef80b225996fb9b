//! Between protobuf and the model: the only files that name protobuf types. Model to protobuf is
//! `From`; protobuf to model is `TryFrom` and fails with [`InvalidMessage`], which names the field.
//! Called by every role's shell where a message comes in or goes out.

mod admin;
pub mod agent;
pub mod raft;
pub mod topology;

use std::{fmt::Display, str::FromStr};

/// Code generated from `proto/`. (A goal is larger than what else a coordinator says: both live for a moment.)
#[allow(clippy::pedantic, clippy::large_enum_variant, missing_docs)]
pub mod pb {
    /// Messages of the Raft transport.
    pub mod raft {
        tonic::include_proto!("howdah.raft.v1");
    }
    /// Messages of agents.
    pub mod agent {
        tonic::include_proto!("howdah.agent.v1");
    }
    /// Messages of routers.
    pub mod topology {
        tonic::include_proto!("howdah.topology.v1");
    }
    /// Messages of admin clients.
    pub mod admin {
        tonic::include_proto!("howdah.admin.v1");
    }
    /// All of the above as a descriptor set, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// A message that cannot be what it claims to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidMessage {
    /// Message and field, as in the proto file: `Report.member`.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl From<InvalidMessage> for tonic::Status {
    fn from(invalid: InvalidMessage) -> Self {
        Self::invalid_argument(invalid.to_string())
    }
}

/// Shorthand: what went wrong with `field`.
fn invalid(field: &'static str, problem: impl Display) -> InvalidMessage {
    InvalidMessage { field, problem: problem.to_string() }
}

/// A field that must be there.
fn required<T>(value: Option<T>, field: &'static str) -> Result<T, InvalidMessage> {
    value.ok_or_else(|| invalid(field, "is missing"))
}

/// A name.
fn name<T: FromStr<Err: Display>>(text: &str, field: &'static str) -> Result<T, InvalidMessage> {
    text.parse().map_err(|error| invalid(field, error))
}

/// A name, or empty for none.
fn optional_name<T: FromStr<Err: Display>>(text: &str, field: &'static str) -> Result<Option<T>, InvalidMessage> {
    if text.is_empty() { Ok(None) } else { name(text, field).map(Some) }
}

/// A TCP port; 0 is left to the caller.
fn port(number: u32, field: &'static str) -> Result<u16, InvalidMessage> {
    u16::try_from(number).map_err(|_| invalid(field, format!("{number} is not a port (0 to 65535)")))
}

/// Every element, or the first that is invalid.
fn list<T, U: TryFrom<T>>(values: Vec<T>) -> Result<Vec<U>, U::Error> {
    values.into_iter().map(U::try_from).collect()
}

/// 0 stands for none.
fn nonzero<T: Default + PartialEq>(value: T) -> Option<T> {
    Some(value).filter(|value| *value != T::default())
}
