//! Distributed execution through the real router, over several real PostgreSQL as groups: placement is
//! the test's, everything else is the product's.

mod cancel;
mod copy;
mod harness;
mod lost_commit;
mod old_catalog;
mod proxy;
mod settling;
mod tables;
mod transactions;
mod unacknowledged;
