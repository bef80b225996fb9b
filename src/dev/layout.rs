//! [pure] Which parts a cluster on this machine has, and which ports: a function of a few numbers.
//! Called by `dev`.

use serde::{Deserialize, Serialize};

/// What the user chose; kept in the directory, so that the next start needs no flags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Shape {
    /// Shards at the beginning.
    pub shards: u16,
    /// Standbys of each.
    pub replicas: u16,
    /// Coordinators.
    pub coordinators: u16,
    /// Containers of the query group, each with a router.
    pub query_nodes: u16,
    /// Containers without a group, for `shard add`.
    pub spares: u16,
    /// SQL port of the first router; the next has this + 2.
    pub sql_port: u16,
    /// Everything else is counted from here.
    pub base_port: u16,
    /// Failure zones that the members of each group are spread over; 0: none.
    #[serde(default)]
    pub zones: u16,
}

/// A coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinator {
    /// From 1.
    pub id: u16,
    /// gRPC port.
    pub port: u16,
    /// Health and metrics.
    pub http: u16,
}

/// Ports of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterPorts {
    /// SQL.
    pub sql: u16,
    /// Read-only SQL.
    pub read_only: u16,
    /// Health and metrics.
    pub http: u16,
}

/// A container: an agent with PostgreSQL and, on query nodes, a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// `query-1`, `data-1`, …
    pub name: String,
    /// Group it should be in at first; `None`: a spare.
    pub wish: Option<String>,
    /// `zone-1`, …; `None`: the cluster has none.
    pub zone: Option<String>,
    /// PostgreSQL.
    pub postgres: u16,
    /// Agent's health and metrics.
    pub http: u16,
    /// Query nodes only.
    pub router: Option<RouterPorts>,
}

/// Every part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Coordinators.
    pub coordinators: Vec<Coordinator>,
    /// Query nodes, members of shards, spares.
    pub containers: Vec<Container>,
}

/// Numbers that do not fit together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A number out of its range.
    #[error("{flag} {value} is out of range: {allowed}")]
    Range {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: u16,
        /// What may be given.
        allowed: &'static str,
    },
    /// Two parts on one port.
    #[error(
        "{first} and {second} would both have port {port}: choose --sql-port and --base-port further apart, or fewer parts"
    )]
    Collision {
        /// The port.
        port: u16,
        /// One part.
        first: String,
        /// The other.
        second: String,
    },
    /// A port above 65535.
    #[error(
        "a cluster of this size does not fit above --base-port {base_port} and --sql-port {sql_port}: choose lower ports"
    )]
    TooHigh {
        /// As given.
        base_port: u16,
        /// As given.
        sql_port: u16,
    },
}

impl Shape {
    /// All parts with their ports, no two alike.
    pub fn layout(&self) -> Result<Layout, LayoutError> {
        self.check_ranges()?;
        let too_high = LayoutError::TooHigh { base_port: self.base_port, sql_port: self.sql_port };
        let layout = self.assign().ok_or(too_high)?;
        let mut ports = layout.ports();
        ports.sort_unstable_by_key(|(port, _)| *port);
        match ports.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some([(port, first), (_, second)]) => {
                Err(LayoutError::Collision { port: *port, first: first.clone(), second: second.clone() })
            }
            _ => Ok(layout),
        }
    }

    fn check_ranges(&self) -> Result<(), LayoutError> {
        let checks = [
            ("--shards", self.shards, self.shards <= 64, "0 to 64 on one machine"),
            ("--replicas", self.replicas, self.replicas <= 4, "0 to 4"),
            ("--coordinators", self.coordinators, [1, 3, 5, 7].contains(&self.coordinators), "1, 3, 5 or 7"),
            ("--query-nodes", self.query_nodes, (1..=10).contains(&self.query_nodes), "1 to 10"),
            ("--spares", self.spares, self.spares <= 64, "0 to 64"),
            ("--zones", self.zones, self.zones <= 10, "0 to 10"),
            ("--sql-port", self.sql_port, self.sql_port >= 1024, "1024 to 65535"),
            ("--base-port", self.base_port, self.base_port >= 1024, "1024 to 65535"),
        ];
        let wrong = checks.into_iter().find(|(_, _, good, _)| !good);
        wrong.map_or(Ok(()), |(flag, value, _, allowed)| Err(LayoutError::Range { flag, value, allowed }))
    }

    /// `None`: a port above 65535.
    fn assign(&self) -> Option<Layout> {
        let port = |offset: u16| self.base_port.checked_add(offset);
        let coordinator = |index: u16| Some(Coordinator { id: index + 1, port: port(index)?, http: port(80 + index)? });
        let router = |index: u16| {
            let sql = self.sql_port.checked_add(2 * index)?;
            Some(RouterPorts { sql, read_only: sql.checked_add(1)?, http: port(90 + index)? })
        };
        let per_shard = self.replicas + 1;
        let data = self.shards * per_shard;
        let container = |index: u16| {
            // Its place in its group: so no zone gets two before every zone has one.
            let (name, wish, place, router) = if index < self.query_nodes {
                (format!("query-{}", index + 1), Some("query".to_owned()), index, Some(router(index)?))
            } else {
                let number = index - self.query_nodes;
                let wish = (number < data).then(|| format!("shard-{}", number / per_shard + 1));
                let place = if number < data { number % per_shard } else { number - data };
                (format!("data-{}", number + 1), wish, place, None)
            };
            let zone = (self.zones > 0).then(|| format!("zone-{}", place % self.zones + 1));
            Some(Container { name, wish, zone, postgres: port(100 + index)?, http: port(10 + index)?, router })
        };
        Some(Layout {
            coordinators: (0..self.coordinators).map(coordinator).collect::<Option<_>>()?,
            containers: (0..self.query_nodes + data + self.spares).map(container).collect::<Option<_>>()?,
        })
    }
}

