//! What admin clients see: status, events, operations. The messages mirror `model::status` field by
//! field, so one macro writes both directions. Called by the coordinator's admin service and by the
//! command line.

use super::{InvalidMessage, list, name, pb::admin as pb, port, required};
use crate::model::{
    ids::ColocationId,
    map::Colocation,
    status::{
        CoordinatorStatus, Event, GroupStatus, MapStatus, MemberStatus, OperationStatus, RouterStatus, Status,
        TableStatus,
    },
};

/// Both directions for a message that mirrors a model type: fields that are the same, ports, lists of
/// messages, and messages that must be there.
macro_rules! mirror {
    ($wire:ident, $model:ident {
        same: [$($same:ident),*]
        $(, ports: [$($port:ident),*])?
        $(, lists: [$($list:ident),*])?
        $(, messages: [$($message:ident),*])?
    }) => {
        impl From<$model> for pb::$wire {
            fn from(it: $model) -> Self {
                Self {
                    $($same: it.$same,)*
                    $($($port: it.$port.into(),)*)?
                    $($($list: it.$list.into_iter().map(Into::into).collect(),)*)?
                    $($($message: Some(it.$message.into()),)*)?
                }
            }
        }

        impl TryFrom<pb::$wire> for $model {
            type Error = InvalidMessage;

            fn try_from(it: pb::$wire) -> Result<Self, InvalidMessage> {
                Ok(Self {
                    $($same: it.$same,)*
                    $($($port: port(it.$port, concat!(stringify!($wire), ".", stringify!($port)))?,)*)?
                    $($($list: list(it.$list)?,)*)?
                    $($($message: required(it.$message, concat!(stringify!($wire), ".", stringify!($message)))?
                        .try_into()?,)*)?
                })
            }
        }
    };
}

mirror!(Event, Event { same: [revision, time_ms, group, kind, message] });
mirror!(Operation, OperationStatus { same: [id, kind, target, state, message] });
mirror!(CoordinatorStatus, CoordinatorStatus { same: [id, address, role, term, healthy, pid] });
mirror!(
    MemberStatus,
    MemberStatus {
        same: [
            id,
            address,
            role,
            state,
            healthy,
            epoch,
            timeline,
            lsn,
            lag_bytes,
            synchronous,
            pid,
            postmaster_pid,
            data_dir,
            note,
            group
        ],
        ports: [port]
    }
);
mirror!(
    GroupStatus,
    GroupStatus { same: [id, kind, epoch, phase, primary, cohort, acks, reason, paused, replicas], lists: [members] }
);
mirror!(RouterStatus, RouterStatus { same: [id, address, map_version, healthy, pid], ports: [port, read_only_port] });
mirror!(MapStatus, MapStatus { same: [version], lists: [colocation_groups] });
mirror!(
    TableStatus,
    TableStatus { same: [database, schema, name, kind, distribution_column, colocation_id, bucket_count, shards] }
);
mirror!(
    Status,
    Status {
        same: [cluster, warnings],
        lists: [coordinators, groups, idle, routers, tables, operations],
        messages: [map]
    }
);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_comes_back() {
        let member: MemberStatus = serde_json::from_value(serde_json::json!({
            "id": "m-1", "address": "h", "port": 5432, "role": "primary", "state": "reigning", "healthy": true,
            "epoch": 3, "timeline": 4, "lsn": "0/1", "lag_bytes": 5, "synchronous": false, "pid": 6,
            "postmaster_pid": 7, "data_dir": "/d", "note": "", "group": ""
        }))
        .expect("a member");
        let status = Status {
            cluster: "demo".into(),
            coordinators: Vec::new(),
            groups: Vec::new(),
            idle: vec![member],
            routers: Vec::new(),
            map: MapStatus {
                version: 2,
                colocation_groups: vec![Colocation {
                    id: ColocationId(1),
                    key_type: "bigint".into(),
                    buckets: vec!["shard-1".parse().expect("a name")],
                }],
            },
            tables: Vec::new(),
            operations: Vec::new(),
            warnings: vec!["one".into()],
        };
        let mut wire = pb::Status::from(status.clone());
        assert_eq!(Status::try_from(wire.clone()), Ok(status));
        wire.map = None;
        assert_eq!(Status::try_from(wire).map_err(|error| error.field), Err("Status.map"));
    }
}
