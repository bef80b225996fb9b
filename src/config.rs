//! Settings of each role, validated: made by `main` from flags, `HOWDAH_*` environment and a TOML
//! file, in that order. Inside, values are valid.

mod url;

use std::{net::SocketAddr, path::PathBuf};

pub use self::url::{ServiceUrl, urls};

use crate::{
    host::secret::Secret,
    model::{
        group::{Container, Storage},
        ids::{ClusterName, CoordinatorId, RouterId},
        policy::Policy,
    },
};

/// One coordinator.
#[derive(Clone)]
pub struct CoordinatorConfig {
    /// Its number among the founders of a new cluster; `None`: it joins one that exists.
    pub id: Option<CoordinatorId>,
    /// Its own gRPC URL, by which everybody reaches it.
    pub url: String,
    /// The cluster.
    pub cluster: ClusterName,
    /// gRPC address to listen on.
    pub listen: SocketAddr,
    /// HTTP address for health and metrics.
    pub http: SocketAddr,
    /// The founders of a new cluster, itself included: number and gRPC URL (`http://host:port`). Once the
    /// cluster runs, the coordinators are those of its state.
    pub peers: Vec<(CoordinatorId, String)>,
    /// Where to ask for a number in a cluster that exists.
    pub join: Vec<String>,
    /// Where its log lives.
    pub data_dir: PathBuf,
    /// The policy a *new* cluster begins with; an existing one keeps its own.
    pub policy: Policy,
}

/// One agent.
#[derive(Clone)]
pub struct AgentConfig {
    /// The cluster.
    pub cluster: ClusterName,
    /// What it registers.
    pub container: Container,
    /// What becomes of data that belongs to a group no more.
    pub storage: Storage,
    /// gRPC URLs of the coordinators.
    pub coordinators: Vec<String>,
    /// Address `PostgreSQL` listens on (`listen_addresses`), `*` in containers.
    pub postgres_listen: String,
    /// HTTP address for health and metrics.
    pub http: SocketAddr,
    /// Holds the agent's own files and, below `postgres/`, the data directory.
    pub data_dir: PathBuf,
    /// The cluster's secret.
    pub secret: Secret,
    /// Password of the policy's owner role.
    pub owner_password: Secret,
    /// Directory of `initdb`, `postgres`, …; found by `pg_config` or in usual places where `None`.
    pub postgres_bin: Option<PathBuf>,
    /// User for `PostgreSQL` when the agent runs as root.
    pub run_as: String,
    /// Router to supervise in this container.
    pub router: Option<RouterConfig>,
}

/// One router.
#[derive(Clone)]
pub struct RouterConfig {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its name: its container's.
    pub name: RouterId,
    /// gRPC URLs of the coordinators.
    pub coordinators: Vec<String>,
    /// Address for SQL clients.
    pub listen: SocketAddr,
    /// Address for read-only SQL clients.
    pub read_only_listen: Option<SocketAddr>,
    /// HTTP address for health and metrics.
    pub http: Option<SocketAddr>,
    /// Host that the router reports for people to connect to.
    pub advertise: String,
    /// The cluster's secret.
    pub secret: Secret,
    /// Worker threads; a session lives on one of them.
    pub workers: usize,
}

/// Settings that parse one by one but do not make a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `--peers` names a number twice.
    #[error("--peers names coordinator {0} twice; give each coordinator its own number")]
    PeerTwice(u64),
    /// `--peers` leaves out the coordinator itself.
    #[error("--id {0} is not among --peers; list every coordinator there, this one included")]
    NotAmongPeers(u64),
    /// Neither a new cluster nor one that exists.
    #[error("give --id and --peers for a new cluster, or --join and --url for one that exists")]
    NoCluster,
    /// Both.
    #[error("--peers is for a new cluster, --join for one that exists: give only one of them")]
    TwoClusters,
    /// A secret's file cannot be read.
    #[error("{flag} {path}: {source}; give a readable file")]
    SecretFile {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No secret at all.
    #[error("no value for {flag}; give the flag, or {variable} in the environment")]
    NoSecret {
        /// The flag.
        flag: &'static str,
        /// The variable that stands in for it.
        variable: &'static str,
    },
    /// A secret that cannot be a password everywhere.
    #[error("the text behind {flag} (or {variable}) must be 1 to 512 printable ASCII characters")]
    BadSecret {
        /// The flag.
        flag: &'static str,
        /// The variable that stands in for it.
        variable: &'static str,
    },
    /// A member name that is no router name.
    #[error("--name {0} cannot name a router")]
    NoRouterName(String),
}
