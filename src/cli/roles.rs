//! Flags of the three roles and what they become: the settings in `config`. Called by `cli`.

use std::{env, fs, net::SocketAddr, num::NonZero, path::PathBuf, str::FromStr, thread};

use clap::{Args, ValueEnum};

use super::{policy::PolicyArguments, process::ProcessArguments};
use crate::{
    config::{AgentConfig, ConfigError, CoordinatorConfig, RouterConfig, ServiceUrl, urls},
    host::secret::Secret,
    model::{
        group::{Container, GroupKind, Storage, USUAL_PRIORITY},
        ids::{ClusterName, CoordinatorId, GroupId, MemberId, RouterId},
    },
};

/// `howdah coordinator`.
#[derive(Debug, Clone, Args)]
pub struct CoordinatorArguments {
    /// Settings of the process itself.
    #[command(flatten)]
    pub process: ProcessArguments,
    /// Its number among the coordinators of a new cluster, from 1
    #[arg(long, env = "HOWDAH_ID", value_parser = clap::value_parser!(u64).range(1..))]
    id: Option<u64>,
    /// Name of the cluster
    #[arg(long, env = "HOWDAH_CLUSTER", default_value = "howdah")]
    cluster: ClusterName,
    /// Address for gRPC: agents, routers, admin clients, other coordinators
    #[arg(long, env = "HOWDAH_LISTEN", default_value = "0.0.0.0:7400", value_name = "HOST:PORT")]
    listen: SocketAddr,
    /// Address for health and metrics
    #[arg(long, env = "HOWDAH_HTTP", default_value = "0.0.0.0:7480", value_name = "HOST:PORT")]
    http: SocketAddr,
    /// Every coordinator of a new cluster, this one included: 1=http://host:port,2=…; it begins once all have
    /// met, and from then on knows its coordinators itself
    #[arg(long, env = "HOWDAH_PEERS", value_delimiter = ',', value_name = "ID=URL,…")]
    peers: Vec<Peer>,
    /// Coordinators of a cluster that exists: wait there until `howdah coordinator-member add` expects this one
    #[arg(long, env = "HOWDAH_JOIN", value_delimiter = ',', value_name = "URL,…")]
    join: Vec<ServiceUrl>,
    /// With --join: its own address, as everybody reaches it
    #[arg(long, env = "HOWDAH_URL", value_name = "URL")]
    url: Option<ServiceUrl>,
    /// Where its log lives
    #[arg(long, env = "HOWDAH_DATA_DIR", default_value = "/var/lib/howdah", value_name = "DIR")]
    data_dir: PathBuf,
    #[command(flatten)]
    policy: PolicyArguments,
}

impl TryFrom<CoordinatorArguments> for CoordinatorConfig {
    type Error = ConfigError;

    fn try_from(arguments: CoordinatorArguments) -> Result<Self, ConfigError> {
        let peers: Vec<_> = arguments.peers.into_iter().map(|peer| (peer.id, peer.url.to_string())).collect();
        let join = urls(&arguments.join);
        let id = arguments.id.filter(|_| join.is_empty()).map(CoordinatorId);
        let mut numbers: Vec<_> = peers.iter().map(|(id, _)| *id).collect();
        numbers.sort_unstable();
        if let Some(twice) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ConfigError::PeerTwice(twice[0].0));
        }
        let url = match (id, peers.is_empty(), join.is_empty(), arguments.url) {
            (Some(id), false, true, _) => {
                let own = peers.iter().find(|(number, _)| *number == id);
                own.map(|(_, url)| url.clone()).ok_or(ConfigError::NotAmongPeers(id.0))?
            }
            (_, false, false, _) => return Err(ConfigError::TwoClusters),
            (_, true, false, Some(url)) => url.to_string(),
            _ => return Err(ConfigError::NoCluster),
        };
        Ok(Self {
            id,
            url,
            join,
            cluster: arguments.cluster,
            listen: arguments.listen,
            http: arguments.http,
            peers,
            data_dir: arguments.data_dir,
            policy: arguments.policy.into(),
        })
    }
}

/// One entry of `--peers`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Peer {
    id: CoordinatorId,
    url: ServiceUrl,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, url) = text.split_once('=').ok_or("use ID=URL, for example 1=http://127.0.0.1:7400")?;
        let id: NonZero<u64> = id.trim().parse().map_err(|_| format!("{id:?} is not a number from 1"))?;
        Ok(Self { id: CoordinatorId(id.get()), url: url.parse().map_err(|error| format!("{error}"))? })
    }
}

