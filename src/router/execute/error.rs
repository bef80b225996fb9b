//! What can go wrong while a plan runs, before it is known what that means to the session. Called by
//! the executors.

use crate::{
    model::ids::GroupId,
    router::{
        core::{catalog::Catalog, error::UserError, leaf_names, plan::Refusal},
        pool::server::{CallError, Lost, ServerError},
        session::{Fault, Session, Stop},
    },
};

/// Why a plan did not run to its end.
#[derive(Debug)]
pub enum ExecError {
    /// PostgreSQL refused; in the user's names.
    Refused(ServerError),
    /// We refuse.
    User(UserError),
    /// A server was lost.
    Lost(GroupId, Lost),
    /// The client is gone.
    Stop(Stop),
    /// The session has judged it already.
    Fault(Fault),
    /// Connections of these groups were left in the middle of something.
    Abandoned(Vec<GroupId>, Box<ExecError>),
}

impl From<Fault> for ExecError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<UserError> for ExecError {
    fn from(error: UserError) -> Self {
        Self::User(error)
    }
}

impl From<Refusal> for ExecError {
    fn from(refusal: Refusal) -> Self {
        Self::User(user_error(refusal))
    }
}

impl ExecError {
    /// A lost server.
    pub fn lost(group: &GroupId, lost: Lost) -> Self {
        Self::Lost(group.clone(), lost)
    }

    /// A statement of ours failed on a group.
    pub fn call(group: &GroupId, error: CallError, catalog: &Catalog) -> Self {
        match error {
            CallError::Lost(lost) => Self::lost(group, lost),
            CallError::Refused(error) => Self::Refused(in_user_names(&error, catalog)),
            CallError::Unacknowledged => Self::User(UserError::not_acknowledged()),
        }
    }

    /// Says in which line of a COPY it happened.
    #[must_use]
    pub fn in_line(self, table: &str, line: u64) -> Self {
        match self {
            Self::User(error) if error.detail.is_none() => {
                Self::User(error.detail(format!("COPY {table}, line {line}")))
            }
            Self::Refused(error) => {
                let context = format!("COPY {table}, line {line}");
                Self::Refused(ServerError(leaf_names::with_context(&error.0, &context)))
            }
            other => other,
        }
    }

    /// Where the error is a lost server, the others of `groups` are left in the middle of something too.
    #[must_use]
    pub fn abandoning(self, groups: &[GroupId]) -> Self {
        match self {
            lost @ Self::Lost(..) => Self::Abandoned(groups.to_vec(), Box::new(lost)),
            other => other,
        }
    }

    /// What it means to the session. A lost server leaves it, and so do abandoned connections: their end
    /// rolls them back.
    pub fn judge(self, session: &mut Session) -> Fault {
        match self {
            Self::Refused(error) => Fault::Server(error),
            Self::User(error) => Fault::Refused(error),
            Self::Stop(stop) => Fault::Stop(stop),
            Self::Fault(fault) => fault,
            Self::Abandoned(groups, why) => {
                let lost = if let Self::Lost(group, _) = &*why { Some(group.clone()) } else { None };
                for group in groups.iter().filter(|group| Some(*group) != lost.as_ref()) {
                    if let Some(at) = session.find(group) {
                        session.remove(at);
                    }
                }
                why.judge(session)
            }
            Self::Lost(group, lost) => match session.find(&group) {
                Some(at) => session.lost(at, &lost),
                None => Fault::Refused(UserError::lost_transaction(&group)),
            },
        }
    }
}

/// A planner's refusal as an error.
pub fn user_error(refusal: Refusal) -> UserError {
    UserError { detail: refusal.detail, hint: refusal.hint, ..UserError::error(refusal.sqlstate, refusal.message) }
}

/// A shard's error in the user's names.
pub fn in_user_names(error: &ServerError, catalog: &Catalog) -> ServerError {
    ServerError(leaf_names::for_user(&error.0, catalog))
}
