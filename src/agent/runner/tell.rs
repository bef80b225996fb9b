//! What the loop tells: decisions to the log, reports to the coordinator. Called once a turn.

use crate::{
    agent::core::{
        action::{Action, Decision},
        report,
    },
    model::observed::Report,
};

use super::Runner;

impl Runner {
    /// Logs what is decided when it changes.
    pub(super) fn remember(&mut self, decision: Decision) {
        let same =
            self.last_decision.as_ref().is_some_and(|last| last.state == decision.state && last.note == decision.note);
        if !same {
            tracing::info!(state = %decision.state, note = %decision.note, "state");
        }
        self.last_decision = Some(decision);
    }

    /// Reports at once what has changed, and every heartbeat.
    pub(super) fn report(&mut self) {
        let Some(decision) = &self.last_decision else { return };
        let mut note = decision.note.clone();
        if let Some(Action::Clone(_)) = &self.inputs.under_way {
            note = format!("{note} ({} %)", *self.progress.borrow());
        }
        let report = Report {
            member: self.inputs.me.clone(),
            incarnation: self.incarnation,
            sequence: self.sequence + 1,
            promise: self.inputs.promise,
            goal_revision: self.inputs.newest_revision,
            data: report::data(&self.inputs),
            postgres: report::postgres(&self.inputs),
            recruited: report::recruited(&self.inputs),
            state: decision.state.to_string(),
            healthy: decision.healthy,
            note,
            pid: std::process::id(),
            postmaster_pid: self.server.postmaster(),
            router_pid: *self.links.router.borrow(),
            data_dir: self.config.data_dir.display().to_string(),
            signs: report::signs(&self.inputs),
        };
        let news = self.links.reports.borrow().as_ref().is_none_or(|last| report::differ(last, &report));
        if news || self.inputs.now.since(self.reported_at) >= self.heartbeat() {
            self.sequence += 1;
            self.reported_at = self.inputs.now;
            self.links.reports.send_replace(Some(report));
        }
    }
}
