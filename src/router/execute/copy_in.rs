//! `COPY … FROM STDIN` into a distributed or reference table: every row goes, as it came, to the shard
//! of its key while it streams. One COPY runs on each shard, all in one transaction. Called by the
//! session.

use std::{future::poll_fn, task::Poll};

use bytes::{Bytes, BytesMut};

use super::{
    bucket::{self, Found},
    error::ExecError,
    fan::HIGH_WATER,
    server,
};
use crate::{
    model::ids::GroupId,
    router::{
        core::{
            catalog::Catalog,
            copy_split::{Piece, SplitError, Splitter},
            error::UserError,
            leaf_names,
            merge::COPY_TRAILER,
            plan::{CopyFormat, CopyIn, CopyKey},
            protocol::{backend, frame, frontend},
        },
        pool::server::ServerError,
        session::{Client, Participant, Session},
    },
};

/// Rows are sent in messages of about this size: fewer headers than rows, and no row waits long.
const MESSAGE: usize = 32 * 1024;

/// Runs a COPY from the client.
pub async fn run(session: &mut Session, plan: &CopyIn, catalog: &Catalog) -> Result<(), ExecError> {
    let query = session.query_group()?;
    let (groups, placement) = match &plan.key {
        Some(key) => {
            let placement = super::placement(session, key.colocation).await?;
            (super::distinct(&placement), placement)
        }
        None => (super::reference::copies(session, &plan.table, catalog).await?, Vec::new()),
    };
    session.open_block();
    super::join_all(session, &groups, false).await?;
    super::join_all(session, std::slice::from_ref(&query), false).await?;
    let mut copy = CopyInto::new(plan, catalog, &groups, &placement);
    let Session { client, participants, .. } = session;
    let copied = async {
        let response = copy.begin(participants, &plan.text).await?;
        client.output.extend_from_slice(&response);
        copy.stream(client, participants, &query).await?;
        copy.finish(participants, &query).await
    };
    let copied = copied.await.map_err(|error| error.abandoning(&groups))?;
    for participant in participants.iter_mut() {
        participant.wrote |= copied.wrote.contains(participant.group());
    }
    backend::command_complete(&mut client.output, &format!("COPY {}", copied.rows));
    Ok(())
}

/// One shard's COPY.
struct Target {
    group: GroupId,
    /// Rows that are not yet in a message.
    pending: BytesMut,
    rows: u64,
    /// It is not, or no longer, waiting for data.
    ended: bool,
}

/// A COPY over several groups.
pub struct CopyInto<'a> {
    plan: &'a CopyIn,
    catalog: &'a Catalog,
    targets: Vec<Target>,
    /// Which target holds bucket `i`; empty for a reference table.
    by_bucket: Vec<usize>,
    header: Bytes,
}

/// What was copied.
#[derive(Debug)]
pub struct Copied {
    /// Rows in all.
    pub rows: u64,
    /// Groups that got any.
    pub wrote: Vec<GroupId>,
}

impl<'a> CopyInto<'a> {
    /// Into these groups: `placement[i]` holds bucket `i`; for a reference table every group gets all.
    pub fn new(plan: &'a CopyIn, catalog: &'a Catalog, groups: &[GroupId], placement: &[GroupId]) -> Self {
        let target = |group: &GroupId| Target { group: group.clone(), pending: BytesMut::new(), rows: 0, ended: false };
        let position = |group| groups.iter().position(|known| known == group).unwrap_or(0);
        Self {
            plan,
            catalog,
            targets: groups.iter().map(target).collect(),
            by_bucket: placement.iter().map(position).collect(),
            header: Bytes::new(),
        }
    }

