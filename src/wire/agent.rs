//! Agents' messages: registrations and reports in, goals out. Called by the agent's coordinator
//! client and by the coordinator's agent service.

use super::{InvalidMessage, invalid, list, name, nonzero, optional_name, pb::agent as pb, port, required};
use crate::model::{
    goal::{Goal, GoalSettings, Order},
    group::{Cohort, Container, GroupKind, HIGHEST_PRIORITY, USUAL_PRIORITY},
    numbers::{Epoch, Lsn, Millis, Position, Revision, Timeline},
    observed::{DataState, PostgresSeen, Recruited, Registration, Report, StandbySeen, TableSeen},
    policy::Reads,
};

/// What an agent says.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentSays {
    /// Who it is: the first message of a stream, and only the first.
    Registration(Registration),
    /// How it is.
    Report(Report),
}

/// What a coordinator answers.
#[derive(Debug, Clone, PartialEq)]
pub enum CoordinatorSays {
    /// Be this.
    Goal(Box<Goal>),
    /// You have no orders: keep still.
    Idle {
        /// The revision at which it last left a group (0: never), where it belongs to none; `None`: its group
        /// has no orders for it yet.
        free_since: Option<Revision>,
    },
    /// Ask this URL instead; `None`: there is no leader at the moment.
    NotLeader(Option<String>),
    /// Nothing new.
    Alive,
}

impl From<AgentSays> for pb::AgentMessage {
    fn from(it: AgentSays) -> Self {
        use pb::agent_message::Message;
        Self {
            message: Some(match it {
                AgentSays::Registration(registration) => Message::Registration(registration.into()),
                AgentSays::Report(report) => Message::Report(report.into()),
            }),
        }
    }
}

impl TryFrom<pb::AgentMessage> for AgentSays {
    type Error = InvalidMessage;

    fn try_from(it: pb::AgentMessage) -> Result<Self, InvalidMessage> {
        use pb::agent_message::Message;
        Ok(match required(it.message, "AgentMessage.message")? {
            Message::Registration(registration) => Self::Registration(registration.try_into()?),
            Message::Report(report) => Self::Report(report.try_into()?),
        })
    }
}

impl From<CoordinatorSays> for pb::CoordinatorMessage {
    fn from(it: CoordinatorSays) -> Self {
        use pb::coordinator_message::Message;
        Self {
            message: Some(match it {
                CoordinatorSays::Goal(goal) => Message::Goal((*goal).into()),
                CoordinatorSays::Idle { free_since } => Message::Idle(pb::Idle {
                    free: free_since.is_some(),
                    free_since: free_since.map_or(0, |since| since.0),
                }),
                CoordinatorSays::NotLeader(leader) => {
                    Message::NotLeader(pb::NotLeader { leader: leader.unwrap_or_default() })
                }
                CoordinatorSays::Alive => Message::Alive(pb::Alive {}),
            }),
            // Not part of what is said: whoever sends it adds them.
            coordinators: Vec::new(),
        }
    }
}

impl TryFrom<pb::CoordinatorMessage> for CoordinatorSays {
    type Error = InvalidMessage;

    fn try_from(it: pb::CoordinatorMessage) -> Result<Self, InvalidMessage> {
        use pb::coordinator_message::Message;
        Ok(match required(it.message, "CoordinatorMessage.message")? {
            Message::Goal(goal) => Self::Goal(Box::new(goal.try_into()?)),
            Message::Idle(it) => Self::Idle { free_since: it.free.then_some(Revision(it.free_since)) },
            Message::NotLeader(it) => Self::NotLeader(nonzero(it.leader)),
            Message::Alive(pb::Alive {}) => Self::Alive,
        })
    }
}

impl From<GroupKind> for pb::GroupKind {
    fn from(it: GroupKind) -> Self {
        match it {
            GroupKind::Query => Self::Query,
            GroupKind::Shard => Self::Shard,
        }
    }
}

fn group_kind(number: i32, field: &'static str) -> Result<GroupKind, InvalidMessage> {
    match pb::GroupKind::try_from(number) {
        Ok(pb::GroupKind::Query) => Ok(GroupKind::Query),
        Ok(pb::GroupKind::Shard) => Ok(GroupKind::Shard),
        Ok(pb::GroupKind::Unspecified) | Err(_) => Err(invalid(field, format!("{number} is no kind of group"))),
    }
}

