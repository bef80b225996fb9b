//! Where plans that concern several groups leave the session for their executors.

use super::{Fault, Portal, Session, Statement, shard::refusal};
use crate::router::core::{
    error::UserError,
    plan::Plan,
    protocol::{backend, frontend::Bind},
};

impl Session {
    /// Runs a plan that is neither local nor of one shard. Nothing is due on any connection. `bind`: in
    /// the extended protocol.
    pub(super) async fn run_distributed(&mut self, statement: &Statement, bind: Option<&Bind>) -> Result<(), Fault> {
        match statement.plan() {
            Some(Plan::Refuse(why)) => Err(refusal((**why).clone()).into()),
            Some(Plan::ShowTier) => {
                self.show_tier(bind.is_none());
                Ok(())
            }
            _ => Err(UserError::unsupported("this statement", "Write it for one key at a time.").into()),
        }
    }

    /// `Describe` of a portal whose plan an executor runs.
    pub(super) async fn describe_distributed(&mut self, portal: &Portal) -> Result<(), Fault> {
        if matches!(portal.statement.plan(), Some(Plan::ShowTier)) {
            backend::text_columns(&mut self.client.output, &["howdah.tier"]);
            return Ok(());
        }
        Err(UserError::unsupported("describing this statement", "Describe the statement instead of the portal.").into())
    }

    fn show_tier(&mut self, describe: bool) {
        let out = &mut self.client.output;
        if describe {
            backend::text_columns(out, &["howdah.tier"]);
        }
        backend::data_row(out, &[Some(self.tier.as_bytes())]);
        backend::command_complete(out, "SHOW");
    }
}