/// Where the cluster's secret comes from.
#[derive(Debug, Clone, Args)]
struct SecretArguments {
    /// File with the cluster's secret, the same for every agent and router; else HOWDAH_SECRET holds it
    #[arg(long, env = "HOWDAH_SECRET_FILE", value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl SecretArguments {
    fn read(self) -> Result<Secret, ConfigError> {
        read_secret("--secret-file", "HOWDAH_SECRET", self.secret_file)
    }
}

/// A secret of 1 to 512 ASCII characters from a file, without its last line end, or from the environment.
fn read_secret(flag: &'static str, variable: &'static str, file: Option<PathBuf>) -> Result<Secret, ConfigError> {
    let text = match file {
        Some(path) => fs::read_to_string(&path).map_err(|source| ConfigError::SecretFile { flag, path, source })?,
        None => env::var(variable).map_err(|_| ConfigError::NoSecret { flag, variable })?,
    };
    let text = text.trim_end_matches(['\r', '\n']);
    let good = (1..=512).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b));
    if good { Ok(Secret::new(text)) } else { Err(ConfigError::BadSecret { flag, variable }) }
}

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Catalog, local tables, merging; runs a router
    Query,
    /// Rows of distributed tables
    Shard,
}

/// [`Storage`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StorageArgument {
    /// Keep it until a person has moved it away; until then this container serves nobody.
    Persistent,
    /// Set it aside and serve whichever group needs a member.
    Ephemeral,
}

/// `howdah agent`.
#[derive(Debug, Clone, Args)]
pub struct AgentArguments {
    /// Settings of the process itself.
    #[command(flatten)]
    pub process: ProcessArguments,
    /// Name of this container, unique in the cluster and the same after a restart
    #[arg(long, env = "HOWDAH_NAME")]
    name: MemberId,
    /// What this container is for
    #[arg(long, env = "HOWDAH_KIND")]
    kind: Kind,
    /// Name of the cluster
    #[arg(long, env = "HOWDAH_CLUSTER", default_value = "howdah")]
    cluster: ClusterName,
    /// Coordinators
    #[arg(long, env = "HOWDAH_COORDINATORS", value_delimiter = ',', required = true, value_name = "URL,…")]
    coordinators: Vec<ServiceUrl>,
    /// Host name or address under which others reach this PostgreSQL [default: the name]
    #[arg(long, env = "HOWDAH_HOST")]
    host: Option<String>,
    /// Port of PostgreSQL
    #[arg(long, env = "HOWDAH_PORT", default_value_t = 5432, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Addresses PostgreSQL listens on
    #[arg(long, env = "HOWDAH_POSTGRES_LISTEN", default_value = "*")]
    postgres_listen: String,
    /// Address for health and metrics
    #[arg(long, env = "HOWDAH_HTTP", default_value = "0.0.0.0:7410", value_name = "HOST:PORT")]
    http: SocketAddr,
    /// Where its files live, PostgreSQL's data below it
    #[arg(long, env = "HOWDAH_DATA_DIR", default_value = "/var/lib/howdah", value_name = "DIR")]
    data_dir: PathBuf,
    #[command(flatten)]
    secret: SecretArguments,
    /// File with the password of the role that owns the database; else HOWDAH_OWNER_PASSWORD holds it
    #[arg(long, env = "HOWDAH_OWNER_PASSWORD_FILE", value_name = "FILE")]
    owner_password_file: Option<PathBuf>,
    /// Directory of initdb and postgres [default: as `pg_config` says, or the usual places]
    #[arg(long, env = "HOWDAH_POSTGRES_BIN", value_name = "DIR")]
    postgres_bin: Option<PathBuf>,
    /// User that runs PostgreSQL when the agent runs as root
    #[arg(long, env = "HOWDAH_RUN_AS", default_value = "postgres", value_name = "USER")]
    run_as: String,
    /// Failure zone: members of a group are spread over zones
    #[arg(long, env = "HOWDAH_ZONE", default_value = "")]
    zone: String,
    /// What to do with data that belongs to a group which has replaced this container
    #[arg(long, env = "HOWDAH_STORAGE", default_value = "persistent")]
    storage: StorageArgument,
    /// Group this container would like to be in
    #[arg(long, env = "HOWDAH_WISH", value_name = "GROUP")]
    wish: Option<GroupId>,
    /// Of members whose logs reach equally far, the one with the higher priority becomes primary; 0: only
    /// where no other is known to have every acknowledged commit
    #[arg(long, env = "HOWDAH_PRIORITY", default_value_t = USUAL_PRIORITY, value_parser = clap::value_parser!(u32).range(0..=100))]
    priority: u32,
    /// Address of the router for SQL clients (kind query)
    #[arg(long, env = "HOWDAH_ROUTER_LISTEN", default_value = "0.0.0.0:7432", value_name = "HOST:PORT")]
    router_listen: SocketAddr,
    /// Address of the router for read-only SQL clients (kind query)
    #[arg(long, env = "HOWDAH_ROUTER_READ_ONLY_LISTEN", default_value = "0.0.0.0:7433", value_name = "HOST:PORT")]
    router_read_only_listen: SocketAddr,
    /// Address of the router for health and metrics (kind query)
    #[arg(long, env = "HOWDAH_ROUTER_HTTP", default_value = "0.0.0.0:7490", value_name = "HOST:PORT")]
    router_http: SocketAddr,
}

