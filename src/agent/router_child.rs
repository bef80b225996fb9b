//! The router of a query container: a process of its own, started again whenever it ends, gone when the
//! agent is. Called by `run` where the configuration has a router.

use std::{env, io, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::coordinator_client;
use crate::{config::RouterConfig, host::backoff::Backoff};

/// A router that dies at once is started again no more often than every few seconds.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// One that lived this long was well.
const WELL: Duration = Duration::from_secs(10);

/// What a router may take to finish what its sessions are doing.
const STOP: Duration = Duration::from_secs(5);

/// Runs the router until `stop`; `pid` always holds its process.
/// `coordinators` is where they are now; the configuration may be older.
pub async fn supervise(
    config: RouterConfig,
    coordinators: watch::Receiver<Vec<String>>,
    pid: watch::Sender<Option<u32>>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    while !stop.is_cancelled() {
        let addresses = coordinator_client::addresses(&coordinators.borrow(), &config.coordinators);
        match start(&config, &addresses) {
            Ok(mut child) => {
                pid.send_replace(child.id());
                tokio::select! {
                    () = stop.cancelled() => end(&mut child).await,
                    status = child.wait() => tracing::error!(?status, "the router ended: starting it again"),
                    () = async { sleep(WELL).await; backoff.reset(); std::future::pending::<()>().await } => {}
                }
                pid.send_replace(None);
            }
            Err(error) => tracing::error!(%error, "the router could not be started"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(backoff.step()) => {}
        }
    }
}

/// Everything goes through the environment, which only this user can read; of ours nothing but how to
/// log is inherited.
fn start(config: &RouterConfig, coordinators: &[String]) -> io::Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("HOWDAH_") && !text.starts_with("HOWDAH_LOG") {
            command.env_remove(name);
        }
    }
    command.args(["router", "--die-with-parent"]);
    command.env("HOWDAH_NAME", config.name.as_str());
    command.env("HOWDAH_CLUSTER", config.cluster.as_str());
    command.env("HOWDAH_COORDINATORS", coordinators.join(","));
    command.env("HOWDAH_LISTEN", config.listen.to_string());
    if let Some(address) = config.read_only_listen {
        command.env("HOWDAH_READ_ONLY_LISTEN", address.to_string());
    }
    if let Some(address) = config.http {
        command.env("HOWDAH_HTTP", address.to_string());
    }
    command.env("HOWDAH_ADVERTISE", &config.advertise);
    command.env("HOWDAH_SECRET", config.secret.reveal());
    command.env("HOWDAH_WORKERS", config.workers.to_string());
    command.stdin(Stdio::null()).kill_on_drop(true).spawn()
}

async fn end(child: &mut Child) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
        let _gone_already = kill_process(pid, Signal::TERM);
    }
    if timeout(STOP, child.wait()).await.is_err()
        && let Err(error) = child.kill().await
    {
        tracing::warn!(%error, "the router could not be killed");
    }
}