impl From<Container> for pb::Container {
    fn from(it: Container) -> Self {
        Self {
            id: it.id.into(),
            host: it.host,
            port: it.port.into(),
            kind: pb::GroupKind::from(it.kind).into(),
            zone: it.zone,
            wish: it.wish.map(Into::into).unwrap_or_default(),
            priority: Some(it.priority),
            birth: it.birth,
        }
    }
}

impl TryFrom<pb::Container> for Container {
    type Error = InvalidMessage;

    fn try_from(it: pb::Container) -> Result<Self, InvalidMessage> {
        if it.host.is_empty() || it.host.contains(|c: char| c.is_whitespace() || c == '\'') {
            return Err(invalid("Container.host", format!("{:?} is not a host name or IP address", it.host)));
        }
        let priority = it.priority.unwrap_or(USUAL_PRIORITY);
        if priority > HIGHEST_PRIORITY {
            return Err(invalid("Container.priority", format!("{priority} is not 0 to {HIGHEST_PRIORITY}")));
        }
        let number = nonzero(it.port).ok_or_else(|| invalid("Container.port", "is 0"))?;
        Ok(Self {
            id: name(&it.id, "Container.id")?,
            host: it.host,
            port: port(number, "Container.port")?,
            kind: group_kind(it.kind, "Container.kind")?,
            zone: it.zone,
            wish: optional_name(&it.wish, "Container.wish")?,
            priority,
            birth: it.birth,
        })
    }
}

impl From<Registration> for pb::Registration {
    fn from(it: Registration) -> Self {
        Self { cluster: it.cluster.into(), container: Some(it.container.into()), incarnation: it.incarnation }
    }
}

impl TryFrom<pb::Registration> for Registration {
    type Error = InvalidMessage;

    fn try_from(it: pb::Registration) -> Result<Self, InvalidMessage> {
        Ok(Self {
            cluster: name(&it.cluster, "Registration.cluster")?,
            container: required(it.container, "Registration.container")?.try_into()?,
            incarnation: it.incarnation,
        })
    }
}

impl From<Position> for pb::Position {
    fn from(it: Position) -> Self {
        Self { timeline: it.timeline.0, lsn: it.lsn.0 }
    }
}

fn position(it: Option<pb::Position>, field: &'static str) -> Result<Position, InvalidMessage> {
    let it = required(it, field)?;
    Ok(Position { timeline: Timeline(it.timeline), lsn: Lsn(it.lsn) })
}

impl From<Cohort> for pb::Cohort {
    fn from(it: Cohort) -> Self {
        let standbys = it.standbys.into_iter().map(Into::into).collect();
        Self { standbys, acks: it.acks, ordered_at: it.ordered_at.0 }
    }
}

impl TryFrom<pb::Cohort> for Cohort {
    type Error = InvalidMessage;

    fn try_from(it: pb::Cohort) -> Result<Self, InvalidMessage> {
        let standbys = it.standbys.iter().map(|member| name(member, "Cohort.standbys")).collect::<Result<_, _>>()?;
        Ok(Self { standbys, acks: it.acks, ordered_at: Revision(it.ordered_at) })
    }
}

impl From<GoalSettings> for pb::GoalSettings {
    fn from(it: GoalSettings) -> Self {
        Self {
            database: it.database,
            owner: it.owner,
            heartbeat_ms: it.heartbeat.0,
            isolation_timeout_ms: it.isolation_timeout.0,
            slot_wal_keep_mb: it.slot_wal_keep_mb,
            strict_reads: it.reads == Reads::Strict,
        }
    }
}

impl From<pb::GoalSettings> for GoalSettings {
    fn from(it: pb::GoalSettings) -> Self {
        Self {
            database: it.database,
            owner: it.owner,
            heartbeat: Millis(it.heartbeat_ms),
            isolation_timeout: Millis(it.isolation_timeout_ms),
            reads: if it.strict_reads { Reads::Strict } else { Reads::Available },
            slot_wal_keep_mb: it.slot_wal_keep_mb,
        }
    }
}

