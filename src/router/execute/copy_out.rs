//! `COPY … TO STDOUT` of distributed rows: every shard's part, one after the other, under one header
//! and one trailer. All shards begin at once and run ahead as far as the buffers between us allow. Called
//! by [`super::run`].

use bytes::Bytes;

use super::{
    Ask,
    error::{ExecError, in_user_names},
    fan::{HIGH_WATER, count_of},
    scatter::bucket_of,
};
use crate::{
    model::ids::GroupId,
    router::{
        cancel,
        core::{
            catalog::Catalog,
            merge::{COPY_HEADER, COPY_TRAILER},
            plan::CopyOut,
            protocol::{backend, frame, frontend},
        },
        pool::server::ServerError,
        session::Session,
    },
};

/// Runs it.
pub async fn run(session: &mut Session, plan: &CopyOut, ask: &Ask, catalog: &Catalog) -> Result<(), ExecError> {
    let placement = super::placement(session, plan.colocation).await?;
    let mut groups = super::distinct(&placement);
    if let Some(key) = &plan.key
        && let Some(bucket) = bucket_of(session, key, ask, catalog, plan.bucket_count).await?
    {
        groups = vec![placement[bucket as usize].clone()];
    }
    super::join_all(session, &groups, false).await?;
    let mut sql = String::new();
    plan.shard.render(None, &mut sql);
    for group in &groups {
        let server = super::server(&mut session.participants, group);
        frontend::query(&mut server.output, sql.as_bytes());
        let sent = server.send().await;
        sent.map_err(|lost| ExecError::lost(group, lost).abandoning(&groups))?;
    }
    let mut out = Output { begun: false, rows: 0, refused: None };
    for group in &groups {
        let part = out.part(session, plan, group, catalog).await;
        part.map_err(|error| match error {
            ExecError::Refused(_) => error,
            other => ExecError::Abandoned(groups.clone(), Box::new(other)),
        })?;
        if out.refused.is_some() {
            for other in &groups {
                cancel::running(&super::server(&mut session.participants, other).link).await;
            }
        }
    }
    if let Some(error) = out.refused {
        return Err(ExecError::Refused(error));
    }
    let client = &mut session.client.output;
    if plan.binary {
        frontend::copy_data(client, COPY_TRAILER);
    }
    frontend::copy_done(client);
    backend::command_complete(client, &format!("COPY {}", out.rows));
    Ok(())
}

struct Output {
    /// `CopyOutResponse` and the header have gone to the client.
    begun: bool,
    rows: u64,
    refused: Option<ServerError>,
}

impl Output {
    /// One shard's part, to its `ReadyForQuery`. Once one has failed nothing more is passed on.
    async fn part(
        &mut self,
        session: &mut Session,
        plan: &CopyOut,
        group: &GroupId,
        catalog: &Catalog,
    ) -> Result<(), ExecError> {
        let mut first = true;
        let begun = self.begun;
        loop {
            if session.client.output.len() >= HIGH_WATER {
                session.client.flush().await.map_err(ExecError::Stop)?;
            }
            let server = super::server(&mut session.participants, group);
            let message = server.message().await.map_err(|lost| ExecError::lost(group, lost))?;
            let output = &mut session.client.output;
            match message.tag {
                b'H' if !begun && self.refused.is_none() => {
                    self.begun = true;
                    output.extend_from_slice(&message.bytes);
                }
                b'd' => {
                    let is_first = std::mem::take(&mut first);
                    if self.refused.is_none()
                        && let Some(data) = wanted(plan, message.shared_body(), is_first, begun)
                    {
                        frame::put(output, b'd', |out| out.extend_from_slice(&data));
                    }
                }
                b'C' => self.rows += count_of(message.body().strip_suffix(b"\0").unwrap_or_default()).unwrap_or(0),
                b'E' => {
                    self.refused.get_or_insert(in_user_names(&ServerError(message.shared_body()), catalog));
                }
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }
}

/// What of a shard's message the client gets: `begun` says that another shard's header has gone to it.
fn wanted(plan: &CopyOut, data: Bytes, first: bool, begun: bool) -> Option<Bytes> {
    if plan.header && !plan.binary {
        return if first && begun { None } else { Some(data) };
    }
    if !plan.binary {
        return Some(data);
    }
    // PostgreSQL sends the header in front of the first row or of the trailer, which is a message.
    let rows = if first { data.slice(COPY_HEADER.len().min(data.len())..) } else { data.clone() };
    let rows = if rows[..] == *COPY_TRAILER { Bytes::new() } else { rows };
    if first && !begun {
        return Some([COPY_HEADER, &rows[..]].concat().into());
    }
    Some(rows).filter(|rows| !rows.is_empty())
}
