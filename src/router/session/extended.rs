//! The extended protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync. Messages are translated
//! and gathered; one write sends the batch at `Sync`. Called by the session.

use std::rc::Rc;

use super::{
    Fault, Portal, Session, Statement, Stop,
    control::Course,
    relay::Due,
    statement::{Leaf, is_control, keeps},
};
use crate::{
    model::ids::GroupId,
    router::{
        core::{
            error::UserError,
            plan::{OneShard, Plan},
            plan_utility::Effect,
            protocol::{
                backend,
                frame::Frame,
                frontend::{self, Bind, Parse, Target},
                read::BadBody,
            },
        },
        pool::prepared::StatementId,
    },
};

/// A batch is written out before `Sync` once it is this long: bounds memory, and lets the server begin.
const PUSH_AT: usize = 256 * 1024;
/// Types above this are users' own, with other numbers on every group (`FirstNormalObjectId`).
const FIRST_USER_TYPE: u32 = 16_384;

impl Session {
    /// Runs one message but `Sync`.
    pub(super) async fn extended(&mut self, frame: &Frame) -> Result<(), Fault> {
        match frame.tag {
            b'P' => self.parse(Parse::read(frame).map_err(protocol)?).await?,
            b'B' => self.bind(Bind::read(frame).map_err(protocol)?).await?,
            b'D' => self.describe(Target::read(frame).map_err(protocol)?).await?,
            b'E' => {
                let (portal, limit) = frontend::read_execute(frame).map_err(protocol)?;
                self.execute(&portal, limit).await?;
            }
            b'C' => self.close(Target::read(frame).map_err(protocol)?).await?,
            b'H' => {
                self.drain().await?;
                self.client.flush().await?;
            }
            other => {
                return Err(Stop::Fatal(UserError::protocol(format!("invalid frontend message type {other}"))).into());
            }
        }
        if self.active.is_some_and(|at| self.participants[at].server.output.len() > PUSH_AT) {
            self.push_out().await?;
            if self.relay.failed {
                return Err(Fault::Reported);
            }
        }
        Ok(())
    }

    async fn parse(&mut self, parse: Parse) -> Result<(), Fault> {
        if !parse.name.is_empty() && self.statements.get(&parse.name).is_some() {
            let name = String::from_utf8_lossy(&parse.name);
            return Err(UserError::error("42P05", format!("prepared statement \"{name}\" already exists")).into());
        }
        let text = self.text(&parse.sql, &parse.types).await?;
        let id = if parse.name.is_empty() {
            self.worker.fresh_number()
        } else {
            self.worker.number(self.search_path_setting(), &parse.sql, &parse.types)
        };
        let statement = Rc::new(Statement { id, text, types: parse.types, context: self.context.id });
        self.check_failed(statement.effects())?;
        self.statements.insert(&parse.name, statement.clone());
        match statement.plan() {
            Some(Plan::Local(local)) if is_control(&local.effects) => self.answer(backend::PARSE_COMPLETE),
            // PostgreSQL checks the text now, and says where it is wrong.
            Some(Plan::Local(_)) | None => {
                let query = self.query_group()?;
                let at = self.switch(&query).await?;
                self.participants[at].unsynced = true;
                if self.knows(at, &parse.name, id) {
                    self.answer(backend::PARSE_COMPLETE);
                } else {
                    self.send_parse(at, &parse.name, id, &parse.sql, &statement.types, false);
                }
            }
            // Checked when it is described or bound.
            Some(_) => self.answer(backend::PARSE_COMPLETE),
        }
        Ok(())
    }

    fn knows(&mut self, at: usize, name: &[u8], id: StatementId) -> bool {
        let prepared = &mut self.participants[at].server.prepared;
        if name.is_empty() { prepared.unnamed == Some(id) } else { prepared.touch(id) }
    }

