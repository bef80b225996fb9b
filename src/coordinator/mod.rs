//! The coordinator: agrees with its peers on who does what. `core` decides, the rest acts.

pub mod core;
mod data_dir;
mod log_store;