    /// Begins COPY everywhere. Answers the first server's `CopyInResponse`, for the client.
    pub async fn begin(&mut self, servers: &mut [Participant], text: &str) -> Result<Bytes, ExecError> {
        for target in &self.targets {
            let server = server(servers, &target.group);
            frontend::query(&mut server.output, text.as_bytes());
            server.send().await.map_err(|lost| ExecError::lost(&target.group, lost))?;
        }
        let mut response = None;
        let mut refused = None;
        for target in &mut self.targets {
            let server = server(servers, &target.group);
            loop {
                let frame = server.message().await.map_err(|lost| ExecError::lost(&target.group, lost))?;
                match frame.tag {
                    b'G' => {
                        response.get_or_insert(frame.bytes);
                        break;
                    }
                    b'E' => refused = Some(error(self.catalog, frame.body())),
                    b'Z' => {
                        target.ended = true;
                        break;
                    }
                    _ => {}
                }
            }
        }
        match (refused, response) {
            (Some(error), _) => {
                self.fail(servers, "another shard refused").await?;
                Err(error)
            }
            (None, Some(response)) => Ok(response),
            (None, None) => Err(ExecError::User(UserError::error("XX000", "COPY did not begin"))),
        }
    }

    /// Passes the client's data on until it ends. On any error every COPY is ended, none with success.
    pub async fn stream(
        &mut self,
        client: &mut Client,
        servers: &mut [Participant],
        query: &GroupId,
    ) -> Result<(), ExecError> {
        let mut splitter = self.plan.key.as_ref().map(|key| Splitter::new(self.plan.format.clone(), key.field));
        loop {
            let ended = self.next_message(client, servers, splitter.as_mut()).await;
            let routed = match (ended, splitter.as_mut()) {
                (Ok(ended), Some(splitter)) => self.route(splitter, servers, query).await.map(|()| ended),
                (other, _) => other,
            };
            match routed {
                Ok(false) => self.settle(servers, HIGH_WATER).await?,
                Ok(true) => return Ok(()),
                Err(ExecError::Stop(stop)) => return Err(ExecError::Stop(stop)),
                Err(error) => {
                    self.fail(servers, "COPY failed").await?;
                    return Err(error);
                }
            }
        }
    }

    /// One message of the client; true where it was the last.
    async fn next_message(
        &mut self,
        client: &mut Client,
        servers: &mut [Participant],
        splitter: Option<&mut Splitter>,
    ) -> Result<bool, ExecError> {
        let frame = loop {
            if let Some(frame) = client.take().map_err(ExecError::Stop)? {
                break frame;
            }
            client.flush().await.map_err(ExecError::Stop)?;
            client.fill().await.map_err(ExecError::Stop)?;
        };
        match frame.tag {
            b'd' => {
                match splitter {
                    Some(splitter) => splitter.push(frame.body()),
                    None => self.everywhere(servers, frame.body()),
                }
                Ok(false)
            }
            b'c' => {
                if let Some(splitter) = splitter {
                    splitter.finish();
                }
                Ok(true)
            }
            b'f' => {
                let reason =
                    String::from_utf8_lossy(frame.body().strip_suffix(b"\0").unwrap_or(frame.body())).into_owned();
                Err(ExecError::User(UserError::error("57014", format!("COPY from stdin failed: {reason}"))))
            }
            // Manual, "COPY Operations": Flush and Sync are ignored.
            b'H' | b'S' => Ok(false),
            tag => {
                let what = format!("unexpected message type 0x{tag:02X} during COPY from stdin");
                Err(ExecError::User(UserError::error("08P01", what)))
            }
        }
    }

    /// A reference table: the same bytes everywhere.
    pub fn everywhere(&mut self, servers: &mut [Participant], data: &[u8]) {
        for target in &mut self.targets {
            target.rows = 1;
            frontend::copy_data(&mut server(servers, &target.group).output, data);
        }
    }