    /// Appends `Parse`; a statement that gives way for it is closed.
    fn send_parse(&mut self, at: usize, name: &bytes::Bytes, id: StatementId, sql: &[u8], types: &[u32], hidden: bool) {
        let server = &mut self.participants[at].server;
        if name.is_empty() {
            server.prepared.unnamed = Some(id);
            frontend::parse(&mut server.output, b"", sql, types);
        } else {
            if let Some(oldest) = server.prepared.add(id) {
                frontend::close(&mut server.output, b'S', oldest.name().as_bytes());
                self.relay.due.push_back(Due::Close { hidden: true });
            }
            frontend::parse(&mut server.output, id.name().as_bytes(), sql, types);
        }
        let name = (!hidden).then(|| name.clone());
        self.relay.due.push_back(Due::Parse { id, name, hidden });
    }

    /// The statement's name on the server, prepared there if need be.
    fn ready_on(&mut self, at: usize, name: &bytes::Bytes, statement: &Statement) -> String {
        if !self.knows(at, name, statement.id) {
            let (id, sql) = (statement.id, statement.text.sql.clone());
            self.send_parse(at, name, id, &sql, &statement.types, true);
        }
        if name.is_empty() { String::new() } else { statement.id.name() }
    }

    async fn bind(&mut self, bind: Bind) -> Result<(), Fault> {
        let statement = self.known_statement(&bind.statement).await?;
        self.check_failed(statement.effects())?;
        let bind = Rc::new(bind);
        let mut portal = Portal { statement: statement.clone(), group: None, bind: bind.clone() };
        match statement.plan() {
            Some(Plan::Local(local)) if is_control(&local.effects) => self.answer(backend::BIND_COMPLETE),
            Some(Plan::Local(_)) | None => {
                if let Some(Plan::Local(local)) = statement.plan() {
                    self.probe(local).await?;
                }
                let query = self.query_group()?;
                let at = self.switch(&query).await?;
                let name = self.ready_on(at, &bind.statement, &statement);
                self.send_bind(at, &bind, name.as_bytes(), false);
                portal.group = Some(query);
            }
            Some(Plan::OneShard(plan)) => portal.group = Some(self.bind_one_shard(plan, &statement, &bind).await?),
            Some(_) => self.answer(backend::BIND_COMPLETE),
        }
        self.statements.bind(&bind.portal, portal);
        Ok(())
    }

    async fn bind_one_shard(&mut self, plan: &OneShard, statement: &Statement, bind: &Bind) -> Result<GroupId, Fault> {
        let (at, bucket) = self.one_shard(plan, Some((bind, &statement.types))).await?;
        let types =
            || statement.types.iter().map(|oid| if *oid < FIRST_USER_TYPE { *oid } else { 0 }).collect::<Vec<_>>();
        let leaf = statement.text.leaf(bucket, || {
            let sql = bytes::Bytes::from(plan.text_for(bucket).into_bytes());
            Leaf { id: self.worker.number(statement.context, &sql, &types()), sql }
        });
        let name = bytes::Bytes::from_static(b"leaf");
        if !self.knows(at, &name, leaf.id) {
            self.send_parse(at, &name, leaf.id, &leaf.sql, &types(), true);
        }
        self.send_bind(at, bind, leaf.id.name().as_bytes(), false);
        Ok(self.participants[at].group().clone())
    }

    fn send_bind(&mut self, at: usize, bind: &Bind, name: &[u8], hidden: bool) {
        let participant = &mut self.participants[at];
        frontend::bind_raw(&mut participant.server.output, &bind.portal, name, &bind.rest);
        participant.unsynced = true;
        self.relay.due.push_back(Due::Bind { hidden });
    }

