//! [pure] What an agent does next: the whole of what it knows goes in as a value ([`inputs::Inputs`]), one
//! action and the reason come out ([`decide::decide`]). Called by the runner after every event.
//!
//! ```text
//! event (events) → goal accepted? (goals) → state (states) × order → rule (transitions) → action and note (decide)
//! ```

pub mod action;
pub mod deaf;
pub mod decide;
pub mod events;
pub mod goals;
pub mod history;
pub mod inputs;
pub mod report;
pub mod restart;
pub mod settings;
pub mod states;
pub mod transitions;
