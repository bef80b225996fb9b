//! [pure] What a client is told when something goes wrong: a chosen text, SQLSTATE, detail and hint.
//! The cause goes to the log, never to the client. Called wherever the router itself refuses or gives up.

use std::fmt;

use bytes::{BufMut, BytesMut};

use super::protocol::frame::{put, put_text};

/// What becomes of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The connection is closed.
    Fatal,
}

/// An error as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserError {
    /// What becomes of the session.
    pub severity: Severity,
    /// Five characters (manual, "PostgreSQL Error Codes").
    pub sqlstate: &'static str,
    /// What happened, to what.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
    /// Where in the statement, counted in characters from 1.
    pub position: Option<u32>,
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.sqlstate)
    }
}

impl std::error::Error for UserError {}

impl UserError {
    /// A failed statement.
    pub fn error(sqlstate: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { severity: Severity::Error, sqlstate, message, detail: None, hint: None, position: None }
    }

    /// The end of the connection.
    pub fn fatal(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Fatal, ..Self::error(sqlstate, message) }
    }

    /// With more about it.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// With what to do next.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Something that PostgreSQL does and Howdah does not.
    pub fn unsupported(what: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self::error("0A000", format!("{what} is not supported by Howdah")).hint(hint)
    }

    /// The client broke the protocol.
    pub fn protocol(why: impl fmt::Display) -> Self {
        Self::fatal("08P01", why.to_string())
    }

    /// A statement in a failed transaction block.
    pub fn in_failed_transaction() -> Self {
        Self::error("25P02", "current transaction is aborted, commands ignored until end of transaction block")
    }

    /// A transaction lost its primary before COMMIT: nothing of it happened.
    pub fn lost_transaction(group: impl fmt::Display) -> Self {
        Self::error(
            "40001",
            format!("the transaction was rolled back because the primary of group \"{group}\" was lost"),
        )
        .hint("Run the transaction again; nothing of it was committed.")
    }

    /// A commit, or a statement that may have written, was sent and never answered.
    pub fn outcome_unknown(group: impl fmt::Display) -> Self {
        Self::error(
            "08007",
            format!("the primary of group \"{group}\" was lost before it answered: the outcome is unknown"),
        )
        .detail("The work may have been committed or not.")
        .hint("Look whether it is there before running it again.")
    }

    /// A commit that waits for standbys was cancelled: it is on the primary and maybe nowhere else.
    pub fn not_acknowledged() -> Self {
        Self::error("08007", "the commit was not acknowledged by a standby: its outcome is unknown")
            .detail(
                "The transaction is committed on the primary but the wait for synchronous replication was cancelled.",
            )
            .hint("It is lost if the primary is lost before a standby has it; look before running it again.")
    }

    /// A group stayed without a primary for too long.
    pub fn no_primary(group: impl fmt::Display) -> Self {
        Self::error("57P03", format!("group \"{group}\" has had no primary for longer than failover_wait"))
            .hint("Run `howdah status` to see what the group waits for; try again later.")
    }

    /// Too many wait for a primary already. 53000, "insufficient resources": what is used up is this router's
    /// memory, nothing was run, and a little later it may be; drivers and their pools take that class for
    /// transient without giving up the connection, as they would for 57P03 (the primary is missing for
    /// longer than a client should wait).
    pub fn hold_full(group: impl fmt::Display) -> Self {
        Self::error("53000", format!("group \"{group}\" has no primary now, and too many statements wait for one"))
            .detail("The statement was not run.")
            .hint("Try again in a moment; `howdah status` shows what the group waits for.")
    }

    /// A request to cancel came while the statement waited.
    pub fn cancelled() -> Self {
        Self::error("57014", "canceling statement due to user request")
    }

    /// An administrator ended the server process that worked for a statement, and nothing else.
    pub fn terminated(group: impl fmt::Display) -> Self {
        Self::error("57P01", "terminating connection due to administrator command")
            .detail(format!("The server process of group \"{group}\" that ran the statement was ended."))
    }

    /// No server connection became free in time.
    pub fn pool_exhausted(group: impl fmt::Display, limit: usize) -> Self {
        Self::error("53300", format!("all {limit} server connections of this user to group \"{group}\" stay in use"))
            .hint("Keep transactions short, or end sessions that hold temporary tables, cursors or advisory locks.")
    }

    /// The message with its severity as protocol bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        let severity = match self.severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        put(out, b'E', |out| {
            let mut field = |kind: u8, text: &str| {
                out.put_u8(kind);
                put_text(out, text.as_bytes());
            };
            field(b'S', severity);
            field(b'V', severity);
            field(b'C', self.sqlstate);
            field(b'M', &self.message);
            self.detail.iter().for_each(|text| field(b'D', text));
            self.hint.iter().for_each(|text| field(b'H', text));
            self.position.iter().for_each(|at| field(b'P', &at.to_string()));
            out.put_u8(0);
        });
    }
}

/// Appends a warning.
pub fn warning(out: &mut BytesMut, sqlstate: &str, message: &str) {
    put(out, b'N', |out| {
        for (kind, text) in [(b'S', "WARNING"), (b'V', "WARNING"), (b'C', sqlstate), (b'M', message)] {
            out.put_u8(kind);
            put_text(out, text.as_bytes());
        }
        out.put_u8(0);
    });
}