    /// Gives out every row that is complete.
    async fn route(
        &mut self,
        splitter: &mut Splitter,
        servers: &mut [Participant],
        query: &GroupId,
    ) -> Result<(), ExecError> {
        let Some(key) = &self.plan.key else { return Ok(()) };
        loop {
            let (bytes, line, question) = match splitter.next().map_err(|error| self.split_error(&error))? {
                None => return Ok(()),
                Some(Piece::Header(bytes)) => {
                    self.header = Bytes::copy_from_slice(bytes);
                    continue;
                }
                Some(Piece::Row { bytes, key: value, line }) => match bucket::of_copied(key, &value) {
                    Found::Bucket(bucket) => {
                        self.put(servers, bucket, bytes);
                        continue;
                    }
                    Found::Null => return Err(self.null_key(key, line)),
                    Found::Ask(question) => (bytes.to_vec(), line, question),
                },
            };
            let asker = server(servers, query);
            let bucket = bucket::ask(asker, query, self.catalog, &question, key.bucket_count).await;
            let bucket = bucket.map_err(|error| error.in_line(&self.plan.table.name, line))?;
            self.put(servers, bucket, &bytes);
            self.settle(servers, HIGH_WATER).await?;
        }
    }

    /// Some of the data, not from a client.
    pub async fn feed(
        &mut self,
        servers: &mut [Participant],
        splitter: Option<&mut Splitter>,
        data: &[u8],
        query: &GroupId,
    ) -> Result<(), ExecError> {
        let routed = if let Some(splitter) = splitter {
            splitter.push(data);
            self.route(splitter, servers, query).await
        } else {
            self.everywhere(servers, data);
            Ok(())
        };
        self.settled(servers, routed).await
    }

    /// No more data, not from a client.
    pub async fn feed_end(
        &mut self,
        servers: &mut [Participant],
        splitter: Option<&mut Splitter>,
        query: &GroupId,
    ) -> Result<(), ExecError> {
        let Some(splitter) = splitter else { return Ok(()) };
        splitter.finish();
        let routed = self.route(splitter, servers, query).await;
        self.settled(servers, routed).await
    }

    async fn settled(&mut self, servers: &mut [Participant], routed: Result<(), ExecError>) -> Result<(), ExecError> {
        match routed {
            Ok(()) => self.settle(servers, HIGH_WATER).await,
            Err(error) => {
                self.fail(servers, "COPY failed").await?;
                Err(error)
            }
        }
    }

    /// As [`Self::route`], where every key can be hashed here.
    pub fn route_known(&mut self, splitter: &mut Splitter, servers: &mut [Participant]) -> Result<(), ExecError> {
        let Some(key) = &self.plan.key else { return Ok(()) };
        while let Some(piece) = splitter.next().map_err(|error| self.split_error(&error))? {
            match piece {
                Piece::Header(bytes) => self.header = Bytes::copy_from_slice(bytes),
                Piece::Row { bytes, key: value, line } => match bucket::of_copied(key, &value) {
                    Found::Bucket(bucket) => self.put(servers, bucket, bytes),
                    Found::Null => return Err(self.null_key(key, line)),
                    Found::Ask(_) => return Err(super::move_rows::cannot_hash(&self.plan.table.name)),
                },
            }
        }
        Ok(())
    }

    fn put(&mut self, servers: &mut [Participant], bucket: u32, row: &[u8]) {
        let target = &mut self.targets[self.by_bucket[bucket as usize]];
        if target.rows == 0 {
            target.pending.extend_from_slice(&self.header);
        }
        target.rows += 1;
        target.pending.extend_from_slice(row);
        if target.pending.len() >= MESSAGE {
            let server = server(servers, &target.group);
            frontend::copy_data(&mut server.output, &target.pending);
            target.pending.clear();
        }
    }

    /// Waits until no server has more than `limit` bytes to be sent, looking for early errors.
    pub async fn settle(&mut self, servers: &mut [Participant], limit: usize) -> Result<(), ExecError> {
        let failed = poll_fn(|cx| {
            let mut waiting = false;
            for target in &self.targets {
                let server = server(servers, &target.group);
                if server.output.is_empty() {
                    continue;
                }
                // Reading meanwhile shows an error before all data has gone in vain.
                if let Poll::Ready(Err(lost)) = server.poll_exchange(cx) {
                    return Poll::Ready(Err(ExecError::lost(&target.group, lost)));
                }
                if has_error(&server.input) {
                    return Poll::Ready(Ok(true));
                }
                waiting |= server.output.len() > limit;
            }
            if waiting { Poll::Pending } else { Poll::Ready(Ok(false)) }
        })
        .await?;
        if !failed {
            return Ok(());
        }
        Err(self
            .fail(servers, "another shard refused")
            .await?
            .unwrap_or_else(|| ExecError::User(UserError::error("XX000", "COPY was ended by a shard"))))
    }

