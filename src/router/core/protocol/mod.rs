//! [pure] PostgreSQL's wire protocol, version 3 (manual, chapter "Frontend/Backend Protocol"):
//! framing, the few bodies that a router must read, and the messages it writes itself. Everything
//! else passes as bytes. Called by the session, the pool and the executors.

pub mod backend;
pub mod frame;
pub mod frontend;
pub mod read;
pub mod startup;
#[cfg(test)]
mod tests;