    async fn describe(&mut self, target: Target) -> Result<(), Fault> {
        match target {
            Target::Statement(name) => {
                let statement = self.known_statement(&name).await?;
                if is_control(statement.effects()) {
                    self.answer(backend::NO_PARAMETERS);
                    self.answer(backend::NO_DATA);
                    return Ok(());
                }
                // Types and columns are those of the query group, whose shells have them all.
                let query = self.query_group()?;
                let at = self.switch(&query).await?;
                let name = self.ready_on(at, &name, &statement);
                frontend::describe(&mut self.participants[at].server.output, b'S', name.as_bytes());
                self.participants[at].unsynced = true;
                self.relay.due.push_back(Due::Describe);
                Ok(())
            }
            Target::Portal(name) => {
                let portal = self.known_portal(&name)?;
                match &portal.group {
                    Some(group) => {
                        let at = self.switch(group).await?;
                        frontend::describe(&mut self.participants[at].server.output, b'P', &name);
                        self.relay.due.push_back(Due::Describe);
                        Ok(())
                    }
                    None if is_control(portal.statement.effects()) => {
                        self.answer(backend::NO_DATA);
                        Ok(())
                    }
                    None => {
                        self.drain().await?;
                        self.describe_distributed(&portal).await
                    }
                }
            }
        }
    }

    async fn execute(&mut self, name: &bytes::Bytes, limit: i32) -> Result<(), Fault> {
        let portal = self.known_portal(name)?;
        let statement = portal.statement.clone();
        self.check_failed(statement.effects())?;
        let Some(group) = &portal.group else { return self.execute_here(&portal).await };
        self.batch.worked = true;
        let at = self.switch(group).await?;
        match statement.plan() {
            Some(Plan::OneShard(plan)) => {
                self.ran("one shard");
                self.participants[at].wrote |= plan.is_write;
                self.batch.may_have_written |= plan.is_write && self.block.is_none();
            }
            Some(Plan::Local(local)) => {
                self.ran("local");
                self.wrote_local(at, local.read_only);
                self.keep_if_needed(at, &local.effects);
            }
            _ => self.wrote_local(at, false),
        }
        let participant = &mut self.participants[at];
        frontend::execute(&mut participant.server.output, name, limit);
        participant.unsynced = true;
        participant.executed = true;
        self.relay.due.push_back(Due::Execute(statement));
        Ok(())
    }

    /// Executes what no server has been told of yet.
    async fn execute_here(&mut self, portal: &Portal) -> Result<(), Fault> {
        let statement = &portal.statement;
        if !is_control(statement.effects()) {
            self.drain().await?;
            return self.run_distributed(statement, Some(&portal.bind)).await;
        }
        match self.course(statement).await? {
            Course::Answer(tag) => {
                let mut complete = bytes::BytesMut::new();
                backend::command_complete(&mut complete, &tag);
                self.answer(complete.freeze());
            }
            Course::Forward(at) => {
                self.wrote_local(at, true);
                let name = bytes::Bytes::from_static(b"control");
                let name = self.ready_on(at, &name, statement);
                let own = Bind { portal: bytes::Bytes::new(), ..(*portal.bind).clone() };
                self.send_bind(at, &own, name.as_bytes(), true);
                let participant = &mut self.participants[at];
                frontend::execute(&mut participant.server.output, b"", 0);
                participant.executed = true;
                self.relay.due.push_back(Due::Execute(statement.clone()));
            }
        }
        Ok(())
    }

    async fn close(&mut self, target: Target) -> Result<(), Fault> {
        match target {
            Target::Statement(name) => {
                self.statements.remove(&name);
            }
            Target::Portal(name) => {
                let portal = self.statements.close_portal(&name);
                if let Some(at) = portal.and_then(|portal| portal.group).and_then(|group| self.find(&group))
                    && self.participants[at].joined
                {
                    let group = self.participants[at].group().clone();
                    let at = self.switch(&group).await?;
                    frontend::close(&mut self.participants[at].server.output, b'P', &name);
                    self.participants[at].unsynced = true;
                    self.relay.due.push_back(Due::Close { hidden: false });
                    return Ok(());
                }
            }
        }
        self.answer(backend::CLOSE_COMPLETE);
        Ok(())
    }

    /// `Sync`: everything is answered, then `ReadyForQuery`.
    pub(super) async fn sync(&mut self, frame: Frame) -> Result<(), Stop> {
        self.note(&frame);
        self.batch.ends = true;
        match self.sync_servers().await {
            Err(Fault::Stop(stop)) => return Err(stop),
            Err(Fault::Retry) if !self.skip => {
                self.run_again();
                return Ok(());
            }
            Err(fault) => self.report(&fault),
            // COPY swallowed this one; the client's next is the end of the batch.
            Ok(()) if !self.batch.ends => {
                self.skip = self.relay.failed;
                return Ok(());
            }
            Ok(()) => {}
        }
        self.skip = false;
        self.finish().await
    }

