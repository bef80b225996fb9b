//! Health and metrics of an agent. Called by `run`.

use tokio::sync::watch;

use crate::{
    host::{http::Probes, metrics::Metrics},
    model::observed::{PostgresSeen, Report},
};

/// Answers from the newest report.
pub struct AgentProbes {
    reports: watch::Receiver<Option<Report>>,
}

impl AgentProbes {
    /// Over the runner's reports.
    pub fn new(reports: watch::Receiver<Option<Report>>) -> Self {
        Self { reports }
    }
}

impl Probes for AgentProbes {
    fn ready(&self) -> Result<(), String> {
        match &*self.reports.borrow() {
            None => Err("the agent is starting".to_owned()),
            Some(report) if report.healthy => Ok(()),
            Some(report) => Err(format!("{}: {}", report.state, report.note)),
        }
    }

    fn metrics(&self) -> String {
        let mut metrics = Metrics::default();
        let report = self.reports.borrow().clone();
        let Some(report) = report else { return metrics.finish() };
        let member = [("member", report.member.as_str())];
        let primary = matches!(report.postgres, PostgresSeen::Primary { .. });
        let streaming = matches!(report.postgres, PostgresSeen::Standby { streaming: true, .. });
        metrics
            .gauge("howdah_agent_healthy", "1: nothing wrong, nothing under way")
            .sample(&member, u8::from(report.healthy));
        metrics.gauge("howdah_agent_promise", "No epoch below this is served").sample(&member, report.promise);
        metrics
            .gauge("howdah_postgres_up", "1: a postmaster runs")
            .sample(&member, u8::from(report.postmaster_pid.is_some()));
        metrics.gauge("howdah_postgres_primary", "1: not in recovery").sample(&member, u8::from(primary));
        metrics.gauge("howdah_postgres_streaming", "1: the WAL receiver streams").sample(&member, u8::from(streaming));
        if let Some(position) = report.position() {
            metrics.gauge("howdah_postgres_timeline", "Timeline of the newest WAL").sample(&member, position.timeline);
            metrics.gauge("howdah_postgres_lsn_bytes", "End of the newest WAL").sample(&member, position.lsn.0);
        }
        metrics.gauge("howdah_agent_state", "Where the container stands").sample(&[("state", &report.state)], 1);
        metrics.finish()
    }
}
