//! Where plans that concern several groups leave the session for their executors.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Fault, Portal, Session, Statement};
use crate::router::{
    catalog_load::Loaded,
    core::{
        plan::Plan,
        protocol::{
            backend,
            frame::put,
            frontend::{self, Bind},
            read::{BadBody, Reader},
        },
        request::Param,
    },
    execute::{self, Ask, ExecError},
    pool::server::{Lost, ServerError},
};

impl Session {
    /// Runs a plan that is neither local nor of one shard. Nothing is due on any connection. `bind`: in
    /// the extended protocol.
    pub(super) async fn run_distributed(&mut self, statement: &Statement, bind: Option<&Bind>) -> Result<(), Fault> {
        let Some(plan) = statement.plan() else { return Ok(()) };
        if matches!(plan, Plan::ShowTier) {
            self.show_tier(bind.is_none());
            return Ok(());
        }
        self.batch.worked = true;
        // A simple query was counted when it came.
        if bind.is_some() {
            self.ran(plan.tier());
        }
        self.catalog_touched |= matches!(plan, Plan::Function(_) | Plan::Ddl(_));
        let ask = match bind {
            Some(bind) => asked(bind, &statement.types)
                .map_err(|error| Fault::Refused(crate::router::core::error::UserError::protocol(error)))?,
            None => Ask { params: Vec::new(), formats: Vec::new(), describe: true },
        };
        let before = self.client.written() + self.client.output.len() as u64;
        let done = execute::run(self, plan, &ask).await;
        self.relay.answered |= self.client.written() + self.client.output.len() as u64 != before;
        let done = match done {
            Ok(()) if self.catalog_touched => self.learn_own_catalog().await,
            other => other,
        };
        done.map_err(|error| error.judge(self))
    }

    /// The catalog that statements are planned by.
    pub fn catalog(&self) -> Loaded {
        self.own_catalog.clone().unwrap_or_else(|| self.worker.loaded(&self.identity.database))
    }

    /// Its number.
    pub(super) fn catalog_version(&self) -> i64 {
        self.own_catalog.as_ref().map_or_else(|| self.worker.catalog_version(), |own| own.version)
    }

    /// What follows in this transaction is planned by what it has done to the catalog. The number is one
    /// that no committed catalog has, nor another transaction's.
    async fn learn_own_catalog(&mut self) -> Result<(), ExecError> {
        let mut own = execute::catalog_now(self).await?;
        own.version = -1 - i64::try_from(self.worker.fresh_number().0).unwrap_or(i64::MAX - 1);
        self.own_catalog = Some(own);
        self.context_changed();
        Ok(())
    }

    /// Opens a block of the router's own, as [`Session::begin_implicit`], where groups have joined
    /// without one: what they did so far becomes part of it.
    pub fn open_block(&mut self) {
        if self.block.is_some() {
            return;
        }
        self.begin_implicit();
        for participant in self.participants.iter_mut().filter(|participant| participant.joined) {
            participant.server.prefix("BEGIN");
        }
    }

    /// `Describe` of a portal whose plan an executor runs: the columns are those of the query group's
    /// shells, in the formats that were bound.
    pub(super) async fn describe_distributed(&mut self, portal: &Portal) -> Result<(), Fault> {
        if matches!(portal.statement.plan(), Some(Plan::ShowTier)) {
            backend::text_columns(&mut self.client.output, &["howdah.tier"]);
            return Ok(());
        }
        let query = self.query_group()?;
        let at = self.join(&query).await?;
        let server = &mut self.participants[at].server;
        server.prepared.unnamed = None;
        frontend::parse(&mut server.output, b"", &portal.statement.text.sql, &portal.statement.types);
        frontend::describe(&mut server.output, b'S', b"");
        frontend::sync(&mut server.output);
        let (mut columns, mut refused) = (None, None);
        loop {
            let server = &mut self.participants[at].server;
            match server.message().await {
                Ok(frame) => match frame.tag {
                    b'T' => columns = Some(frame.shared_body()),
                    b'E' => refused = Some(ServerError(frame.shared_body())),
                    b'Z' => break,
                    _ => {}
                },
                Err(lost) => return Err(self.lost(at, &lost)),
            }
        }
        if let Some(error) = refused {
            return Err(Fault::Server(error));
        }
        let formats = portal.bind.result_formats().unwrap_or_default();
        match columns {
            Some(columns) => match with_formats(&columns, &formats) {
                Ok(described) => self.client.output.extend_from_slice(&described),
                Err(BadBody) => return Err(self.lost(at, &Lost::Protocol("a description that is none"))),
            },
            None => self.client.output.extend_from_slice(backend::NO_DATA),
        }
        self.relay.answered = true;
        Ok(())
    }

    fn show_tier(&mut self, describe: bool) {
        let out = &mut self.client.output;
        if describe {
            backend::text_columns(out, &["howdah.tier"]);
        }
        backend::data_row(out, &[Some(self.tier.as_bytes())]);
        backend::command_complete(out, "SHOW");
    }
}

/// What a `Bind` asks for.
fn asked(bind: &Bind, types: &[u32]) -> Result<Ask, BadBody> {
    let param = |(at, (binary, value)): (usize, (bool, Option<&[u8]>))| Param {
        type_oid: types.get(at).copied().unwrap_or(0),
        binary,
        value: value.map(Bytes::copy_from_slice),
    };
    Ok(Ask {
        params: bind.parameters()?.into_iter().enumerate().map(param).collect(),
        formats: bind.result_formats()?,
        describe: false,
    })
}

/// A `RowDescription` with other formats: none for all text, one for all columns, or one per column.
fn with_formats(body: &[u8], formats: &[u16]) -> Result<BytesMut, BadBody> {
    let mut reader = Reader(body);
    let mut out = BytesMut::with_capacity(body.len() + 5);
    let count = reader.int16()?;
    let mut columns = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let name = reader.text()?;
        // Table, column, type, length, modifier; the format comes last.
        columns.push((name, reader.bytes(16)?));
        reader.bytes(2)?;
    }
    put(&mut out, b'T', |out| {
        out.put_u16(count);
        for (at, (name, rest)) in columns.iter().enumerate() {
            out.extend_from_slice(name);
            out.put_u8(0);
            out.extend_from_slice(rest);
            out.put_u16(if formats.len() == 1 { formats[0] } else { formats.get(at).copied().unwrap_or(0) });
        }
    });
    Ok(out)
}
