//! Routers' messages: reports in, topology out. Called by the router's topology watch and by the
//! coordinator's topology service.

use super::{InvalidMessage, invalid, list, name, pb::topology as pb, port, required};
use crate::model::{
    group::GroupKind,
    ids::{ColocationId, GroupId},
    map::Colocation,
    numbers::{Epoch, Millis, Revision, Timeline},
    observed::{RouterAddress, RouterReport},
    topology::{Access, Endpoint, GroupView, Topology},
};

impl From<RouterReport> for pb::RouterReport {
    fn from(it: RouterReport) -> Self {
        let open = |(group, count): (GroupId, u32)| pb::OpenTransactions { group: group.into(), count };
        Self {
            router: it.router.into(),
            host: it.host,
            port: it.port.into(),
            read_only_port: it.read_only_port.into(),
            topology: it.topology.0,
            sessions: it.sessions,
            open_transactions: it.open_transactions.into_iter().map(open).collect(),
            pid: it.pid,
        }
    }
}

impl TryFrom<pb::RouterReport> for RouterReport {
    type Error = InvalidMessage;

    fn try_from(it: pb::RouterReport) -> Result<Self, InvalidMessage> {
        let open = |open: pb::OpenTransactions| Ok((name(&open.group, "OpenTransactions.group")?, open.count));
        Ok(Self {
            router: name(&it.router, "RouterReport.router")?,
            host: it.host,
            port: port(it.port, "RouterReport.port")?,
            read_only_port: port(it.read_only_port, "RouterReport.read_only_port")?,
            topology: Revision(it.topology),
            sessions: it.sessions,
            open_transactions: it.open_transactions.into_iter().map(open).collect::<Result<_, _>>()?,
            pid: it.pid,
        })
    }
}

impl From<RouterAddress> for pb::RouterAddress {
    fn from(it: RouterAddress) -> Self {
        Self { router: it.router.into(), host: it.host, port: it.port.into() }
    }
}

impl TryFrom<pb::RouterAddress> for RouterAddress {
    type Error = InvalidMessage;

    fn try_from(it: pb::RouterAddress) -> Result<Self, InvalidMessage> {
        let router = name(&it.router, "RouterAddress.router")?;
        Ok(Self { router, host: it.host, port: port(it.port, "RouterAddress.port")? })
    }
}

impl From<Endpoint> for pb::Endpoint {
    fn from(it: Endpoint) -> Self {
        Self { member: it.member.into(), host: it.host, port: it.port.into() }
    }
}

impl TryFrom<pb::Endpoint> for Endpoint {
    type Error = InvalidMessage;

    fn try_from(it: pb::Endpoint) -> Result<Self, InvalidMessage> {
        let member = name(&it.member, "Endpoint.member")?;
        Ok(Self { member, host: it.host, port: port(it.port, "Endpoint.port")? })
    }
}

impl From<Access> for pb::group_view::Access {
    fn from(it: Access) -> Self {
        match it {
            Access::Open { primary } => Self::Open(primary.into()),
            Access::Draining { primary } => Self::Draining(primary.into()),
            Access::Held => Self::Held(pb::Held {}),
        }
    }
}

impl TryFrom<pb::group_view::Access> for Access {
    type Error = InvalidMessage;

    fn try_from(it: pb::group_view::Access) -> Result<Self, InvalidMessage> {
        Ok(match it {
            pb::group_view::Access::Open(primary) => Self::Open { primary: primary.try_into()? },
            pb::group_view::Access::Draining(primary) => Self::Draining { primary: primary.try_into()? },
            pb::group_view::Access::Held(pb::Held {}) => Self::Held,
        })
    }
}

