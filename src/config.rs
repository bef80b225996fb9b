//! Settings of each role, validated: made by `main` from flags, `HOWDAH_*` environment and a TOML
//! file, in that order. Inside, values are valid.

use std::{net::SocketAddr, path::PathBuf};

use crate::{
    host::secret::Secret,
    model::{
        group::Container,
        ids::{ClusterName, CoordinatorId, RouterId},
        policy::Policy,
    },
};

/// One coordinator.
#[derive(Clone)]
pub struct CoordinatorConfig {
    /// Its number in the Raft group.
    pub id: CoordinatorId,
    /// The cluster.
    pub cluster: ClusterName,
    /// gRPC address to listen on.
    pub listen: SocketAddr,
    /// HTTP address for health and metrics.
    pub http: SocketAddr,
    /// Every coordinator, itself included: number and gRPC URL (`http://host:port`).
    pub peers: Vec<(CoordinatorId, String)>,
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
