//! Flags of `howdah dev`. Called by `cli` and `dev`.

use std::{path::PathBuf, str::FromStr};

use clap::Args;

use super::{directory::Wanted, layout::Shape};

/// `howdah dev`. A cluster that is started again remembers its flags.
#[derive(Debug, Clone, Args)]
pub struct DevArguments {
    /// Shards [default: 2]
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// Standbys of each shard [default: 1]
    #[arg(long, value_name = "N")]
    replicas: Option<u16>,
    /// Coordinators: 1, 3, 5 or 7 [default: 3]
    #[arg(long, value_name = "N")]
    coordinators: Option<u16>,
    /// Query nodes, each with a router [default: 2]
    #[arg(long, value_name = "N")]
    query_nodes: Option<u16>,
    /// Containers kept for `howdah shard add` [default: 0]
    #[arg(long, value_name = "N")]
    spares: Option<u16>,
    /// SQL port of the first router; router i has this + 2i, and the port after it is read-only [default: 7432]
    #[arg(long, value_name = "PORT")]
    sql_port: Option<u16>,
    /// Coordinators from here on, agents' HTTP from 10 above, coordinators' HTTP from 80, routers' HTTP from 90,
    /// PostgreSQL from 100 [default: 7400]
    #[arg(long, value_name = "PORT")]
    base_port: Option<u16>,
    /// Failure zones that the members of each group are spread over [default: none]
    #[arg(long, value_name = "N")]
    zones: Option<u16>,
    /// Directory of the cluster; started again on it, it goes on with its data
    #[arg(long, default_value = ".howdah", value_name = "DIR")]
    pub dir: PathBuf,
    /// Directory of initdb and postgres [default: as `pg_config` says, or the usual places]
    #[arg(long, env = "HOWDAH_POSTGRES_BIN", value_name = "DIR")]
    pub postgres_bin: Option<PathBuf>,
    /// Leave a part that ends dead, instead of starting it again
    #[arg(long)]
    pub no_restart: bool,
    /// Stop when the process that started this one ends
    #[arg(long)]
    pub die_with_parent: bool,
    /// Load a data set once the cluster is up: tpch:SCALE, for example tpch:0.1
    #[arg(long, value_name = "SET")]
    pub load: Option<DataSet>,
}

impl DevArguments {
    /// What a new cluster gets.
    pub fn shape(&self) -> Shape {
        Shape {
            shards: self.shards.unwrap_or(2),
            replicas: self.replicas.unwrap_or(1),
            coordinators: self.coordinators.unwrap_or(3),
            query_nodes: self.query_nodes.unwrap_or(2),
            spares: self.spares.unwrap_or(0),
            sql_port: self.sql_port.unwrap_or(7432),
            base_port: self.base_port.unwrap_or(7400),
            zones: self.zones.unwrap_or(0),
        }
    }

    /// What an existing one must have.
    pub fn wanted(&self) -> Wanted {
        Wanted([
            ("--shards", self.shards),
            ("--replicas", self.replicas),
            ("--coordinators", self.coordinators),
            ("--query-nodes", self.query_nodes),
            ("--spares", self.spares),
            ("--sql-port", self.sql_port),
            ("--base-port", self.base_port),
            ("--zones", self.zones),
        ])
    }
}

/// What `--load` can load: TPC-H at a scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DataSet {
    /// 1 is about 1 GB.
    pub scale: f64,
}

impl FromStr for DataSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let scale = text.strip_prefix("tpch:").ok_or("use tpch:SCALE, for example tpch:0.1")?;
        let scale: f64 = scale.parse().map_err(|_| format!("{scale:?} is not a scale: use a number such as 0.1"))?;
        if (0.001..=100.0).contains(&scale) { Ok(Self { scale }) } else { Err("use a scale of 0.001 to 100".into()) }
    }
}
