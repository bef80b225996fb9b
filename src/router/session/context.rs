//! What names in a statement mean to this session, and the plans that follow from it. Called before
//! anything is run.

use std::{collections::BTreeSet, rc::Rc};

use bytes::Bytes;

use super::{Fault, Session, Text};
use crate::router::{
    core::{
        planner::{Input, plan_text},
        settings::Settings,
    },
    pool::{
        Identity,
        server::{CallError, Server},
    },
    texts::LONGEST,
    worker::{ContextKey, Worker},
};

/// The part of a session's state that plans depend on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Number among the worker's contexts: equal contexts share plans.
    pub id: u64,
    /// `current_schemas(false)`.
    pub search_path: Vec<String>,
    /// Names of the session's temporary relations.
    pub temporary: BTreeSet<String>,
    /// The setting.
    pub standard_conforming_strings: bool,
}

/// Asks for a context. `pg_my_temp_schema()` is 0 where the session has none.
const ASK: &str = "SELECT 's', unnest(pg_catalog.current_schemas(false)) UNION ALL \
    SELECT 't', relname FROM pg_catalog.pg_class WHERE relnamespace = pg_catalog.pg_my_temp_schema() \
    AND relkind IN ('r', 'v', 'S', 'f', 'm', 'p') UNION ALL \
    SELECT 'c', pg_catalog.current_setting('standard_conforming_strings')";

impl Session {
    /// The context may be another one now.
    pub(super) fn context_changed(&mut self) {
        self.context_stale = true;
    }

    /// The text's plans, cached by text, parameter types, context and catalog.
    pub(super) async fn text(&mut self, sql: &Bytes, types: &[u32]) -> Result<Rc<Text>, Fault> {
        if self.context_stale {
            self.refresh_context().await?;
        }
        let version = self.catalog_version();
        if let Some(text) = self.worker.texts.borrow().get(sql, types, self.context.id, version) {
            return Ok(text);
        }
        if sql.len() > LONGEST {
            return Ok(Rc::new(self.plan(sql, types, version)));
        }
        // What is kept must not keep the client's buffer, which is larger.
        let sql = Bytes::copy_from_slice(sql);
        let text = Rc::new(self.plan(&sql, types, version));
        self.worker.texts.borrow_mut().keep(&text, types, self.context.id);
        Ok(text)
    }

    fn plan(&self, sql: &Bytes, types: &[u32], version: i64) -> Text {
        let loaded = self.catalog();
        let input = Input {
            catalog: &loaded.catalog,
            search_path: &self.context.search_path,
            temporary: &self.context.temporary,
            param_types: types,
            standard_conforming_strings: self.context.standard_conforming_strings,
        };
        // In another encoding than UTF-8 names and literals cannot be read: PostgreSQL itself must.
        let planned = match std::str::from_utf8(sql) {
            Ok(text) => plan_text(&input, text),
            Err(_) => plan_text(&input, &String::from_utf8_lossy(sql)),
        };
        Text::new(sql.clone(), planned, version)
    }

    /// Asks the query group what names mean now: inside the transaction where that is possible.
    async fn refresh_context(&mut self) -> Result<(), Fault> {
        if self.block.as_ref().is_some_and(|block| block.failed) {
            return Ok(());
        }
        self.drain().await?;
        let query = self.query_group()?;
        let kept = |participant: &super::Participant| participant.joined || participant.server.pinned;
        let Some(at) = self.find(&query).filter(|at| kept(&self.participants[*at])) else {
            // Beside the transaction: what the session has set is known from its settings.
            let settings = self.settings.clone();
            let mut server = self.borrow_server(&query, &settings).await?;
            let context = ask(&mut server).await;
            self.worker.pools.give_back(server);
            self.context = self.worker.context(context.map_err(call_fault)?, None);
            self.context_stale = false;
            return Ok(());
        };
        let context = match ask(&mut self.participants[at].server).await {
            Ok(context) => context,
            Err(error) => return Err(self.call_failed(at, error)),
        };
        self.context = self.worker.context(context, None);
        self.context_stale = false;
        Ok(())
    }

    /// The setting as the session made it: statements of equal text under different search paths are
    /// different statements.
    pub(super) fn search_path_setting(&self) -> u64 {
        self.context.id
    }
}

/// The context of a session that has just begun, on a connection with its settings.
pub(super) async fn of_new_session(
    worker: &Worker,
    identity: &Identity,
    settings: &Settings,
    server: &mut Server,
) -> Result<Rc<Context>, CallError> {
    let key = ContextKey::new(identity, settings);
    if let Some(context) = worker.known_context(&key) {
        return Ok(context);
    }
    let context = ask(server).await?;
    Ok(worker.context(context, Some(key)))
}

async fn ask(server: &mut Server) -> Result<Context, CallError> {
    let mut context = Context::default();
    for row in server.call(ASK).await? {
        let [Some(kind), Some(value)] = <[_; 2]>::try_from(row).unwrap_or_default() else { continue };
        match kind.as_str() {
            "s" => context.search_path.push(value),
            "t" => {
                context.temporary.insert(value);
            }
            _ => context.standard_conforming_strings = value == "on",
        }
    }
    Ok(context)
}

fn call_fault(error: CallError) -> Fault {
    match error {
        CallError::Refused(error) => Fault::Server(error),
        CallError::Lost(_) | CallError::Unacknowledged => Fault::Retry,
    }
}
