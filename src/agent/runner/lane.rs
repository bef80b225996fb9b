//! A lane: one action that runs beside the loop, until it ends or is given up. Called by the runner.

use std::future::pending;

use tokio::task::JoinHandle;

use crate::agent::{
    core::{action::Action, inputs::Ancestry},
    postgres::ActionError,
};

/// What an action has brought.
#[derive(Debug)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It is promoted.
    Promoted {
        /// The cohort it was promoted with is certain to be used by every process.
        in_force: bool,
    },
    /// An answer.
    Ancestry(Ancestry),
}

/// At most one action.
#[derive(Default)]
pub struct Lane {
    running: Option<(Action, JoinHandle<Result<Outcome, ActionError>>)>,
}

impl Lane {
    /// Begins an action; the lane must be free.
    pub fn begin(&mut self, action: Action, work: impl Future<Output = Result<Outcome, ActionError>> + Send + 'static) {
        assert!(self.running.is_none(), "the core begins {action} only in a free lane");
        self.running = Some((action, tokio::spawn(work)));
    }

    /// What runs.
    pub fn action(&self) -> Option<&Action> {
        self.running.as_ref().map(|(action, _)| action)
    }

    /// Gives up what runs; programs it has started are killed with it.
    pub fn abort(&mut self) {
        if let Some((action, task)) = self.running.take() {
            tracing::info!(%action, "given up");
            task.abort();
        }
    }

    /// The action that has ended, and how. Never, while nothing runs.
    pub async fn ended(&mut self) -> (Action, Result<Outcome, ActionError>) {
        let Some((_, task)) = &mut self.running else { return pending().await };
        let result = task.await;
        let (action, _) = self.running.take().expect("it was awaited just now");
        let result =
            result.unwrap_or_else(|error| Err(ActionError::Refused(format!("the agent's own code failed: {error}"))));
        (action, result)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.abort();
    }
}
