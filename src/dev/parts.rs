//! Which program each part of the layout is, with which flags. Called by `dev`.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    directory::{Directory, DirectoryError},
    layout::{Container, Coordinator, Layout},
};
use crate::provision::process::Program;

/// A coordinator only closes its log.
const COORDINATOR_GRACE: Duration = Duration::from_secs(5);

/// A container shuts PostgreSQL down, which may have a checkpoint to write.
const CONTAINER_GRACE: Duration = Duration::from_secs(30);

/// What all parts have in common.
pub struct Parts<'a> {
    /// The binary that we are.
    executable: PathBuf,
    directory: &'a Directory,
    layout: &'a Layout,
    postgres_bin: &'a Path,
    restart: bool,
}

impl<'a> Parts<'a> {
    /// Parts run this same binary.
    pub fn new(
        directory: &'a Directory,
        layout: &'a Layout,
        postgres_bin: &'a Path,
        restart: bool,
    ) -> io::Result<Self> {
        Ok(Self { executable: std::env::current_exe()?, directory, layout, postgres_bin, restart })
    }

    /// `howdah coordinator`.
    pub fn coordinator(&self, it: &Coordinator) -> Result<Program, DirectoryError> {
        let name = format!("coordinator-{}", it.id);
        let shape = self.directory.shape();
        let peers: Vec<_> =
            self.layout.coordinators.iter().map(|it| format!("{}=http://127.0.0.1:{}", it.id, it.port)).collect();
        let flags = [
            ("--id", it.id.to_string()),
            ("--cluster", self.directory.cluster().to_string()),
            ("--listen", local(it.port)),
            ("--http", local(it.http)),
            ("--peers", peers.join(",")),
            ("--shards", shape.shards.to_string()),
            ("--replicas", shape.replicas.to_string()),
            ("--query-members", shape.query_nodes.to_string()),
        ];
        let mut arguments = arguments("coordinator", flags);
        arguments.extend(["--data-dir".into(), self.directory.part(&name)?.into()]);
        let retired = Some(retired(self.directory, it));
        Ok(Program { retired, ..self.program(name, arguments, COORDINATOR_GRACE) })
    }

    /// `howdah agent`.
    pub fn container(&self, it: &Container) -> Result<Program, DirectoryError> {
        let mut flags = vec![
            ("--name", it.name.clone()),
            ("--kind", if it.router.is_some() { "query" } else { "shard" }.to_owned()),
            ("--cluster", self.directory.cluster().to_string()),
            ("--coordinators", self.layout.coordinator_urls().join(",")),
            ("--host", "127.0.0.1".to_owned()),
            ("--port", it.postgres.to_string()),
            ("--postgres-listen", "127.0.0.1".to_owned()),
            ("--http", local(it.http)),
        ];
        flags.extend(it.wish.clone().map(|wish| ("--wish", wish)));
        flags.extend(it.zone.clone().map(|zone| ("--zone", zone)));
        if let Some(router) = it.router {
            flags.push(("--router-listen", local(router.sql)));
            flags.push(("--router-read-only-listen", local(router.read_only)));
            flags.push(("--router-http", local(router.http)));
        }
        let mut arguments = arguments("agent", flags);
        for (flag, path) in [
            ("--data-dir", self.directory.part(&it.name)?),
            ("--secret-file", self.directory.secret_file()),
            ("--owner-password-file", self.directory.owner_password_file()),
            ("--postgres-bin", self.postgres_bin.to_owned()),
        ] {
            arguments.extend([flag.into(), path.into()]);
        }
        Ok(self.program(it.name.clone(), arguments, CONTAINER_GRACE))
    }

    fn program(&self, name: String, arguments: Vec<OsString>, grace: Duration) -> Program {
        let log = self.directory.log(&name);
        Program {
            name,
            executable: self.executable.clone(),
            arguments,
            log,
            grace,
            restart: self.restart,
            retired: None,
        }
    }
}

/// The file that a coordinator writes when it has been removed from the cluster.
pub fn retired(directory: &Directory, it: &Coordinator) -> PathBuf {
    directory.path().join(format!("coordinator-{}", it.id)).join("retired")
}

fn arguments(role: &str, flags: impl IntoIterator<Item = (&'static str, String)>) -> Vec<OsString> {
    let head = [role.into(), "--die-with-parent".into()];
    head.into_iter().chain(flags.into_iter().flat_map(|(flag, value)| [flag.into(), value.into()])).collect()
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}
