//! The only place that reads clocks, draws entropy, backs off, waits for signals and sets up
//! telemetry. Called by the roles' shells; never by `core` or `model`.

pub mod backoff;
pub mod causes;
pub mod clock;
pub mod entropy;
pub mod http;
pub mod metrics;
pub mod secret;
pub mod shutdown;
pub mod telemetry;
