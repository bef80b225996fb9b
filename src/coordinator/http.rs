//! `/livez`, `/readyz`, `/metrics` of a coordinator, from the driver's vital signs. Called by `run`.

use tokio::sync::watch;

use super::inbox::Vitals;
use crate::host::{http::Probes, metrics::Metrics};

/// What the pages are made of.
pub struct Health {
    /// The driver's newest.
    pub vitals: watch::Receiver<Option<Vitals>>,
}

impl Probes for Health {
    fn ready(&self) -> Result<(), String> {
        match &*self.vitals.borrow() {
            Some(vitals) if vitals.leadership.leader.is_some() => Ok(()),
            Some(_) => Err("the coordinators have no leader".to_owned()),
            None => Err("starting".to_owned()),
        }
    }

    fn metrics(&self) -> String {
        let mut page = Metrics::default();
        let vitals = self.vitals.borrow().clone();
        let Some(Vitals { leadership, applied, status }) = vitals else { return page.finish() };
        let number = u8::from;
        page.gauge("howdah_coordinator_leader", "1 on the coordinator that leads.")
            .sample(&[], number(leadership.ours));
        page.gauge("howdah_coordinator_has_leader", "1 while a leader is known.")
            .sample(&[], number(leadership.leader.is_some()));
        page.gauge("howdah_coordinator_term", "Raft's term.").sample(&[], leadership.term);
        page.gauge("howdah_coordinator_applied_revision", "Newest log index applied.").sample(&[], applied);
        let mut epochs = page.gauge("howdah_group_epoch", "Newest epoch of a group.");
        for group in &status.groups {
            epochs.sample(&[("group", &group.id)], group.epoch);
        }
        let mut serving = page.gauge("howdah_group_serving", "1 while a group has an open reign.");
        for group in &status.groups {
            serving.sample(&[("group", &group.id), ("phase", &group.phase)], number(group.phase == "serving"));
        }
        if !leadership.ours {
            return page.finish();
        }
        let members = || status.groups.iter().flat_map(|group| group.members.iter().map(move |member| (group, member)));
        let mut health = page.gauge("howdah_member_healthy", "1 while a member reports and does what it should.");
        for (group, member) in members() {
            let labels = [("group", group.id.as_str()), ("member", &member.id), ("role", &member.role)];
            health.sample(&labels, number(member.healthy));
        }
        let mut lag = page.gauge("howdah_member_lag_bytes", "WAL behind the primary.");
        for (group, member) in members() {
            if let Some(bytes) = member.lag_bytes {
                lag.sample(&[("group", &group.id), ("member", &member.id)], bytes);
            }
        }
        let mut health = page.gauge("howdah_coordinator_healthy", "1 while the leader hears from a coordinator.");
        for coordinator in &status.coordinators {
            health.sample(&[("coordinator", &coordinator.id.to_string())], number(coordinator.healthy));
        }
        page.gauge("howdah_idle_members", "Containers without a group.").sample(&[], status.idle.len());
        page.gauge("howdah_warnings", "Warnings that `howdah status` shows.").sample(&[], status.warnings.len());
        page.finish()
    }
}