impl From<Order> for pb::goal::Order {
    fn from(it: Order) -> Self {
        match it {
            Order::Found => Self::Found(pb::Found {}),
            Order::Recruit => Self::Recruit(pb::Recruit {}),
            Order::Reign { timeline, cohort } => {
                Self::Reign(pb::Reign { timeline: timeline.0, cohort: Some(cohort.into()) })
            }
            Order::Follow { primary, timeline, serving } => {
                Self::Follow(pb::Follow { primary: primary.into(), timeline: timeline.0, serving })
            }
            Order::StandDown => Self::StandDown(pb::StandDown {}),
        }
    }
}

impl TryFrom<pb::goal::Order> for Order {
    type Error = InvalidMessage;

    fn try_from(it: pb::goal::Order) -> Result<Self, InvalidMessage> {
        use pb::goal::Order as Wire;
        Ok(match it {
            Wire::Found(pb::Found {}) => Self::Found,
            Wire::Recruit(pb::Recruit {}) => Self::Recruit,
            Wire::Reign(it) => Self::Reign {
                timeline: Timeline(it.timeline),
                cohort: required(it.cohort, "Reign.cohort")?.try_into()?,
            },
            Wire::Follow(it) => Self::Follow {
                primary: name(&it.primary, "Follow.primary")?,
                timeline: Timeline(it.timeline),
                serving: it.serving,
            },
            Wire::StandDown(pb::StandDown {}) => Self::StandDown,
        })
    }
}

impl From<Goal> for pb::Goal {
    fn from(it: Goal) -> Self {
        Self {
            cluster: it.cluster.into(),
            group: it.group.into(),
            kind: pb::GroupKind::from(it.kind).into(),
            epoch: it.epoch.0,
            revision: it.revision.0,
            members: it.members.into_iter().map(Into::into).collect(),
            system_identifier: it.system_identifier.unwrap_or_default(),
            settings: Some(it.settings.into()),
            joined: it.joined.0,
            order: Some(it.order.into()),
        }
    }
}

impl TryFrom<pb::Goal> for Goal {
    type Error = InvalidMessage;

    fn try_from(it: pb::Goal) -> Result<Self, InvalidMessage> {
        Ok(Self {
            cluster: name(&it.cluster, "Goal.cluster")?,
            group: name(&it.group, "Goal.group")?,
            kind: group_kind(it.kind, "Goal.kind")?,
            epoch: Epoch(it.epoch),
            revision: Revision(it.revision),
            joined: Revision(it.joined),
            order: required(it.order, "Goal.order")?.try_into()?,
            members: list(it.members)?,
            system_identifier: nonzero(it.system_identifier),
            settings: required(it.settings, "Goal.settings")?.into(),
        })
    }
}

impl From<DataState> for pb::report::Data {
    fn from(it: DataState) -> Self {
        match it {
            DataState::Empty => Self::Empty(pb::DataEmpty {}),
            DataState::Ready { system_identifier } => Self::Ready(pb::DataReady { system_identifier }),
            DataState::Unfinished => Self::Unfinished(pb::DataUnfinished {}),
        }
    }
}

impl From<pb::report::Data> for DataState {
    fn from(it: pb::report::Data) -> Self {
        match it {
            pb::report::Data::Empty(pb::DataEmpty {}) => Self::Empty,
            pb::report::Data::Ready(it) => Self::Ready { system_identifier: it.system_identifier },
            pb::report::Data::Unfinished(pb::DataUnfinished {}) => Self::Unfinished,
        }
    }
}

impl From<PostgresSeen> for pb::report::Postgres {
    fn from(it: PostgresSeen) -> Self {
        match it {
            PostgresSeen::Down { crashed } => Self::Down(pb::Down { crashed }),
            PostgresSeen::Starting => Self::Starting(pb::Starting {}),
            PostgresSeen::Standby { position, replayed, streaming, upstream } => Self::Standby(pb::Standby {
                position: Some(position.into()),
                replayed: replayed.0,
                streaming,
                upstream: upstream.map(Into::into).unwrap_or_default(),
            }),
            PostgresSeen::Primary { position, epoch, applied, standbys, tables } => Self::Primary(pb::Primary {
                position: Some(position.into()),
                epoch: epoch.0,
                applied: Some(applied.into()),
                standbys: standbys.into_iter().map(Into::into).collect(),
                tables: tables.into_iter().map(Into::into).collect(),
            }),
        }
    }
}

