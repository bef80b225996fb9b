//! Logs to stdout: JSON in containers, compact text elsewhere. `HOWDAH_LOG` filters
//! (`info`, `howdah::agent=debug,info`, …); `HOWDAH_LOG_FORMAT` is `json` or `text`. Called by `main`.

use std::{env, io::IsTerminal as _};

use tracing_subscriber::{EnvFilter, fmt};

/// A setting that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `HOWDAH_LOG`.
    #[error("HOWDAH_LOG: {0}; write for example HOWDAH_LOG=info or HOWDAH_LOG=howdah::agent=debug,info")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// `HOWDAH_LOG_FORMAT`.
    #[error("HOWDAH_LOG_FORMAT is {0:?}; write json or text")]
    Format(String),
}

/// Begins logging, for the whole process; a second call changes nothing.
pub fn start() -> Result<(), TelemetryError> {
    let filter = EnvFilter::builder().parse(env::var("HOWDAH_LOG").unwrap_or_else(|_| "info".to_owned()))?;
    // Whether another subscriber is there already matters to nobody: it logs as well.
    let _ = if json()? {
        tracing::subscriber::set_global_default(fmt().json().flatten_event(true).with_env_filter(filter).finish())
    } else {
        let colours = std::io::stdout().is_terminal();
        tracing::subscriber::set_global_default(fmt().compact().with_ansi(colours).with_env_filter(filter).finish())
    };
    Ok(())
}

/// A container's entry point is process 1.
fn json() -> Result<bool, TelemetryError> {
    match env::var("HOWDAH_LOG_FORMAT").as_deref() {
        Ok("json") => Ok(true),
        Ok("text") => Ok(false),
        Ok(other) => Err(TelemetryError::Format(other.to_owned())),
        Err(_) => Ok(std::process::id() == 1),
    }
}