    async fn sync_servers(&mut self) -> Result<(), Fault> {
        if let Some(at) = self.active
            && (self.participants[at].unsynced || self.participants[at].server.setup() > 0)
        {
            self.participants[at].unsynced = false;
            self.participants[at].executed = false;
            frontend::sync(&mut self.participants[at].server.output);
            self.relay.due.push_back(Due::Sync);
            self.pump().await?;
        }
        if self.batch.ends { self.end_pipelines().await } else { Ok(()) }
    }

    /// Ends what connections were sent of the extended protocol; what they still answer is nobody's.
    pub(super) async fn end_pipelines(&mut self) -> Result<(), Fault> {
        while let Some(at) = self.participants.iter().position(|participant| participant.unsynced) {
            self.participants[at].unsynced = false;
            self.participants[at].executed = false;
            let server = &mut self.participants[at].server;
            frontend::sync(&mut server.output);
            if let Err(lost) = server.until_ready().await {
                return Err(self.lost(at, &lost));
            }
        }
        Ok(())
    }

    /// Makes a group's connection the one that messages go to.
    pub(super) async fn switch(&mut self, group: &GroupId) -> Result<usize, Fault> {
        if let Some(at) = self.active
            && self.participants[at].joined
            && self.participants[at].group() == group
        {
            return Ok(at);
        }
        self.leave_active().await?;
        let at = self.join(group).await?;
        self.active = Some(at);
        Ok(at)
    }

    /// As [`Session::switch`], to a participant.
    pub(super) async fn switch_to(&mut self, at: usize) -> Result<usize, Fault> {
        let group = self.participants[at].group().clone();
        self.switch(&group).await
    }

    /// Another connection will be worked on: this one's answers come first, and if it has executed
    /// anything both must commit as one.
    async fn leave_active(&mut self) -> Result<(), Fault> {
        self.drain().await?;
        if let Some(at) = self.active
            && self.participants[at].executed
            && self.block.is_none()
        {
            self.begin_implicit();
            self.participants[at].server.prefix("BEGIN");
        }
        Ok(())
    }

    /// The statement of that name, planned anew where the catalog or what names mean has changed.
    async fn known_statement(&mut self, name: &bytes::Bytes) -> Result<Rc<Statement>, Fault> {
        let known = self.statements.get(name).cloned().ok_or_else(|| {
            let message = match &name[..] {
                b"" => "unnamed prepared statement does not exist".to_owned(),
                name => format!("prepared statement \"{}\" does not exist", String::from_utf8_lossy(name)),
            };
            UserError::error("26000", message)
        })?;
        let current = known.context == self.context.id && known.text.version == self.catalog_version();
        if current && !self.context_stale {
            return Ok(known);
        }
        let text = self.text(&known.text.sql, &known.types).await?;
        let context = self.context.id;
        let id = if known.context == context || name.is_empty() {
            known.id
        } else {
            self.worker.number(context, &text.sql, &known.types)
        };
        let statement = Rc::new(Statement { id, text, types: known.types.clone(), context });
        self.statements.insert(name, statement.clone());
        Ok(statement)
    }

    fn known_portal(&self, name: &[u8]) -> Result<Portal, UserError> {
        self.statements.portal(name).cloned().ok_or_else(|| {
            UserError::error("34000", format!("portal \"{}\" does not exist", String::from_utf8_lossy(name)))
        })
    }

    /// From here on the session needs this connection for itself, if an effect says so.
    pub(super) fn keep_if_needed(&mut self, at: usize, effects: &[Effect]) {
        if effects.iter().any(keeps) {
            self.participants[at].server.pinned = true;
        }
    }
}

fn protocol(error: BadBody) -> Fault {
    Fault::Stop(Stop::Fatal(UserError::protocol(error)))
}
