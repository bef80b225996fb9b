//! Simple queries: one text of one or several statements, answered up to `ReadyForQuery`; and function
//! calls, which go the same way. Called by the session.

use std::rc::Rc;

use super::{Fault, Session, Statement, Stop, Text, control::Course, relay::Due};
use crate::router::core::{
    error::UserError,
    plan::{Plan, Planned},
    plan_utility::{Effect, TransactionModes},
    protocol::{backend, frame::Frame, frontend},
};

impl Session {
    /// Runs a `Q` or `F` message.
    pub(super) async fn simple(&mut self, frame: Frame) -> Result<(), Stop> {
        self.note(&frame);
        self.batch.ends = true;
        self.skip = false;
        let done = if frame.tag == b'Q' { self.query(&frame).await } else { self.function_call(&frame).await };
        match done {
            Err(Fault::Stop(stop)) => return Err(stop),
            Err(Fault::Retry) => {
                self.run_again();
                return Ok(());
            }
            Err(fault) => self.report(&fault),
            Ok(()) => {}
        }
        self.finish().await
    }

    async fn query(&mut self, frame: &Frame) -> Result<(), Fault> {
        let sql = frontend::read_query(frame).map_err(|error| Stop::Fatal(UserError::protocol(error)))?;
        self.leave_extended().await?;
        let text = self.text(&sql, &[]).await?;
        match &text.planned[..] {
            [] => {
                self.client.output.extend_from_slice(backend::EMPTY_QUERY);
                Ok(())
            }
            [_] => self.statement(text, Some(frame)).await,
            several if several.iter().all(passes_whole) && self.may_pass_whole() => {
                self.check_failed_whole(several)?;
                let query = self.query_group()?;
                let at = self.switch(&query).await?;
                for planned in several {
                    self.note_local(at, planned);
                }
                self.forward(at, &frame.bytes).await
            }
            several => self.one_by_one(&text, several).await,
        }
    }

    /// Several statements as PostgreSQL runs them: in one transaction, unless they say otherwise.
    async fn one_by_one(&mut self, text: &Text, several: &[Planned]) -> Result<(), Fault> {
        for planned in several {
            self.begin_implicit();
            let sql = text.sql.slice(planned.range.clone());
            // A statement before it may have changed the catalog.
            let one = if text.version == self.catalog_version() {
                let planned = Planned { range: 0..sql.len(), plan: planned.plan.clone() };
                Rc::new(Text::new(sql, vec![planned], text.version))
            } else {
                self.text(&sql, &[]).await?
            };
            self.statement(one, None).await?;
            self.follow_servers();
            self.relay.tag.clear();
            if self.relay.failed {
                return Err(Fault::Reported);
            }
        }
        Ok(())
    }

    /// One statement. `frame`: the message it came in, where it came alone.
    async fn statement(&mut self, text: Rc<Text>, frame: Option<&Frame>) -> Result<(), Fault> {
        let context = self.context.id;
        let statement = Statement { id: super::statement::NONE, text, types: Vec::new(), context };
        let Some(plan) = statement.plan() else { return Ok(()) };
        self.check_failed(statement.effects())?;
        if !matches!(plan, Plan::ShowTier) {
            self.ran(plan.tier());
        }
        if let Plan::Local(local) = plan {
            self.probe(local).await?;
        }
        match plan {
            Plan::Local(local) if local.effects.is_empty() => {
                let query = self.query_group()?;
                let at = self.switch(&query).await?;
                self.wrote_local(at, local.read_only);
                self.forward_statement(at, &statement.text.sql, frame).await
            }
            Plan::Local(_) => match self.course(&statement).await? {
                Course::Answer(tag) => {
                    backend::command_complete(&mut self.client.output, &tag);
                    self.relay.answered = true;
                    Ok(())
                }
                Course::Forward(at) => {
                    self.wrote_local(at, false);
                    self.forward_statement(at, &statement.text.sql, frame).await?;
                    if !self.relay.failed {
                        self.completed(at, &statement);
                    }
                    Ok(())
                }
            },
            Plan::OneShard(plan) => {
                let (at, bucket) = self.one_shard(plan, None).await?;
                let sql = plan.text_for(bucket);
                self.participants[at].wrote |= plan.is_write;
                self.batch.may_have_written |= plan.is_write && self.block.is_none();
                self.forward_statement(at, sql.as_bytes(), None).await
            }
            _ => {
                self.drain().await?;
                self.run_distributed(&statement, None).await
            }
        }
    }

