//! `howdah status`: what is decided and seen, put together for people. Called by the admin service
//! on the leader. `report/warnings.rs` says what is wrong and what to do.

mod warnings;

use super::{
    candidate,
    command::OperationKind,
    members,
    observed::{Link, Observed, RouterSeen},
    operations::Operation,
    placement,
    planner::World,
    state::State,
};
use crate::model::{
    group::{Container, Group, GroupKind, Phase},
    numbers::{Lsn, Millis},
    observed::{PostgresSeen, Report, TableSeen},
    status::{
        CoordinatorStatus, GroupStatus, MapStatus, MemberStatus, OperationStatus, RouterStatus, Status, TableStatus,
    },
};

/// Routers report several times a second; one silent this long is shown as lost.
const ROUTER_LOST: Millis = Millis(2_000);

/// The whole cluster. `coordinators` is what the driver knows of its peers.
pub fn status(state: &State, observed: &Observed, now: Millis, coordinators: Vec<CoordinatorStatus>) -> Status {
    let world = &World { state, observed, now, time_ms: 0, in_flight: false };
    let colocation_groups = state.colocations.values().cloned().collect();
    let mut warnings = warnings::warnings(world);
    warnings.extend(coordinators.iter().filter(|coordinator| !coordinator.healthy).map(|it| {
        let (id, address) = (it.id, &it.address);
        if it.role == "expected" {
            return format!("coordinator {id} is expected at {address}: start it with `howdah coordinator --join`");
        }
        format!(
            "coordinator {id} at {address} is lost: bring it back, or, where its disk is lost, run \
             `howdah coordinator-member replace {id}`"
        )
    }));
    Status {
        cluster: state.cluster.as_ref().map(ToString::to_string).unwrap_or_default(),
        coordinators,
        groups: state.groups.values().map(|group| group_status(world, group)).collect(),
        idle: state.idle().map(|container| member_status(world, container, None)).collect(),
        routers: observed.routers.values().map(|seen| router_status(seen, now)).collect(),
        map: MapStatus { version: state.topology_revision.0, colocation_groups },
        tables: tables(world),
        operations: operations(state, observed, now),
        warnings,
    }
}

/// Operations, oldest first, each with where it is.
pub fn operations(state: &State, observed: &Observed, now: Millis) -> Vec<OperationStatus> {
    let world = &World { state, observed, now, time_ms: 0, in_flight: false };
    state.operations.iter().map(|operation| operation.status(&progress(world, operation))).collect()
}

/// Where a running operation is.
fn progress(world: &World<'_>, operation: &Operation) -> String {
    let Some(group) = world.state.groups.get(&operation.target) else {
        let OperationKind::AddShard { replicas } = operation.kind else {
            return world.observed.waits.get(&operation.id).cloned().unwrap_or_else(|| "under way".to_owned());
        };
        let idle = placement::free(world).filter(|container| container.kind == GroupKind::Shard).count();
        return format!("waiting for {} idle shard containers: {idle} there, start more", replicas + 1);
    };
    let why = candidate::waits_for(world, group).or_else(|| members::waits_for(world, group));
    let why = why.unwrap_or_else(|| group.reason.clone());
    format!("{} is {}: {why}", group.id, group.phase.name())
}

fn group_status(world: &World<'_>, group: &Group) -> GroupStatus {
    let cohort = match &group.phase {
        Phase::Promoting { next } => Some(&next.recorded),
        _ => group.reign.as_ref().map(|reign| &reign.recorded),
    };
    GroupStatus {
        id: group.id.to_string(),
        kind: placement::kind_name(group.kind).to_owned(),
        epoch: group.epoch.0,
        phase: group.phase.name().to_owned(),
        primary: group.primary().map(ToString::to_string),
        cohort: cohort.iter().flat_map(|cohort| &cohort.standbys).map(ToString::to_string).collect(),
        acks: cohort.map_or(0, |cohort| cohort.acks),
        reason: candidate::waits_for(world, group)
            .map_or_else(|| group.reason.clone(), |why| format!("{}; waiting: {why}", group.reason)),
        paused: group.paused,
        replicas: u32::try_from(group.wanted_standbys()).unwrap_or(u32::MAX),
        members: group.members.values().map(|container| member_status(world, container, Some(group))).collect(),
    }
}