impl TryFrom<pb::report::Postgres> for PostgresSeen {
    type Error = InvalidMessage;

    fn try_from(it: pb::report::Postgres) -> Result<Self, InvalidMessage> {
        use pb::report::Postgres as Wire;
        Ok(match it {
            Wire::Down(pb::Down { crashed }) => Self::Down { crashed },
            Wire::Starting(pb::Starting {}) => Self::Starting,
            Wire::Standby(it) => Self::Standby {
                position: position(it.position, "Standby.position")?,
                replayed: Lsn(it.replayed),
                streaming: it.streaming,
                upstream: optional_name(&it.upstream, "Standby.upstream")?,
            },
            Wire::Primary(it) => Self::Primary {
                position: position(it.position, "Primary.position")?,
                epoch: Epoch(it.epoch),
                applied: required(it.applied, "Primary.applied")?.try_into()?,
                standbys: list(it.standbys)?,
                tables: it.tables.into_iter().map(Into::into).collect(),
            },
        })
    }
}

impl From<StandbySeen> for pb::StandbySeen {
    fn from(it: StandbySeen) -> Self {
        Self { member: it.member.into(), streaming: it.streaming, flushed: it.flushed.0, synchronous: it.synchronous }
    }
}

impl TryFrom<pb::StandbySeen> for StandbySeen {
    type Error = InvalidMessage;

    fn try_from(it: pb::StandbySeen) -> Result<Self, InvalidMessage> {
        let member = name(&it.member, "StandbySeen.member")?;
        Ok(Self { member, streaming: it.streaming, flushed: Lsn(it.flushed), synchronous: it.synchronous })
    }
}

impl From<TableSeen> for pb::TableSeen {
    fn from(it: TableSeen) -> Self {
        let TableSeen { database, schema, name, kind, key, colocation } = it;
        Self { database, schema, name, kind, key, colocation }
    }
}

impl From<pb::TableSeen> for TableSeen {
    fn from(it: pb::TableSeen) -> Self {
        let pb::TableSeen { database, schema, name, kind, key, colocation } = it;
        Self { database, schema, name, kind, key, colocation }
    }
}

impl From<Recruited> for pb::Recruited {
    fn from(it: Recruited) -> Self {
        Self { epoch: it.epoch.0, position: Some(it.position.into()), live_primary: it.live_primary }
    }
}

impl TryFrom<pb::Recruited> for Recruited {
    type Error = InvalidMessage;

    fn try_from(it: pb::Recruited) -> Result<Self, InvalidMessage> {
        let position = position(it.position, "Recruited.position")?;
        Ok(Self { epoch: Epoch(it.epoch), position, live_primary: it.live_primary })
    }
}

impl From<Report> for pb::Report {
    fn from(it: Report) -> Self {
        Self {
            member: it.member.into(),
            incarnation: it.incarnation,
            sequence: it.sequence,
            promise: it.promise.0,
            goal_revision: it.goal_revision.0,
            data: Some(it.data.into()),
            postgres: Some(it.postgres.into()),
            recruited: it.recruited.map(Into::into),
            state: it.state,
            healthy: it.healthy,
            note: it.note,
            pid: it.pid,
            postmaster_pid: it.postmaster_pid.unwrap_or_default(),
            router_pid: it.router_pid.unwrap_or_default(),
            data_dir: it.data_dir,
        }
    }
}

impl TryFrom<pb::Report> for Report {
    type Error = InvalidMessage;

    fn try_from(it: pb::Report) -> Result<Self, InvalidMessage> {
        Ok(Self {
            member: name(&it.member, "Report.member")?,
            incarnation: it.incarnation,
            sequence: it.sequence,
            promise: Epoch(it.promise),
            goal_revision: Revision(it.goal_revision),
            data: required(it.data, "Report.data")?.into(),
            postgres: required(it.postgres, "Report.postgres")?.try_into()?,
            recruited: it.recruited.map(TryInto::try_into).transpose()?,
            state: it.state,
            healthy: it.healthy,
            note: it.note,
            pid: it.pid,
            postmaster_pid: nonzero(it.postmaster_pid),
            router_pid: nonzero(it.router_pid),
            data_dir: it.data_dir,
        })
    }
}

#[cfg(test)]
mod tests;