    async fn forward_statement(&mut self, at: usize, sql: &[u8], frame: Option<&Frame>) -> Result<(), Fault> {
        if let Some(frame) = frame {
            return self.forward(at, &frame.bytes).await;
        }
        self.batch.worked = true;
        frontend::query(&mut self.participants[at].server.output, sql);
        self.relay.due.push_back(Due::Query);
        self.pump().await
    }

    /// Passes a message on that ends with `ReadyForQuery`.
    async fn forward(&mut self, at: usize, message: &[u8]) -> Result<(), Fault> {
        self.batch.worked = true;
        // A simple query drops PostgreSQL's unnamed statement.
        self.participants[at].server.prepared.unnamed = None;
        self.participants[at].server.output.extend_from_slice(message);
        self.relay.due.push_back(Due::Query);
        self.pump().await
    }

    async fn function_call(&mut self, frame: &Frame) -> Result<(), Fault> {
        self.leave_extended().await?;
        self.check_failed(&[])?;
        let query = self.query_group()?;
        let at = self.switch(&query).await?;
        self.wrote_local(at, false);
        // What a function called by number does is unknown: large objects, advisory locks, …
        self.participants[at].server.pinned = true;
        self.forward(at, &frame.bytes).await
    }

    /// A simple query amid the extended protocol: what was asked before is answered first.
    async fn leave_extended(&mut self) -> Result<(), Fault> {
        if self.relay.due.is_empty() { Ok(()) } else { self.drain().await }
    }

    /// Nothing but the query group takes part.
    fn may_pass_whole(&self) -> bool {
        let implicit = self.block.as_ref().is_some_and(|block| block.implicit);
        let elsewhere = |participant: &super::Participant| {
            participant.joined && !self.query_group().is_ok_and(|query| *participant.group() == query)
        };
        !implicit && !self.participants.iter().any(elsewhere)
    }

    fn check_failed_whole(&self, several: &[Planned]) -> Result<(), UserError> {
        match several.first().map(|planned| &planned.plan) {
            Some(Plan::Local(local)) => self.check_failed(&local.effects),
            _ => Ok(()),
        }
    }

    fn note_local(&mut self, at: usize, planned: &Planned) {
        if let Plan::Local(local) = &planned.plan {
            self.wrote_local(at, local.read_only);
            self.batch.commit_sent |= local.effects.iter().any(|effect| matches!(effect, Effect::Commit { .. }));
            self.keep_if_needed(at, &local.effects);
        }
    }

    /// A local statement that may write takes part in the commit as a writer.
    pub(super) fn wrote_local(&mut self, at: usize, read_only: bool) {
        self.participants[at].wrote |= !read_only;
        self.batch.may_have_written |= !read_only && self.block.is_none();
    }
}

/// May the statement go to the query group as part of a text, without the router following each step?
fn passes_whole(planned: &Planned) -> bool {
    let passive = |effect: &Effect| {
        matches!(
            effect,
            Effect::Pin(_)
                | Effect::Begin(TransactionModes { isolation: None, read_only: None, deferrable: None })
                | Effect::Commit { chain: false }
                | Effect::Rollback { chain: false }
                | Effect::Prepare(_)
                | Effect::Listen(_)
                | Effect::CopyIn
                | Effect::CopyOut
                | Effect::SchemaChange
        )
    };
    match &planned.plan {
        Plan::Local(local) => local.effects.iter().all(passive) && local.unguarded.is_empty(),
        _ => false,
    }
}
