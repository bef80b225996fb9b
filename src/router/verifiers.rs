//! What logins are checked against: roles' verifiers, read from the query group's primary as role
//! `howdah_router` and kept for a moment. Called by the session's login.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use super::{
    core::{auth::Verifier, settings::literal},
    pool::{CheckoutError, Identity, Wanted, connect::Credentials, server::CallError},
    worker::Worker,
};
use crate::{model::numbers::Millis, router::core::error::UserError};

/// The role; its password is derived from the cluster's secret.
pub const ROUTER_ROLE: &str = "howdah_router";
/// How long a verifier is trusted: a burst of logins asks once, a new password counts within seconds.
const FRESH: Millis = Millis(2_000);
/// Roles remembered.
const LIMIT: usize = 1_000;

/// What a login that waits for the answer keeps: about what is kept of a role.
const ENTRY: usize = 512;

/// What is known of a role.
#[derive(Clone)]
pub struct Role {
    /// Its verifier; `None`: it has no password, or not one for SCRAM.
    pub verifier: Option<Verifier>,
    /// `rolcanlogin`.
    pub can_login: bool,
    /// `rolvaliduntil` has passed.
    pub expired: bool,
}

/// A worker's cache.
#[derive(Default)]
pub struct Verifiers(RefCell<HashMap<String, (Option<Role>, Millis)>>);

impl Verifiers {
    /// A login failed: the role may have changed.
    pub fn forget(&self, user: &str) {
        self.0.borrow_mut().remove(user);
    }
}

/// The role, or `None` where there is none.
pub async fn role(worker: &Worker, user: &str) -> Result<Option<Role>, UserError> {
    if let Some((role, since)) = worker.verifiers.0.borrow().get(user)
        && worker.clock.now().since(*since) < FRESH
    {
        return Ok(role.clone());
    }
    let role = ask(worker, user).await?;
    let mut known = worker.verifiers.0.borrow_mut();
    if known.len() >= LIMIT {
        known.clear();
    }
    known.insert(user.to_owned(), (role.clone(), worker.clock.now()));
    Ok(role)
}

async fn ask(worker: &Worker, user: &str) -> Result<Option<Role>, UserError> {
    let topology = worker.pools.topology();
    let group = topology.query_group().ok_or_else(|| UserError::no_primary("query"))?.id.clone();
    let identity = Identity {
        database: Rc::from(topology.database.as_str()),
        user: Rc::from(ROUTER_ROLE),
        credentials: Credentials::Password(worker.config.secret.password(ROUTER_ROLE)),
    };
    let sql = format!(
        "SELECT rolpassword, rolcanlogin, coalesce(rolvaliduntil < now(), false) \
         FROM pg_catalog.pg_authid WHERE rolname = {}",
        literal(user)
    );
    // A pooled connection may have died unnoticed: the second one is new.
    for _ in 0..3 {
        let mut server =
            match worker.pools.checkout(&group, Wanted::Primary, &identity, &Rc::default(), ENTRY, &mut None).await {
                Ok(server) => server,
                Err(CheckoutError::Refused(error)) => return Err(error),
                Err(CheckoutError::Server(error)) => return Err(unreadable(&error)),
            };
        match server.call(&sql).await {
            Ok(rows) => {
                worker.pools.give_back(server);
                return Ok(rows.into_iter().next().map(|row| read(&row)));
            }
            Err(CallError::Lost(lost)) => tracing::debug!(%lost, "verifier not read"),
            Err(error) => return Err(unreadable(&error)),
        }
    }
    Err(UserError::no_primary(&group))
}

fn read(row: &[Option<String>]) -> Role {
    let is = |index: usize| row.get(index).and_then(Option::as_deref) == Some("t");
    let password = row.first().and_then(Option::as_deref);
    Role { verifier: password.and_then(Verifier::read), can_login: is(1), expired: is(2) }
}

fn unreadable(cause: &dyn std::fmt::Display) -> UserError {
    tracing::error!(%cause, "roles cannot be read from the query group");
    UserError::fatal("08001", "the router cannot read roles from the query group")
        .hint("See the router's log; role howdah_router must be able to log in on every member.")
}