impl Layout {
    /// Every port, and whose it is.
    pub fn ports(&self) -> Vec<(u16, String)> {
        let mut ports = Vec::new();
        for it in &self.coordinators {
            ports.push((it.port, format!("coordinator-{} (gRPC)", it.id)));
            ports.push((it.http, format!("coordinator-{} (HTTP)", it.id)));
        }
        for it in &self.containers {
            ports.push((it.postgres, format!("{} (PostgreSQL)", it.name)));
            ports.push((it.http, format!("{} (HTTP)", it.name)));
            if let Some(router) = it.router {
                ports.push((router.sql, format!("{} (SQL)", it.name)));
                ports.push((router.read_only, format!("{} (read-only SQL)", it.name)));
                ports.push((router.http, format!("{} (router's HTTP)", it.name)));
            }
        }
        ports
    }

    /// gRPC addresses of the coordinators.
    pub fn coordinator_urls(&self) -> Vec<String> {
        self.coordinators.iter().map(|it| format!("http://127.0.0.1:{}", it.port)).collect()
    }

    /// A connection string of all routers; `read_only` for their read-only ports.
    pub fn connection_string(&self, read_only: bool) -> String {
        let port = |router: RouterPorts| if read_only { router.read_only } else { router.sql };
        let hosts: Vec<_> =
            self.containers.iter().filter_map(|it| Some(format!("127.0.0.1:{}", port(it.router?)))).collect();
        format!("postgresql://howdah:howdah@{}/howdah", hosts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Shape = Shape {
        shards: 2,
        replicas: 1,
        coordinators: 3,
        query_nodes: 2,
        spares: 0,
        sql_port: 7432,
        base_port: 7400,
        zones: 0,
    };

    #[test]
    fn the_default_has_the_documented_ports() {
        let layout = DEFAULT.layout().expect("the default fits");
        assert_eq!(layout.coordinators[2], Coordinator { id: 3, port: 7402, http: 7482 });
        let names: Vec<_> = layout.containers.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["query-1", "query-2", "data-1", "data-2", "data-3", "data-4"]);
        assert_eq!(layout.containers[1].router, Some(RouterPorts { sql: 7434, read_only: 7435, http: 7491 }));
        assert_eq!(layout.containers[5].wish.as_deref(), Some("shard-2"));
        assert_eq!(layout.containers[5].postgres, 7505);
        let expected = "postgresql://howdah:howdah@127.0.0.1:7432,127.0.0.1:7434/howdah";
        assert_eq!(layout.connection_string(false), expected);
    }

    #[test]
    fn spares_wish_nothing() {
        let layout = Shape { spares: 1, ..DEFAULT }.layout().expect("it fits");
        assert_eq!(layout.containers[6].wish, None);
    }

    #[test]
    fn members_of_a_group_are_spread_over_zones() {
        let layout = Shape { zones: 2, spares: 2, ..DEFAULT }.layout().expect("it fits");
        let zones: Vec<_> = layout.containers.iter().map(|it| it.zone.as_deref().unwrap_or("none")).collect();
        assert_eq!(zones, ["zone-1", "zone-2", "zone-1", "zone-2", "zone-1", "zone-2", "zone-1", "zone-2"]);
        assert!(DEFAULT.layout().expect("it fits").containers.iter().all(|it| it.zone.is_none()));
    }

    #[test]
    fn parts_that_would_collide_are_named() {
        let error = Shape { spares: 20, ..DEFAULT }.layout().expect_err("7432 is an agent's and the router's");
        let text = error.to_string();
        assert!(text.contains("7432") && text.contains("query-1 (SQL)") && text.contains("data-21"), "{text}");
        assert!(matches!(Shape { base_port: 65_500, ..DEFAULT }.layout(), Err(LayoutError::TooHigh { .. })));
        assert!(matches!(Shape { coordinators: 2, ..DEFAULT }.layout(), Err(LayoutError::Range { .. })));
        assert!(matches!(Shape { query_nodes: 0, ..DEFAULT }.layout(), Err(LayoutError::Range { .. })));
    }
}
