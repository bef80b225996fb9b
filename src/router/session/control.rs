//! Statements that are about the session rather than about rows: transaction control, SET, DISCARD and
//! their like. Decides whether the router answers by itself or a server does. Called by both protocols.

use super::{Fault, Session, Statement, block::begin_statement};
use crate::router::core::{
    error::{UserError, warning},
    plan_utility::{Effect, TransactionModes},
    transaction::Block,
};

/// Who answers.
pub(super) enum Course {
    /// The router, with this command tag.
    Answer(String),
    /// This participant.
    Forward(usize),
}

impl Session {
    /// Refuses what a failed block refuses.
    pub(super) fn check_failed(&self, effects: &[Effect]) -> Result<(), UserError> {
        let way_out =
            |effect: &Effect| matches!(effect, Effect::Commit { .. } | Effect::Rollback { .. } | Effect::RollbackTo(_));
        match &self.block {
            Some(block) if block.failed && !effects.iter().any(way_out) => Err(UserError::in_failed_transaction()),
            _ => Ok(()),
        }
    }

    /// Decides who answers a local statement with effects, and does the router's part.
    pub(super) async fn course(&mut self, statement: &Statement) -> Result<Course, Fault> {
        let sql = statement.sql();
        for effect in statement.effects() {
            let course = match effect {
                Effect::Begin(modes) => Ok(Some(self.begin(modes, &sql))),
                Effect::Commit { chain } => self.commit_statement(*chain).await.map(Some),
                Effect::Rollback { chain } => self.rollback_statement(*chain).await.map(Some),
                Effect::Savepoint(_) | Effect::Release(_) | Effect::RollbackTo(_) => {
                    self.savepoint_statement(effect, &sql).await.map(Some)
                }
                Effect::Set { .. } | Effect::Reset { .. } | Effect::ResetAll | Effect::SetTransaction { .. } => {
                    self.set_statement(effect, &sql).await.map(Some)
                }
                Effect::Discard(what) => self.discard(what).map(Some),
                Effect::Deallocate(name) => Ok(self.deallocate(name.as_deref())),
                Effect::Unlisten(_) if !self.keeps_connection() => Ok(Some(Course::Answer("UNLISTEN".to_owned()))),
                Effect::TwoPhase => self.refuse_foreign_two_phase().map(|()| None),
                _ => Ok(None),
            }?;
            if let Some(course) = course {
                return Ok(course);
            }
        }
        let query = self.query_group()?;
        let at = self.switch(&query).await?;
        self.keep_if_needed(at, statement.effects());
        Ok(Course::Forward(at))
    }

    fn begin(&mut self, modes: &TransactionModes, sql: &str) -> Course {
        let start = sql.as_bytes().first().is_some_and(|byte| byte.eq_ignore_ascii_case(&b's'));
        match &mut self.block {
            Some(block) if !block.implicit => {
                warning(&mut self.client.output, "25001", "there is already a transaction in progress");
            }
            Some(block) => block.implicit = false,
            None => self.block = Some(Block::new(begin_statement(modes), false, self.settings.clone())),
        }
        Course::Answer(if start { "START TRANSACTION" } else { "BEGIN" }.to_owned())
    }

    async fn commit_statement(&mut self, chain: bool) -> Result<Course, Fault> {
        let Some(block) = &self.block else { return self.no_transaction(chain, "COMMIT") };
        if block.failed {
            self.drain_before_end().await?;
            self.rollback_all().await?;
            self.end_block(chain, true);
            return Ok(Course::Answer("ROLLBACK".to_owned()));
        }
        if let (false, Some(at)) = (block.implicit, self.only_participant()) {
            self.batch.commit_sent = true;
            self.batch.commit_of_reads = !self.participants[at].wrote;
            return self.switch_to(at).await.map(Course::Forward);
        }
        self.drain().await?;
        if let Err(fault) = self.commit_all().await {
            // As in PostgreSQL, a COMMIT that fails ends the block all the same.
            if !matches!(fault, Fault::Stop(_) | Fault::Retry) {
                self.rollback_all().await?;
                self.end_block(false, true);
            }
            return Err(fault);
        }
        self.end_block(chain, false);
        Ok(Course::Answer("COMMIT".to_owned()))
    }

    async fn rollback_statement(&mut self, chain: bool) -> Result<Course, Fault> {
        let Some(block) = &self.block else { return self.no_transaction(chain, "ROLLBACK") };
        if let (false, Some(at)) = (block.implicit, self.only_participant()) {
            return self.switch_to(at).await.map(Course::Forward);
        }
        self.drain_before_end().await?;
        self.rollback_all().await?;
        self.end_block(chain, true);
        Ok(Course::Answer("ROLLBACK".to_owned()))
    }

    /// All participants have ended the transaction.
    fn end_block(&mut self, chain: bool, rolled_back: bool) {
        let implicit = self.block.as_ref().is_some_and(|block| block.implicit);
        if rolled_back && let Some(before) = self.block.as_ref().map(|block| block.before().clone()) {
            self.restore(before);
        }
        if chain {
            self.chain();
        } else {
            self.block = None;
        }
        self.release();
        if implicit {
            self.begin_implicit();
        }
    }

