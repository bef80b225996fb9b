//! The policy a new cluster begins with, as flags of `howdah coordinator`.

use clap::{Args, ValueEnum};

use crate::model::{
    numbers::Millis,
    policy::{AckZones, Durability, Policy, Reads},
};

/// What people want of a new cluster; an existing one keeps the policy it has.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Policy of a new cluster")]
pub struct PolicyArguments {
    /// Shards to form out of containers as they register
    #[arg(long, env = "HOWDAH_SHARDS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub shards: u32,
    /// Standbys of each shard
    #[arg(long, env = "HOWDAH_REPLICAS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=9))]
    pub replicas: u32,
    /// Members of the query group, its primary included
    #[arg(long, env = "HOWDAH_QUERY_MEMBERS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10))]
    pub query_members: u32,
    /// Standbys that acknowledge a commit before the client hears of it
    #[arg(long, env = "HOWDAH_ACKS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=9))]
    pub acks: u32,
    /// What to do while too few standbys are there: writes wait, or go on with fewer acknowledgements
    #[arg(long, env = "HOWDAH_DURABILITY", default_value = "available")]
    pub durability: DurabilityArgument,
    /// Whose acknowledgement counts
    #[arg(long, env = "HOWDAH_ACK_ZONES", default_value = "any")]
    pub ack_zones: AckZonesArgument,
    /// What clients that are cut off together with a lost primary may read of it until it fences itself
    #[arg(long, env = "HOWDAH_READS", default_value = "available")]
    pub reads: ReadsArgument,
    /// Seconds of silence after which a member is replaced by a container that has no group
    #[arg(long, env = "HOWDAH_REPLACE_AFTER", default_value_t = 600, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=2_592_000))]
    pub replace_after: u64,
    /// Buckets of a new colocation group
    #[arg(long, env = "HOWDAH_BUCKET_COUNT", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub bucket_count: u32,
    /// Database that every group has
    #[arg(long, env = "HOWDAH_DATABASE", default_value = "howdah", value_parser = sql_name)]
    pub database: String,
    /// Role that owns it
    #[arg(long, env = "HOWDAH_OWNER", default_value = "howdah", value_parser = sql_name)]
    pub owner: String,
}

/// [`Durability`] on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DurabilityArgument {
    /// Writes wait for the acknowledgements.
    Strict,
    /// Writes go on without them.
    Available,
}

/// [`AckZones`] on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum AckZonesArgument {
    /// Every standby's.
    Any,
    /// Only standbys in another zone than the primary's.
    Other,
}

/// [`Reads`] on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ReadsArgument {
    /// What was there before: the next primary does not wait.
    Available,
    /// Nothing: the next primary waits until the old one has surely fenced itself.
    Strict,
}

impl From<PolicyArguments> for Policy {
    fn from(arguments: PolicyArguments) -> Self {
        Self {
            shards: arguments.shards,
            replicas: arguments.replicas,
            query_members: arguments.query_members,
            acks: arguments.acks,
            durability: match arguments.durability {
                DurabilityArgument::Strict => Durability::Strict,
                DurabilityArgument::Available => Durability::Available,
            },
            ack_zones: match arguments.ack_zones {
                AckZonesArgument::Any => AckZones::Any,
                AckZonesArgument::Other => AckZones::Other,
            },
            reads: match arguments.reads {
                ReadsArgument::Available => Reads::Available,
                ReadsArgument::Strict => Reads::Strict,
            },
            replace_after: Millis(arguments.replace_after * 1_000),
            bucket_count: arguments.bucket_count,
            database: arguments.database,
            owner: arguments.owner,
            ..Self::default()
        }
    }
}

/// A name that needs no quotes in SQL, connection strings and file names.
fn sql_name(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let good = text.starts_with(|c: char| c.is_ascii_lowercase()) && text.len() <= 63 && text.bytes().all(plain);
    let reserved = ["postgres", "template0", "template1"].contains(&text) || text.starts_with("pg_");
    match (good, reserved) {
        (true, false) => Ok(text.to_owned()),
        (true, true) => Err("this name belongs to PostgreSQL itself".to_owned()),
        (false, _) => Err("use 1 to 63 of a-z, 0-9 and '_', beginning with a letter".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        policy: PolicyArguments,
    }

    #[test]
    fn without_flags_it_is_the_default_policy() {
        let policy: Policy = Alone::try_parse_from(["x"]).expect("no flag is needed").policy.into();
        assert_eq!(policy, Policy::default());
    }

    #[test]
    fn reserved_and_odd_names_are_refused() {
        for bad in ["postgres", "pg_x", "A", "a-b", ""] {
            assert!(sql_name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(sql_name("app_1"), Ok("app_1".to_owned()));
    }
}
