//! Coming into line with a primary: asking it for its history, rewinding to it, cloning it.

use std::{fs, io, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    sync::watch,
    time::{interval, timeout},
};

use crate::{
    agent::core::{
        history::Lineage,
        inputs::Ancestry,
        settings::{AGENT_ROLE, REPLICATION_ROLE, conninfo},
    },
    model::{
        group::Container,
        numbers::{Lsn, Millis, Timeline},
    },
};

use super::{ActionError, Server, files, process, wal};

/// Per cent of a clone that is there.
pub type Progress = watch::Sender<u8>;

/// A primary that was just told to promote has its history within this; else the question is asked anew.
const EXAMINE: Duration = Duration::from_millis(1_500);

/// Between two questions.
const POLL: Duration = Duration::from_millis(5);

/// A checkpoint of a busy primary.
const CHECKPOINT: Duration = Duration::from_mins(2);

/// A rewind copies what has changed: at most everything.
const COPY: Duration = Duration::from_hours(24);

/// A base backup's WAL sender must not be taken for this member's standby.
const CLONE_NAME: &str = "howdah_clone";

impl Server {
    /// The history of the primary's timeline, and whether it still has the WAL after `ours`.
    pub async fn examine(&self, primary: &Container, timeline: Timeline, ours: Lsn) -> Result<Ancestry, ActionError> {
        let what = format!("asking {} for the history of timeline {timeline}", primary.id);
        let asked = timeout(EXAMINE, async {
            let session = self.connect_to(primary).await?;
            let (file, segment) = (wal::history_file(timeline), wal::segment_after(ours));
            let question = "SELECT pg_read_file($1, 0, 1000000, true),
                coalesce((SELECT bool_or(substr(name, 9) = $2) FROM pg_ls_waldir()), false)
                OR (NOT pg_is_in_recovery() AND pg_current_wal_lsn() <= $3::text::pg_lsn)";
            let mut every = interval(POLL);
            loop {
                every.tick().await;
                let row = session.client().query_one(question, &[&file, &segment, &ours.to_string()]).await;
                let row = row.map_err(ActionError::sql(&what))?;
                if let Some(text) = row.get::<_, Option<String>>(0) {
                    let lineage = Lineage::parse(&text).map_err(|error| ActionError::Refused(error.to_string()))?;
                    return Ok(Ancestry { timeline, lineage, has_our_wal: row.get(1), fetched: Millis(0) });
                }
            }
        });
        asked.await.map_err(|_| ActionError::Deadline { what: what.clone(), after: EXAMINE })?
    }

    /// What must have happened before a rewind: the primary's control file says which timeline it is on
    /// only after a checkpoint there.
    pub async fn prepare_rewind(&self, primary: &Container) -> Result<(), ActionError> {
        let session = self.connect_to(primary).await?;
        let what = format!("a checkpoint on {}", primary.id);
        match timeout(CHECKPOINT, session.client().simple_query("CHECKPOINT")).await {
            Ok(result) => result.map(drop).map_err(ActionError::sql(what)),
            Err(_) => Err(ActionError::Deadline { what, after: CHECKPOINT }),
        }
    }