    fn no_transaction(&mut self, chain: bool, tag: &str) -> Result<Course, Fault> {
        if chain {
            let message = format!("{tag} AND CHAIN can only be used in transaction blocks");
            return Err(UserError::error("25P01", message).into());
        }
        warning(&mut self.client.output, "25P01", "there is no transaction in progress");
        Ok(Course::Answer(tag.to_owned()))
    }

    async fn savepoint_statement(&mut self, effect: &Effect, sql: &str) -> Result<Course, Fault> {
        let (tag, name, needed) = match effect {
            Effect::Savepoint(name) => ("SAVEPOINT", name, false),
            Effect::Release(name) => ("RELEASE", name, true),
            Effect::RollbackTo(name) => ("ROLLBACK", name, true),
            _ => return Err(UserError::error("XX000", "not a savepoint").into()),
        };
        if let Some(block) = &self.block
            && !block.implicit
        {
            if needed && !block.has_savepoint(name) {
                return Err(UserError::error("3B001", format!("savepoint \"{name}\" does not exist")).into());
            }
            return self.everywhere(effect, sql, tag).await;
        }
        let command = if tag == "ROLLBACK" { "ROLLBACK TO SAVEPOINT" } else { tag };
        let command = if tag == "RELEASE" { "RELEASE SAVEPOINT" } else { command };
        let message = format!("{command} can only be used in transaction blocks");
        Err(UserError::error("25P01", message).into())
    }

    async fn set_statement(&mut self, effect: &Effect, sql: &str) -> Result<Course, Fault> {
        let tag = if matches!(effect, Effect::Reset { .. } | Effect::ResetAll) { "RESET" } else { "SET" };
        let joined = self.participants.iter().any(|participant| participant.joined);
        let later = matches!(effect, Effect::SetTransaction { session: false, .. }) && self.block.is_some();
        if !joined && !later {
            let query = self.query_group()?;
            return self.switch(&query).await.map(Course::Forward);
        }
        self.everywhere(effect, sql, tag).await
    }

    /// What every participant must run, and those that join later too.
    async fn everywhere(&mut self, effect: &Effect, sql: &str, tag: &str) -> Result<Course, Fault> {
        if let Some(at) = self.only_participant() {
            return self.switch_to(at).await.map(Course::Forward);
        }
        self.drain().await?;
        self.call_all(sql).await?;
        self.apply_effect(effect, sql);
        Ok(Course::Answer(tag.to_owned()))
    }

    fn discard(&mut self, what: &str) -> Result<Course, Fault> {
        if what == "all" {
            if self.block.is_some() {
                let message = "DISCARD ALL cannot run inside a transaction block";
                return Err(UserError::error("25001", message).into());
            }
            self.statements.clear();
            self.settings = self.startup.clone();
            self.context_changed();
            // What the kept connection knows goes with it.
            while let Some(at) = self.participants.iter().position(|participant| participant.server.pinned) {
                self.remove(at);
            }
        } else if self.keeps_connection() {
            return Ok(Course::Forward(self.kept()));
        }
        Ok(Course::Answer(format!("DISCARD {}", what.to_ascii_uppercase())))
    }

    /// Statements prepared by the protocol are ours; others are on the kept connection.
    fn deallocate(&mut self, name: Option<&str>) -> Option<Course> {
        match name {
            Some(name) if self.statements.remove(name.as_bytes()) => Some(Course::Answer("DEALLOCATE".to_owned())),
            Some(_) => None,
            None => {
                self.statements.clear();
                (!self.keeps_connection()).then(|| Course::Answer("DEALLOCATE ALL".to_owned()))
            }
        }
    }

    fn refuse_foreign_two_phase(&self) -> Result<(), Fault> {
        let query = self.query_group()?;
        if self.participants.iter().any(|participant| participant.joined && *participant.group() != query) {
            let what = "PREPARE TRANSACTION of a transaction that touched distributed tables";
            return Err(UserError::unsupported(what, "Use COMMIT: it is atomic over all shards.").into());
        }
        Ok(())
    }

    pub(super) fn keeps_connection(&self) -> bool {
        self.participants.iter().any(|participant| participant.server.pinned)
    }

    fn kept(&self) -> usize {
        self.participants.iter().position(|participant| participant.server.pinned).unwrap_or(0)
    }

    /// The one participant of the transaction, where there is exactly one.
    pub(super) fn only_participant(&self) -> Option<usize> {
        let mut joined = self.participants.iter().enumerate().filter(|(_, participant)| participant.joined);
        match (joined.next(), joined.next()) {
            (Some((at, _)), None) => Some(at),
            _ => None,
        }
    }

    /// As `drain`; an error that the client was told of already does not stop the end of the block.
    async fn drain_before_end(&mut self) -> Result<(), Fault> {
        match self.drain().await {
            Err(Fault::Reported) | Ok(()) => Ok(()),
            Err(fault) => Err(fault),
        }
    }
}
