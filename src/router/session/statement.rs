//! A session's prepared statements and portals. Called by the session's extended protocol.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use bytes::Bytes;

use crate::{
    model::ids::GroupId,
    router::{
        core::{
            plan::{Plan, Planned},
            plan_utility::Effect,
            protocol::frontend::Bind,
        },
        pool::prepared::StatementId,
    },
};

/// A text and the plans of its statements.
#[derive(Debug)]
pub struct Text {
    /// As the client sent it.
    pub sql: Bytes,
    /// Its statements; empty for an empty query.
    pub planned: Vec<Planned>,
    /// Version of the catalog it was planned by.
    pub version: i64,
    /// What a statement of one bucket is on each leaf it was bound to; at most one per bucket.
    leaves: RefCell<HashMap<u32, Leaf>>,
}

/// A statement for one leaf.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// Its number on servers.
    pub id: StatementId,
    /// Its text.
    pub sql: Bytes,
}

impl Text {
    /// A text planned by this version of the catalog.
    pub fn new(sql: Bytes, planned: Vec<Planned>, version: i64) -> Self {
        Self { sql, planned, version, leaves: RefCell::default() }
    }

    /// The statement for a bucket's leaf, made where it is asked for first.
    pub fn leaf(&self, bucket: u32, make: impl FnOnce() -> Leaf) -> Leaf {
        self.leaves.borrow_mut().entry(bucket).or_insert_with(make).clone()
    }
}

/// A prepared statement of a session, or the one statement of a simple query.
#[derive(Debug)]
pub struct Statement {
    /// Its number on servers.
    pub id: StatementId,
    /// Text and plan.
    pub text: Rc<Text>,
    /// Parameter types as far as the client said them.
    pub types: Vec<u32>,
    /// Number of the context it was planned in.
    pub context: u64,
}

impl Statement {
    /// Its plan; `None` for an empty statement, and for several, which PostgreSQL refuses to prepare.
    pub fn plan(&self) -> Option<&Plan> {
        match &self.text.planned[..] {
            [one] => Some(&one.plan),
            _ => None,
        }
    }

    /// Its own text.
    pub fn sql(&self) -> String {
        let sql = String::from_utf8_lossy(&self.text.sql);
        match &self.text.planned[..] {
            [one] => sql.get(one.range.clone()).unwrap_or(&sql).to_owned(),
            _ => sql.into_owned(),
        }
    }

    /// What it does to the session.
    pub fn effects(&self) -> &[Effect] {
        match self.plan() {
            Some(Plan::Local(local)) => &local.effects,
            _ => &[],
        }
    }

    /// Does it do anything to the session?
    pub fn has_effects(&self) -> bool {
        !self.effects().is_empty()
    }
}

/// A bound statement.
#[derive(Debug, Clone)]
pub struct Portal {
    /// What is bound.
    pub statement: Rc<Statement>,
    /// Where it is; `None`: nowhere yet, the router or an executor runs it.
    pub group: Option<GroupId>,
    /// The `Bind` message, where nothing has been sent yet.
    pub bind: Rc<Bind>,
}

/// Prepared statements and portals by name. The unnamed ones are fields: they are the usual case.
#[derive(Debug, Default)]
pub struct Statements {
    unnamed: Option<Rc<Statement>>,
    named: HashMap<Bytes, Rc<Statement>>,
    unnamed_portal: Option<Portal>,
    portals: HashMap<Bytes, Portal>,
}

impl Statements {
    /// The statement of that name.
    pub fn get(&self, name: &[u8]) -> Option<&Rc<Statement>> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    /// Keeps a statement.
    pub fn insert(&mut self, name: &Bytes, statement: Rc<Statement>) {
        if name.is_empty() {
            self.unnamed = Some(statement);
        } else {
            self.named.insert(name.clone(), statement);
        }
    }

    /// Forgets a statement; false if there was none.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        if name.is_empty() { self.unnamed.take().is_some() } else { self.named.remove(name).is_some() }
    }

    /// Forgets all statements.
    pub fn clear(&mut self) {
        self.unnamed = None;
        self.named.clear();
    }

    /// The portal of that name.
    pub fn portal(&self, name: &[u8]) -> Option<&Portal> {
        if name.is_empty() { self.unnamed_portal.as_ref() } else { self.portals.get(name) }
    }

    /// Keeps a portal.
    pub fn bind(&mut self, name: &Bytes, portal: Portal) {
        if name.is_empty() {
            self.unnamed_portal = Some(portal);
        } else {
            self.portals.insert(name.clone(), portal);
        }
    }

    /// Forgets a portal.
    pub fn close_portal(&mut self, name: &[u8]) -> Option<Portal> {
        if name.is_empty() { self.unnamed_portal.take() } else { self.portals.remove(name) }
    }

    /// The transaction ended, and its portals with it.
    pub fn close_portals(&mut self) {
        self.unnamed_portal = None;
        if !self.portals.is_empty() {
            self.portals.clear();
        }
    }
}

/// Number of a statement that is not prepared.
pub const NONE: StatementId = StatementId(0);

/// Is the statement about the session alone, and without rows, so that the router may answer it?
pub fn is_control(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| {
        matches!(
            effect,
            Effect::Begin(_)
                | Effect::Commit { .. }
                | Effect::Rollback { .. }
                | Effect::Savepoint(_)
                | Effect::Release(_)
                | Effect::RollbackTo(_)
                | Effect::Set { .. }
                | Effect::Reset { .. }
                | Effect::ResetAll
                | Effect::SetTransaction { .. }
                | Effect::Discard(_)
                | Effect::Deallocate(_)
                | Effect::Listen(_)
                | Effect::Unlisten(_)
                | Effect::TwoPhase
        )
    })
}

/// Does the session need the connection for itself from here on?
pub fn keeps(effect: &Effect) -> bool {
    matches!(effect, Effect::Pin(_) | Effect::Listen(_) | Effect::Prepare(_))
}
