//! What an agent tells its coordinator, made from what it knows. Called by the runner.

use crate::model::{
    goal::Order,
    numbers::Lsn,
    observed::{DataState, PostgresSeen, Recruited, Report},
};

use super::inputs::{Data, Inputs, Postgres};

/// The data directory, as reported. One that is empty but still a former group's is not offered to another:
/// the goal would be refused.
pub fn data(inputs: &Inputs) -> DataState {
    match inputs.data {
        Data::Empty if inputs.group.is_some() && inputs.goal.is_none() => DataState::Unfinished,
        Data::Empty => DataState::Empty,
        Data::Ready { system_identifier } => DataState::Ready { system_identifier },
        Data::Unfinished(_) => DataState::Unfinished,
    }
}

/// `PostgreSQL`, as reported. What does not answer any more is reported like what does not answer yet.
pub fn postgres(inputs: &Inputs) -> PostgresSeen {
    match &inputs.postgres {
        Postgres::Down { crashed } => PostgresSeen::Down { crashed: crashed.clone() },
        Postgres::Starting | Postgres::Hung => PostgresSeen::Starting,
        Postgres::Standby(standby) => PostgresSeen::Standby {
            position: standby.position,
            replayed: standby.replayed,
            streaming: standby.streaming,
            upstream: standby.upstream.clone(),
        },
        Postgres::Primary(primary) => PostgresSeen::Primary {
            position: primary.position,
            epoch: inputs.acknowledged,
            applied: inputs.applied.clone().unwrap_or_default(),
            standbys: primary.standbys.clone(),
            tables: primary.tables.clone(),
        },
    }
}

/// The answer to `Order::Recruit`: only with usable data, standing still or alive as a primary, and
/// with nothing under way that could move the log or make a primary of it.
pub fn recruited(inputs: &Inputs) -> Option<Recruited> {
    let goal = inputs.goal.as_ref().filter(|goal| goal.order == Order::Recruit && goal.epoch == inputs.promise)?;
    if inputs.under_way.is_some() || !matches!(inputs.data, Data::Ready { .. }) {
        return None;
    }
    let (position, live_primary) = match &inputs.postgres {
        Postgres::Standby(standby) if inputs.cut == Some(goal.epoch) && standby.still => (standby.position, false),
        Postgres::Primary(primary) => (primary.position, primary.trouble.is_none()),
        _ => return None,
    };
    Some(Recruited { epoch: goal.epoch, position, live_primary })
}

/// True if `new` says something that cannot wait for the next heartbeat: anything but how far logs
/// have grown.
pub fn differ(old: &Report, new: &Report) -> bool {
    let still = |report: &Report| {
        let mut report = report.clone();
        report.sequence = 0;
        match &mut report.postgres {
            PostgresSeen::Standby { position, replayed, .. } => (position.lsn, *replayed) = (Lsn(0), Lsn(0)),
            PostgresSeen::Primary { position, standbys, .. } => {
                position.lsn = Lsn(0);
                for standby in standbys {
                    standby.flushed = Lsn(0);
                }
            }
            PostgresSeen::Down { .. } | PostgresSeen::Starting => {}
        }
        if let Some(recruited) = report.recruited.as_mut().filter(|it| it.live_primary) {
            recruited.position.lsn = Lsn(0);
        }
        report
    };
    still(old) != still(new)
}
