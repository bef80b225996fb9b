//! raft-rs logs through slog: this hands its lines to tracing. Called by `run`.

use std::fmt::{self, Write as _};

use slog::{Drain, KV as _, Level, Logger, Never, OwnedKVList, Record, o};

/// The logger that a replica gets.
pub fn logger() -> Logger {
    Logger::root(ToTracing, o!())
}

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), Never> {
        // raft-rs tells every vote at info: that is a detail here.
        match record.level() {
            Level::Critical | Level::Error => tracing::error!("{}", Line(record)),
            Level::Warning => tracing::warn!("{}", Line(record)),
            Level::Info => tracing::debug!("{}", Line(record)),
            Level::Debug | Level::Trace => tracing::trace!("{}", Line(record)),
        }
        Ok(())
    }
}

/// A record as one line, written only if somebody reads it.
struct Line<'a>(&'a Record<'a>);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = Fields(String::new());
        self.0.kv().serialize(self.0, &mut fields).map_err(|_| fmt::Error)?;
        write!(f, "raft: {}{}", self.0.msg(), fields.0)
    }
}

struct Fields(String);

impl slog::Serializer for Fields {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}")?;
        Ok(())
    }
}
