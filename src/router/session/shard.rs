//! Statements that touch one bucket: from the key to the shard and the leaf's text. Called by both
//! protocols.

use std::{rc::Rc, time::Duration};

use super::{Fault, Session, relay::Names};
use crate::{
    model::{
        ids::{ColocationId, GroupId},
        topology::Topology,
    },
    router::{
        core::{
            error::UserError,
            hash::{KeyType, Value, bucket_of},
            plan::{KeySource, NullKey, OneShard, Refusal, null_key},
            protocol::{
                backend,
                frontend::{self, Bind, Parameter},
            },
            settings::Settings,
        },
        pool::{
            CheckoutError,
            server::{CallError, Lost, Server, ServerError},
        },
    },
};

/// Longest wait for the topology that holds a colocation the catalog names already: the coordinators
/// send it at once.
const MAP_WAIT: Duration = Duration::from_secs(5);

impl Session {
    /// Makes the bucket's shard the active participant: its index, and the bucket.
    pub(super) async fn one_shard(
        &mut self,
        plan: &OneShard,
        bound: Option<(&Bind, &[u32])>,
    ) -> Result<(usize, u32), Fault> {
        let bucket = self.bucket(plan, bound).await?;
        let group = self.place(plan.colocation, bucket).await?;
        let at = self.switch(&group).await?;
        self.learn_names()?;
        Ok((at, bucket))
    }

    /// Leaves' names in messages are put into the user's by the catalog of now.
    fn learn_names(&mut self) -> Result<(), UserError> {
        let version = self.catalog_version();
        if self.relay.names.as_ref().is_none_or(|names| names.version != version) {
            let (query, catalog) = (self.query_group()?, self.catalog().catalog);
            self.relay.names = Some(Names { version, query, catalog });
        }
        Ok(())
    }

    async fn bucket(&mut self, plan: &OneShard, bound: Option<(&Bind, &[u32])>) -> Result<u32, Fault> {
        let (key, stored, value) = match &plan.key {
            KeySource::Bucket(bucket) => return Ok(*bucket),
            KeySource::Ask { text, key, stored } => (*key, stored, Some((false, text.as_bytes().to_vec(), 0))),
            KeySource::Param { index, key, stored } => {
                let index = usize::from(*index).wrapping_sub(1);
                let Some((bind, types)) = bound else {
                    return Err(UserError::error("42P02", format!("there is no parameter ${}", index + 1)).into());
                };
                let parameters = bind.parameters().map_err(|error| Fault::Refused(UserError::protocol(error)))?;
                let Some(&(binary, value)) = parameters.get(index) else {
                    return Err(UserError::error(
                        "08P01",
                        format!("bind message supplies no parameter ${}", index + 1),
                    )
                    .into());
                };
                let type_oid = types.get(index).copied().unwrap_or(0);
                if stored.is_none()
                    && let Some(bucket) =
                        value.and_then(|value| known(*key, (binary, Some(value)), type_oid, plan.bucket_count))
                {
                    return Ok(bucket);
                }
                (*key, stored, value.map(|value| (binary, value.to_vec(), type_oid)))
            }
        };
        match value {
            None => match &plan.null_key {
                NullKey::AnyBucket => Ok(0),
                NullKey::NotNull { table, column } => Err(refusal(null_key(table, column)).into()),
            },
            Some((binary, value, type_oid)) => {
                self.ask_bucket(key, stored.as_deref(), (binary, &value), type_oid, plan.bucket_count).await
            }
        }
    }