impl From<GroupView> for pb::GroupView {
    fn from(it: GroupView) -> Self {
        let kind = match it.kind {
            GroupKind::Query => "query",
            GroupKind::Shard => "shard",
        };
        Self {
            id: it.id.into(),
            kind: kind.to_owned(),
            epoch: it.epoch.0,
            timeline: it.timeline.0,
            access: Some(it.access.into()),
            standbys: it.standbys.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::GroupView> for GroupView {
    type Error = InvalidMessage;

    fn try_from(it: pb::GroupView) -> Result<Self, InvalidMessage> {
        Ok(Self {
            id: name(&it.id, "GroupView.id")?,
            kind: match it.kind.as_str() {
                "query" => GroupKind::Query,
                "shard" => GroupKind::Shard,
                other => return Err(invalid("GroupView.kind", format!("{other:?} is no kind of group"))),
            },
            epoch: Epoch(it.epoch),
            timeline: Timeline(it.timeline),
            access: required(it.access, "GroupView.access")?.try_into()?,
            standbys: list(it.standbys)?,
        })
    }
}

impl From<Colocation> for pb::Colocation {
    fn from(it: Colocation) -> Self {
        let buckets = it.buckets.into_iter().map(Into::into).collect();
        Self { id: it.id.0, key_type: it.key_type, buckets }
    }
}

impl TryFrom<pb::Colocation> for Colocation {
    type Error = InvalidMessage;

    fn try_from(it: pb::Colocation) -> Result<Self, InvalidMessage> {
        let buckets = it.buckets.iter().map(|group| name(group, "Colocation.buckets")).collect::<Result<_, _>>()?;
        Ok(Self { id: ColocationId(it.id), key_type: it.key_type, buckets })
    }
}

impl From<Topology> for pb::Topology {
    fn from(it: Topology) -> Self {
        Self {
            revision: it.revision.0,
            cluster: it.cluster.into(),
            groups: it.groups.into_values().map(Into::into).collect(),
            colocations: it.colocations.into_values().map(Into::into).collect(),
            failover_wait_ms: it.failover_wait.0,
            database: it.database,
            bucket_count: it.bucket_count,
            // Not of the replicated picture: whoever sends the message adds them.
            routers: Vec::new(),
            coordinators: Vec::new(),
        }
    }
}

impl TryFrom<pb::Topology> for Topology {
    type Error = InvalidMessage;

    fn try_from(it: pb::Topology) -> Result<Self, InvalidMessage> {
        let groups: Vec<GroupView> = list(it.groups)?;
        let colocations: Vec<Colocation> = list(it.colocations)?;
        Ok(Self {
            revision: Revision(it.revision),
            cluster: name(&it.cluster, "Topology.cluster")?,
            groups: groups.into_iter().map(|group| (group.id.clone(), group)).collect(),
            colocations: colocations.into_iter().map(|colocation| (colocation.id, colocation)).collect(),
            failover_wait: Millis(it.failover_wait_ms),
            database: it.database,
            bucket_count: it.bucket_count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topology_and_router_report_come_back() {
        let endpoint =
            |member: &str| Endpoint { member: member.parse().expect("a name"), host: "h".into(), port: 5432 };
        let view = |id: &str, access| GroupView {
            id: id.parse().expect("a name"),
            kind: if id == "query" { GroupKind::Query } else { GroupKind::Shard },
            epoch: Epoch(4),
            timeline: Timeline(6),
            access,
            standbys: vec![endpoint("s")],
        };
        let groups = [
            view("query", Access::Open { primary: endpoint("p") }),
            view("shard-1", Access::Draining { primary: endpoint("p") }),
            view("shard-2", Access::Held),
        ];
        let colocation = Colocation {
            id: ColocationId(1),
            key_type: "bigint".into(),
            buckets: vec!["shard-1".parse().expect("a name")],
        };
        let topology = Topology {
            revision: Revision(9),
            cluster: "demo".parse().expect("a name"),
            groups: groups.into_iter().map(|group| (group.id.clone(), group)).collect(),
            colocations: [(colocation.id, colocation)].into(),
            failover_wait: Millis(15_000),
            database: "howdah".into(),
            bucket_count: 32,
        };
        assert_eq!(Topology::try_from(pb::Topology::from(topology.clone())), Ok(topology));
        let report = RouterReport {
            router: "query-1".parse().expect("a name"),
            host: "h".into(),
            port: 7432,
            read_only_port: 0,
            topology: Revision(9),
            sessions: 2,
            open_transactions: vec![("shard-1".parse().expect("a name"), 3)],
            pid: 8,
        };
        assert_eq!(RouterReport::try_from(pb::RouterReport::from(report.clone())), Ok(report));
        let mut wrong = pb::GroupView::from(view("query", Access::Held));
        wrong.kind = "x".into();
        assert_eq!(GroupView::try_from(wrong).map_err(|error| error.field), Err("GroupView.kind"));
    }
}