    /// The data is complete: ends every COPY and reads the counts.
    pub async fn finish(&mut self, servers: &mut [Participant], query: &GroupId) -> Result<Copied, ExecError> {
        for target in &mut self.targets {
            let server = server(servers, &target.group);
            // A COPY without rows still needs the binary header that the client sent.
            if target.rows == 0 && self.plan.format == CopyFormat::Binary {
                target.pending.extend_from_slice(&self.header);
            }
            if self.plan.key.is_some() && self.plan.format == CopyFormat::Binary {
                target.pending.extend_from_slice(COPY_TRAILER);
            }
            if !target.pending.is_empty() {
                frontend::copy_data(&mut server.output, &target.pending);
                target.pending.clear();
            }
            frontend::copy_done(&mut server.output);
        }
        self.settle(servers, 0).await?;
        let (mut rows, mut refused) = (0, None);
        for target in &self.targets {
            match self.end(servers, &target.group).await? {
                Ok(count) if self.plan.key.is_some() || target.group == *query => rows += count,
                Ok(_) => {}
                Err(error) => refused = Some(refused.unwrap_or(error)),
            }
        }
        if let Some(error) = refused {
            return Err(error);
        }
        let wrote = self.targets.iter().filter(|target| target.rows > 0).map(|target| target.group.clone()).collect();
        Ok(Copied { rows, wrote })
    }

    /// Ends every COPY without success; the first error that is not our own doing, if any.
    async fn fail(&mut self, servers: &mut [Participant], reason: &str) -> Result<Option<ExecError>, ExecError> {
        let mut first = None;
        // One that has ended its COPY by an error ignores this.
        for target in self.targets.iter().filter(|target| !target.ended) {
            frontend::copy_fail(&mut server(servers, &target.group).output, reason);
        }
        for target in self.targets.iter().filter(|target| !target.ended) {
            if let Err(ExecError::Refused(error)) = self.end(servers, &target.group).await?
                && error.sqlstate() != "57014"
            {
                first.get_or_insert(ExecError::Refused(error));
            }
        }
        Ok(first)
    }

    /// Reads one server's end of COPY.
    async fn end(&self, servers: &mut [Participant], group: &GroupId) -> Result<Result<u64, ExecError>, ExecError> {
        let server = server(servers, group);
        let mut result = Ok(0);
        loop {
            let frame = server.message().await.map_err(|lost| ExecError::lost(group, lost))?;
            match frame.tag {
                b'C' => {
                    result =
                        Ok(super::fan::count_of(frame.body().strip_suffix(b"\0").unwrap_or_default()).unwrap_or(0));
                }
                b'E' => result = Err(error(self.catalog, frame.body())),
                b'Z' => return Ok(result),
                _ => {}
            }
        }
    }

    fn null_key(&self, key: &CopyKey, line: u64) -> ExecError {
        let refusal = crate::router::core::plan::null_key(&self.plan.table.name, &key.column);
        ExecError::from(refusal).in_line(&self.plan.table.name, line)
    }

    fn split_error(&self, error: &SplitError) -> ExecError {
        let sqlstate = if matches!(error, SplitError::TooLong { .. }) { "54000" } else { "22P04" };
        ExecError::User(UserError::error(sqlstate, format!("COPY {}: {error}", self.plan.table.name)))
    }
}

fn error(catalog: &Catalog, body: &[u8]) -> ExecError {
    ExecError::Refused(ServerError(leaf_names::for_user(body, catalog)))
}

/// Is there an `ErrorResponse` among the whole messages?
fn has_error(mut input: &[u8]) -> bool {
    while let Ok(Some(head)) = frame::head(input) {
        if head.tag == b'E' {
            return true;
        }
        let Some(rest) = input.get(head.size..) else { return false };
        input = rest;
    }
    false
}