impl TryFrom<AgentArguments> for AgentConfig {
    type Error = ConfigError;

    fn try_from(arguments: AgentArguments) -> Result<Self, ConfigError> {
        let kind = match arguments.kind {
            Kind::Query => GroupKind::Query,
            Kind::Shard => GroupKind::Shard,
        };
        let host = arguments.host.unwrap_or_else(|| arguments.name.to_string());
        let secret = arguments.secret.read()?;
        let owner_password =
            read_secret("--owner-password-file", "HOWDAH_OWNER_PASSWORD", arguments.owner_password_file)?;
        let router = || -> Result<RouterConfig, ConfigError> {
            let name = arguments.name.as_str();
            Ok(RouterConfig {
                cluster: arguments.cluster.clone(),
                name: name.parse().map_err(|_| ConfigError::NoRouterName(name.to_owned()))?,
                coordinators: urls(&arguments.coordinators),
                listen: arguments.router_listen,
                read_only_listen: Some(arguments.router_read_only_listen),
                http: Some(arguments.router_http),
                advertise: host.clone(),
                secret: secret.clone(),
                workers: default_workers(),
            })
        };
        Ok(Self {
            router: if kind == GroupKind::Query { Some(router()?) } else { None },
            cluster: arguments.cluster,
            container: Container {
                id: arguments.name,
                host,
                port: arguments.port,
                kind,
                zone: arguments.zone,
                wish: arguments.wish,
                priority: arguments.priority,
                // The agent's own directory says.
                birth: 0,
            },
            coordinators: urls(&arguments.coordinators),
            storage: match arguments.storage {
                StorageArgument::Persistent => Storage::Persistent,
                StorageArgument::Ephemeral => Storage::Ephemeral,
            },
            postgres_listen: arguments.postgres_listen,
            http: arguments.http,
            data_dir: arguments.data_dir,
            secret,
            owner_password,
            postgres_bin: arguments.postgres_bin,
            run_as: arguments.run_as,
        })
    }
}

/// `howdah router`.
#[derive(Debug, Clone, Args)]
pub struct RouterArguments {
    /// Settings of the process itself.
    #[command(flatten)]
    pub process: ProcessArguments,
    /// Its name: its container's
    #[arg(long, env = "HOWDAH_NAME")]
    name: RouterId,
    /// Name of the cluster
    #[arg(long, env = "HOWDAH_CLUSTER", default_value = "howdah")]
    cluster: ClusterName,
    /// Coordinators
    #[arg(long, env = "HOWDAH_COORDINATORS", value_delimiter = ',', required = true, value_name = "URL,…")]
    coordinators: Vec<ServiceUrl>,
    /// Address for SQL clients
    #[arg(long, env = "HOWDAH_LISTEN", default_value = "0.0.0.0:7432", value_name = "HOST:PORT")]
    listen: SocketAddr,
    /// Address for read-only SQL clients
    #[arg(long, env = "HOWDAH_READ_ONLY_LISTEN", value_name = "HOST:PORT")]
    read_only_listen: Option<SocketAddr>,
    /// Address for health and metrics
    #[arg(long, env = "HOWDAH_HTTP", value_name = "HOST:PORT")]
    http: Option<SocketAddr>,
    /// Host that clients are told to connect to [default: the name]
    #[arg(long, env = "HOWDAH_ADVERTISE", value_name = "HOST")]
    advertise: Option<String>,
    #[command(flatten)]
    secret: SecretArguments,
    /// Worker threads [default: one per processor]
    #[arg(long, env = "HOWDAH_WORKERS", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
}

impl TryFrom<RouterArguments> for RouterConfig {
    type Error = ConfigError;

    fn try_from(arguments: RouterArguments) -> Result<Self, ConfigError> {
        Ok(Self {
            cluster: arguments.cluster,
            advertise: arguments.advertise.unwrap_or_else(|| arguments.name.to_string()),
            name: arguments.name,
            coordinators: urls(&arguments.coordinators),
            listen: arguments.listen,
            read_only_listen: arguments.read_only_listen,
            http: arguments.http,
            secret: arguments.secret.read()?,
            workers: arguments.workers.map_or_else(default_workers, usize::from),
        })
    }
}

/// One worker per processor.
fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}
