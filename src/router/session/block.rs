//! A session's transaction block following what its servers say, and what completed statements mean to
//! the session. Called by the session after answers and at the end of a batch.

use std::rc::Rc;

use super::{Session, Statement};
use crate::router::core::{
    plan_utility::{Effect, TransactionModes},
    settings::{CHARACTERISTICS, Settings},
    transaction::Block,
};

impl Session {
    /// The block is what the servers say: a statement may have opened or ended it.
    pub(super) fn follow_servers(&mut self) {
        let settled = |participant: &&super::Participant| participant.joined && participant.server.setup() == 0;
        let mut statuses = self.participants.iter().filter(settled).map(|it| it.server.status).peekable();
        if statuses.peek().is_none() {
            return;
        }
        let (mut idle, mut failed) = (true, false);
        for status in statuses {
            idle &= status == b'I';
            failed |= status == b'E';
        }
        match &mut self.block {
            Some(block) if idle => {
                let before = block.before().clone();
                if self.relay.tag.starts_with(b"ROLLBACK") {
                    self.restore(before);
                }
                self.block = None;
            }
            Some(block) => block.failed |= failed,
            None if !idle => {
                let mut block = Block::new("BEGIN", false, self.settings.clone());
                block.failed = failed;
                self.block = Some(block);
            }
            None => {}
        }
    }

    /// Opens a block of the router's own around a statement that needs several writers, or around a
    /// query of several statements. Nothing is sent before a group joins.
    pub fn begin_implicit(&mut self) {
        if self.block.is_none() {
            self.block = Some(Block::new("BEGIN", true, self.settings.clone()));
        }
    }

    /// A statement completed on a server, or was answered by the router.
    pub(super) fn completed(&mut self, at: usize, statement: &Statement) {
        let sql = statement.sql();
        for effect in statement.effects() {
            match effect {
                Effect::Deallocate(None) | Effect::Discard("all" | "plans") => {
                    self.participants[at].server.prepared.clear();
                }
                other => self.apply_effect(other, &sql),
            }
        }
    }

    /// What a statement that succeeded does to the session.
    pub(super) fn apply_effect(&mut self, effect: &Effect, sql: &str) {
        match effect {
            Effect::Set { local: true, name, .. } => {
                self.remember(sql);
                self.maybe_context(name);
            }
            Effect::Set { name, value: Some(_), .. } => {
                self.change(sql, |settings, _| settings.set(name, sql));
                self.maybe_context(name);
            }
            Effect::Set { name, value: None, .. } | Effect::Reset { name } => {
                self.change(sql, |settings, startup| settings.reset(name, startup));
                self.maybe_context(name);
            }
            Effect::ResetAll => {
                self.change(sql, Settings::reset_all);
                self.context_changed();
            }
            Effect::SetTransaction { session: false, .. } => self.remember(sql),
            Effect::SetTransaction { session: true, .. } => {
                let earlier = self.settings.get(CHARACTERISTICS).map(|earlier| format!("{earlier}; "));
                let all = earlier.unwrap_or_default() + sql;
                self.change(sql, |settings, _| settings.set(CHARACTERISTICS, &all));
            }
            Effect::Savepoint(name) => {
                let settings = self.settings.clone();
                if let Some(block) = &mut self.block {
                    block.savepoint(name, settings);
                }
            }
            Effect::Release(name) => {
                if let Some(block) = &mut self.block {
                    block.release(name);
                }
            }
            Effect::RollbackTo(name) => {
                if let Some(before) = self.block.as_mut().and_then(|block| block.rollback_to(name)) {
                    self.restore(before);
                }
            }
            Effect::Commit { chain: true } => self.chain(),
            Effect::Rollback { chain: true } => {
                if let Some(before) = self.block.as_ref().map(|block| block.before().clone()) {
                    self.restore(before);
                }
                self.chain();
            }
            Effect::Pin(_) | Effect::SchemaChange => self.context_changed(),
            _ => {}
        }
    }

    /// A rollback: settings are again what they were.
    pub(super) fn restore(&mut self, before: Rc<Settings>) {
        if self.settings != before {
            self.context_changed();
        }
        self.settings = before;
    }

    fn remember(&mut self, sql: &str) {
        if let Some(block) = &mut self.block {
            block.remember(sql);
        }
    }

    fn change(&mut self, sql: &str, change: impl FnOnce(&mut Settings, &Settings)) {
        let startup = self.startup.clone();
        change(Rc::make_mut(&mut self.settings), &startup);
        self.remember(sql);
    }

    /// `AND CHAIN`: the next block begins as this one did.
    pub(super) fn chain(&mut self) {
        if let Some(block) = &self.block {
            self.block = Some(Block::new(block.begin.clone(), block.implicit, self.settings.clone()));
        }
    }

    fn maybe_context(&mut self, setting: &str) {
        if matches!(setting, "search_path" | "role" | "session_authorization" | "standard_conforming_strings") {
            self.context_changed();
        }
    }
}

/// `BEGIN` with these modes, for participants.
pub(super) fn begin_statement(modes: &TransactionModes) -> String {
    let mut sql = "BEGIN".to_owned();
    if let Some(isolation) = &modes.isolation {
        sql += " ISOLATION LEVEL ";
        sql += isolation;
    }
    match modes.read_only {
        Some(true) => sql += " READ ONLY",
        Some(false) => sql += " READ WRITE",
        None => {}
    }
    match modes.deferrable {
        Some(true) => sql += " DEFERRABLE",
        Some(false) => sql += " NOT DEFERRABLE",
        None => {}
    }
    sql
}