    /// Asks the query group, under the session's settings, beside its transaction.
    async fn ask_bucket(
        &mut self,
        key: KeyType,
        stored: Option<&str>,
        (binary, value): (bool, &[u8]),
        type_oid: u32,
        bucket_count: u32,
    ) -> Result<u32, Fault> {
        let query = self.query_group()?;
        let settings = self.settings.clone();
        let mut server = self.borrow_server(&query, &settings).await?;
        let sql = key.ask_sql(stored);
        let type_oid = if binary && type_oid == 0 { key.oid() } else { type_oid };
        let output = &mut server.output;
        frontend::parse(output, b"", sql.as_bytes(), &[type_oid]);
        let mut rest = bytes::BytesMut::new();
        frontend::bind_values(&mut rest, &[(binary, Some(value))], false);
        frontend::bind_raw(output, b"", b"", &rest);
        frontend::execute(output, b"", 0);
        frontend::sync(output);
        server.prepared.unnamed = None;
        let answer = read_hash(&mut server).await;
        self.worker.pools.give_back(server);
        match answer {
            Ok(Some(hash)) => Ok(bucket_of(hash.cast_unsigned(), bucket_count)),
            Ok(None) => Err(UserError::error("XX000", "the query group did not tell a key's hash").into()),
            Err(CallError::Refused(error)) => Err(Fault::Server(error)),
            Err(CallError::Lost(_) | CallError::Unacknowledged) => Err(self.asked_in_vain(&query)),
        }
    }

    /// A question beside the transaction was not answered: it is asked again with the batch, if nothing has
    /// happened yet.
    fn asked_in_vain(&self, group: &GroupId) -> Fault {
        let at_work = self.participants.iter().any(|participant| participant.joined);
        if self.may_run_again() && !at_work { Fault::Retry } else { UserError::lost_transaction(group).into() }
    }

    /// The shard that holds a bucket.
    async fn place(&self, colocation: ColocationId, bucket: u32) -> Result<GroupId, Fault> {
        let find = |topology: &Topology| {
            topology.colocations.get(&colocation).and_then(|it| it.buckets.get(bucket as usize)).cloned()
        };
        if let Some(group) = find(&self.worker.pools.topology()) {
            return Ok(group);
        }
        let wait = async {
            loop {
                if let Some(group) = find(&self.worker.pools.topology()) {
                    return group;
                }
                self.worker.pools.changed().await;
            }
        };
        tokio::time::timeout(MAP_WAIT, wait).await.map_err(|_| {
            let message = format!("the topology does not know where colocation group {colocation} is");
            Fault::Refused(UserError::error("57P03", message).hint("Run `howdah status`; try again later."))
        })
    }

    /// A connection beside the session's transaction, for a question; give it back afterwards.
    pub(super) async fn borrow_server(&self, group: &GroupId, settings: &Rc<Settings>) -> Result<Server, Fault> {
        let pools = &self.worker.pools;
        let bytes = self.client.input.len() + self.batch.bytes;
        let checkout = pools.checkout(group, self.wanted, &self.identity, settings, bytes, &mut None).await;
        let mut server = checkout.map_err(|error| match error {
            CheckoutError::Refused(error) => Fault::Refused(error),
            CheckoutError::Server(error) => Fault::Server(error),
        })?;
        match server.apply(settings).await {
            Ok(()) => Ok(server),
            Err(CallError::Refused(error)) => Err(Fault::Server(error)),
            Err(CallError::Lost(_) | CallError::Unacknowledged) => Err(self.asked_in_vain(group)),
        }
    }
}

/// What the router can tell by itself.
fn known(key: KeyType, (binary, value): Parameter<'_>, type_oid: u32, bucket_count: u32) -> Option<u32> {
    let bytes = value?;
    let value = if binary { Value::Binary { type_oid, bytes } } else { Value::Text(std::str::from_utf8(bytes).ok()?) };
    key.bucket(value, bucket_count).ok()
}

async fn read_hash(server: &mut Server) -> Result<Option<i64>, CallError> {
    let (mut hash, mut refused) = (None, None);
    loop {
        let frame = server.message().await?;
        match frame.tag {
            b'D' => {
                let row = backend::read_row(frame.body()).map_err(|_| Lost::Protocol("a row that is none"))?;
                let text = row.first().copied().flatten().and_then(|text| std::str::from_utf8(text).ok());
                hash = text.and_then(|text| text.parse().ok());
            }
            b'E' => refused = Some(CallError::Refused(ServerError(frame.shared_body()))),
            b'Z' => return refused.map_or(Ok(hash), Err),
            _ => {}
        }
    }
}

/// A planner's refusal as an error.
pub(super) fn refusal(refusal: Refusal) -> UserError {
    UserError { detail: refusal.detail, hint: refusal.hint, ..UserError::error(refusal.sqlstate, refusal.message) }
}
