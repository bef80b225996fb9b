//! An error and its causes in one line: what people and logs see. Called by `main` and the shells.

use std::error::Error;

/// An error and what caused it, in one line; causes that the text already holds are left out.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