fn member_status(world: &World<'_>, container: &Container, group: Option<&Group>) -> MemberStatus {
    let id = &container.id;
    let reachable = world.reachable(id);
    let report = world.observed.report(id);
    let role = match group.map(|group| group.primary() == Some(id)) {
        None => "idle",
        Some(true) => "primary",
        Some(false) => "standby",
    };
    let position = report.and_then(Report::position);
    let end = group.and_then(Group::primary).and_then(|id| world.observed.report(id)).and_then(Report::position);
    let lag = position.zip(end).map(|(own, end)| end.lsn.0.saturating_sub(own.lsn.0));
    let cohort = group.and_then(|group| group.reign.as_ref()).map(|reign| &reign.recorded);
    MemberStatus {
        id: id.to_string(),
        address: container.host.clone(),
        port: container.port,
        role: role.to_owned(),
        state: report.filter(|_| reachable).map_or_else(|| "lost".to_owned(), |report| report.state.clone()),
        healthy: reachable && report.is_some_and(|report| report.healthy && does_its_part(report, role)),
        epoch: report.map_or(0, |report| report.promise.0),
        timeline: position.map_or(0, |position| position.timeline.0),
        lsn: position.map_or(Lsn(0), |position| position.lsn).to_string(),
        lag_bytes: lag,
        synchronous: cohort.is_some_and(|cohort| cohort.acks > 0 && cohort.standbys.contains(id)),
        pid: report.map(|report| report.pid),
        postmaster_pid: report.and_then(|report| report.postmaster_pid),
        data_dir: report.map_or_else(String::new, |report| report.data_dir.clone()),
        group: group.map(|group| group.id.to_string()).unwrap_or_default(),
        note: if reachable {
            report.map_or_else(String::new, |report| report.note.clone())
        } else {
            format!("nothing heard for {} ms", world.observed.silence(id, world.now))
        },
    }
}

fn does_its_part(report: &Report, role: &str) -> bool {
    match &report.postgres {
        PostgresSeen::Primary { .. } => role == "primary",
        PostgresSeen::Standby { streaming, .. } => role == "standby" && *streaming,
        PostgresSeen::Down { .. } | PostgresSeen::Starting => role == "idle",
    }
}

fn router_status(seen: &RouterSeen, now: Millis) -> RouterStatus {
    let report = &seen.report;
    RouterStatus {
        id: report.router.to_string(),
        address: report.host.clone(),
        port: report.port,
        read_only_port: report.read_only_port,
        map_version: report.topology.0,
        healthy: seen.link == Link::Up && now.since(seen.heard) <= ROUTER_LOST,
        pid: Some(report.pid),
    }
}

/// Tables as the query group's primary last reported them.
fn tables(world: &World<'_>) -> Vec<TableStatus> {
    let query = world.state.groups.values().find(|group| group.kind == GroupKind::Query);
    let report = query.and_then(Group::primary).and_then(|id| world.observed.report(id));
    let Some(PostgresSeen::Primary { tables, .. }) = report.map(|report| &report.postgres) else { return Vec::new() };
    tables.iter().map(|table| table_status(world.state, table)).collect()
}

fn table_status(state: &State, table: &TableSeen) -> TableStatus {
    let colocation = state.colocations.values().find(|colocation| colocation.id.0 == table.colocation);
    let (buckets, shards) = match colocation {
        Some(colocation) => (colocation.buckets.len(), colocation.shards()),
        None => (1, state.serving_shards()),
    };
    TableStatus {
        database: table.database.clone(),
        schema: table.schema.clone(),
        name: table.name.clone(),
        kind: table.kind.clone(),
        distribution_column: table.key.clone(),
        colocation_id: table.colocation,
        bucket_count: u32::try_from(buckets).unwrap_or(u32::MAX),
        shards: shards.into_iter().map(ToString::to_string).collect(),
    }
}

/// What a group that does not exist yet waits for.
fn forming(world: &World<'_>) -> Vec<String> {
    let waiting = |kind| placement::free(world).filter(|container| container.kind == kind).count();
    let wanted = placement::wanted(world).into_iter();
    wanted
        .map(|(id, kind, size)| {
            let name = placement::kind_name(kind);
            format!("{id} waits for {size} idle {name} containers: {} there, start more", waiting(kind))
        })
        .collect()
}
