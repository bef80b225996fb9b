//! Proposals as the short text that scenarios expect.

use howdah::{
    coordinator::core::command::{Command, OperationOutcome, Proposal},
    model::{group::Cohort, ids::MemberId},
};

pub fn proposal(proposal: &Proposal) -> String {
    match &proposal.command {
        Command::Initialise { .. } => "initialise".to_owned(),
        Command::Register { container } => format!("register {}", container.id),
        Command::CreateGroup { group, members, founder, .. } => {
            format!("create {group} of {} founded by {founder}", names(members.iter()))
        }
        Command::Found { .. } => "found".to_owned(),
        Command::Drain { target, .. } => format!("drain for {}", name(target.as_ref())),
        Command::CancelDrain { .. } => "cancel drain".to_owned(),
        Command::StandDown { .. } => "stand down".to_owned(),
        Command::OpenEpoch { epoch, target, accept_data_loss, .. } => {
            let target = target.as_ref().map(|id| format!(" for {id}")).unwrap_or_default();
            let loss = if *accept_data_loss { " accepting loss" } else { "" };
            format!("open epoch {epoch}{target}{loss}")
        }
        Command::Elect { primary, timeline, cohort: chosen, .. } => {
            format!("elect {primary} on timeline {timeline} with {}", cohort(chosen))
        }
        Command::Serving { epoch, .. } => format!("serving {epoch}"),
        Command::SetCohort { recorded, ordered, .. } => {
            format!("record {} order {}", cohort(recorded), cohort(ordered))
        }
        Command::AddMember { member, .. } => format!("add {member}"),
        Command::Retire { member, .. } => format!("retire {member}"),
        Command::Forget { member, .. } => format!("forget {member}"),
        Command::EnsureColocation { .. } => "colocation".to_owned(),
        Command::RecordCoordinators { .. } => "record coordinators".to_owned(),
        Command::ClaimCoordinator { url, .. } => format!("claim {url}"),
        Command::ChangeCoordinators { change } => format!("change coordinators: {change:?}"),
        Command::BeginOperation { .. } => "begin".to_owned(),
        Command::FinishOperation { outcome: OperationOutcome::Done { message }, .. } => format!("done: {message}"),
        Command::FinishOperation { outcome: OperationOutcome::Failed { message }, .. } => format!("failed: {message}"),
    }
}

/// `1:b,c`
fn cohort(cohort: &Cohort) -> String {
    format!("{}:{}", cohort.acks, names(cohort.standbys.iter()))
}

fn names<'a>(members: impl Iterator<Item = &'a MemberId>) -> String {
    members.map(MemberId::as_str).collect::<Vec<_>>().join(",")
}

fn name(member: Option<&MemberId>) -> &str {
    member.map_or("anyone", MemberId::as_str)
}
