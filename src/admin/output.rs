//! Shows what was read: a table for people, JSON or YAML for programs. Called by `commands`.

use std::io::{self, Write as _};

use anyhow::Context as _;
use serde::Serialize;

use super::arguments::Output;

/// Writes `value` in the wanted form; `table` makes the one for people.
pub fn show<T: Serialize>(output: Output, value: &T, table: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    let text = match output {
        Output::Table => table(value),
        Output::Json => serde_json::to_string_pretty(value).context("cannot write JSON")?,
        Output::Yaml => serde_yaml_ng::to_string(value).context("cannot write YAML")?,
    };
    line(&text)
}

/// Writes a text and a line end. A reader that went away (`| head`) is not an error.
pub fn line(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to stdout"),
    }
}
