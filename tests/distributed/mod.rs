//! Distributed execution through the real router, over several real PostgreSQL as groups: placement is
//! the test's, everything else is the product's.

mod copy;
mod harness;
mod settling;
mod tables;
mod transactions;