    /// Stops, and takes back what `primary` does not have. The mark of unfinished work stands already.
    pub async fn rewind(&self, primary: &Container) -> Result<(), ActionError> {
        self.stop_fast().await?;
        let data = self.layout.data();
        // Where the last stop was not clean pg_rewind recovers first, in a mode that refuses to be a standby.
        match fs::remove_file(data.join("standby.signal")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ActionError::io("removing standby.signal")(error));
            }
            _ => {}
        }
        let mut command = self.account.command(&self.program("pg_rewind"));
        // What comes out is in recovery, so the server syncs all of it at its start, before the mark is taken
        // away; here it would only be done file by file.
        command.arg("--no-sync").arg("--target-pgdata").arg(&data).arg("--source-server");
        command.arg(conninfo(primary, AGENT_ROLE, "howdah_rewind") + " dbname=postgres");
        command.env("PGPASSWORD", self.secret.password(AGENT_ROLE).reveal());
        self.run("pg_rewind", &mut command, COPY).await
    }

    /// Fetches a copy of `primary` beside what is there.
    pub async fn fetch_copy(&self, primary: &Container, progress: &Progress) -> Result<(), ActionError> {
        let fresh = self.layout.fresh();
        self.end_programs().await?;
        remove(&fresh).await?;
        process::make_dir(self, &fresh)?;
        // Synced by the server at its start, as after a rewind, before what it replaces is dropped.
        let mut command = self.account.command(&self.program("pg_basebackup"));
        command.arg("-D").arg(&fresh).args(["-X", "stream", "-c", "fast", "-P", "--no-manifest", "--no-sync", "-d"]);
        command.arg(conninfo(primary, REPLICATION_ROLE, CLONE_NAME));
        command.env("PGPASSWORD", self.secret.password(REPLICATION_ROLE).reveal()).env("LC_ALL", "C");
        command.current_dir("/").kill_on_drop(true).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(ActionError::io("running pg_basebackup"))?;
        let said = child.stderr.take().expect("it was piped above");
        let said = follow_progress(said, progress).await;
        let status = child.wait().await.map_err(ActionError::io("running pg_basebackup"))?;
        if status.success() { Ok(()) } else { Err(process::failed("pg_basebackup", status, &said)) }
    }

    /// The copy becomes the data directory; what it replaces is kept aside until [`Server::drop_aside`]. Only what was there first is kept aside: what a broken-off
    /// earlier attempt has put in its place is ours to remove.
    pub async fn put_copy_in_place(&self) -> Result<(), ActionError> {
        self.stop_immediate().await?;
        self.end_programs().await?;
        let (data, fresh, aside) = (self.layout.data(), self.layout.fresh(), self.layout.aside());
        let rename = |from: &Path, to: &Path| {
            fs::rename(from, to).map_err(ActionError::io(format!("renaming {} to {}", from.display(), to.display())))
        };
        if aside.exists() {
            remove(&data).await?;
        } else if data.exists() {
            rename(&data, &aside)?;
        }
        rename(&fresh, &data)?;
        files::sync_dir(self.layout.root()).map_err(ActionError::io("syncing the agent's directory"))
    }

    /// What is here belongs to a group that has let go of this container: it is put aside, the newest only. What
    /// was never complete goes, and what it was to replace stays aside.
    pub async fn set_aside(&self, never_complete: bool) -> Result<(), ActionError> {
        self.stop_immediate().await?;
        self.end_programs().await?;
        let (data, aside) = (self.layout.data(), self.layout.aside());
        remove(&self.layout.fresh()).await?;
        if never_complete {
            remove(&data).await?;
        } else if data.exists() {
            remove(&aside).await?;
            let what = format!("renaming {} to {}", data.display(), aside.display());
            fs::rename(&data, &aside).map_err(ActionError::io(what))?;
        }
        files::sync_dir(self.layout.root()).map_err(ActionError::io("syncing the agent's directory"))
    }

    /// The clone has proved itself: what it replaced goes.
    pub async fn drop_aside(&self) -> Result<(), ActionError> {
        remove(&self.layout.aside()).await?;
        remove(&self.layout.fresh()).await
    }
}

async fn remove(path: &Path) -> Result<(), ActionError> {
    match tokio::fs::remove_dir_all(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ActionError::io(format!("removing {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Reads what `pg_basebackup` says to its end; gives what was not progress (at most its last 20 lines).
async fn follow_progress(said: impl AsyncRead + Unpin, progress: &Progress) -> String {
    let mut lines = BufReader::new(said).lines();
    let mut kept = std::collections::VecDeque::new();
    while let Ok(Some(line)) = lines.next_line().await {
        match percent(&line) {
            Some(percent) => {
                progress.send_replace(percent);
            }
            None => kept.push_back(line),
        }
        if kept.len() > 20 {
            kept.pop_front();
        }
    }
    Vec::from(kept).join("\n")
}

/// `22871/22871 kB (100%), 1/1 tablespace`.
fn percent(line: &str) -> Option<u8> {
    let (_, rest) = line.split_once('(')?;
    rest.split_once("%)")?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn progress_is_read() {
        assert_eq!(percent("  22871/22880 kB (99%), 0/1 tablespace"), Some(99));
        assert_eq!(percent("pg_basebackup: error: connection failed"), None);
    }
}
