//! Accepts clients and hands each to the least loaded worker thread, where it stays; and what a worker
//! thread does. Called by the router's `run`.

use std::{
    io,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::LocalSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    cancel,
    pool::Wanted,
    session::serve,
    worker::{Job, Shared, Worker},
};

/// Clients on their way to a worker: one that is this far behind takes no more.
pub const DOOR: usize = 1024;
/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Between two looks for idle connections to close.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// Accepts until cancelled.
pub async fn accept(listener: TcpListener, shared: Arc<Shared>, read_only: bool, cancel: CancellationToken) {
    loop {
        let Some(accepted) = cancel.run_until_cancelled(listener.accept()).await else { return };
        let handed = match accepted {
            Ok((stream, _)) => hand_over(stream, &shared, read_only).await,
            Err(error) => Err(error),
        };
        if let Err(error) = handed {
            tracing::warn!(%error, "a client could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

async fn hand_over(stream: TcpStream, shared: &Shared, read_only: bool) -> io::Result<()> {
    let stream = stream.into_std()?;
    let loads = shared.loads.iter().map(|load| load.load(Ordering::Relaxed));
    let (index, _) = loads.enumerate().min_by_key(|(_, load)| *load).expect("there is a worker");
    shared.loads[index].fetch_add(1, Ordering::Relaxed);
    // A worker that has ended is the end of the process.
    let _ = shared.doors[index].send(Job::Client { stream, read_only }).await;
    Ok(())
}

/// Starts worker `index` on a thread of its own, until cancelled.
pub fn start_worker(
    index: usize,
    shared: Arc<Shared>,
    jobs: mpsc::Receiver<Job>,
    cancel: CancellationToken,
) -> io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let work = cancel.run_until_cancelled(work(index, shared, jobs));
        LocalSet::new().block_on(&runtime, work);
    })
}

async fn work(index: usize, shared: Arc<Shared>, mut jobs: mpsc::Receiver<Job>) {
    let number = u32::try_from(index).expect("there are at most 256 workers");
    let worker = Rc::new(Worker::new(number, shared.clone()));
    let mut topology = shared.topology.clone();
    topology.mark_changed();
    let mut tidy = tokio::time::interval(TIDY_EVERY);
    loop {
        tokio::select! {
            Ok(()) = topology.changed() => {
                let newest = topology.borrow_and_update().clone();
                let revision = newest.revision;
                worker.pools.update(newest);
                shared.revisions[index].store(revision.0, Ordering::Release);
            }
            Some(job) = jobs.recv() => begin(&worker, index, job),
            _ = tidy.tick() => worker.pools.tidy(),
        }
    }
}

fn begin(worker: &Rc<Worker>, index: usize, job: Job) {
    match job {
        Job::Client { stream, read_only } => {
            let worker = worker.clone();
            let wanted = if read_only { Wanted::Standby } else { Wanted::Primary };
            tokio::task::spawn_local(async move {
                match TcpStream::from_std(stream) {
                    Ok(stream) => serve(worker.clone(), stream, wanted).await,
                    Err(error) => tracing::warn!(%error, "a client could not be served"),
                }
                worker.shared.loads[index].fetch_sub(1, Ordering::Relaxed);
            });
        }
        Job::Cancel { pid, secret, fresh } => {
            let worker = worker.clone();
            tokio::task::spawn_local(async move { cancel::perform(&worker, pid, secret, fresh).await });
        }
    }
}
