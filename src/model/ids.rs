//! Names of things: cluster, group, member, coordinator, router, operation. Called by everyone.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text is not a name: names are part of file names, slot names and URLs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid name: use 1 to 40 of a-z, 0-9 and '-', beginning with a letter")]
pub struct InvalidName {
    /// What was given.
    pub text: String,
}

/// True for 1 to 40 of `a-z 0-9 -`, beginning with a letter. 40 leaves room for the prefixes we put
/// before it within `PostgreSQL`'s 63-byte names.
fn is_name(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                if is_name(text) { Ok(Self(text.to_owned())) } else { Err(InvalidName { text: text.to_owned() }) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// One container: an agent and its `PostgreSQL`. Also its `application_name` on its primary.
    MemberId
}
name! {
    /// A group of members with one primary: `query`, `shard-1`, `shard-2`, …
    GroupId
}
name! {
    /// A cluster's name, chosen by people; a directory or member of another one is refused.
    ClusterName
}
name! {
    /// A router, named for the container it runs in.
    RouterId
}
name! {
    /// A long piece of work: `op-17`, numbered by the Raft index that recorded it.
    OperationId
}

/// A coordinator's number in its Raft group; never zero (raft-rs keeps 0 for "none").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CoordinatorId(pub u64);

impl fmt::Display for CoordinatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "coordinator-{}", self.0)
    }
}

/// Number of a colocation group, from 1; chosen through Raft, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ColocationId(pub u32);

impl fmt::Display for ColocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!("shard-1".parse::<GroupId>().is_ok());
        for bad in ["", "1a", "Shard", "a_b", "a b", "-a", &"a".repeat(41)] {
            assert!(bad.parse::<GroupId>().is_err(), "{bad:?}");
        }
    }
}
