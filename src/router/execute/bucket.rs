//! The bucket of a value that is known only now: a parameter, a COPY field. What the router cannot hash
//! exactly as PostgreSQL does, it asks PostgreSQL. Called by the executors.

use bytes::Bytes;

use super::error::{ExecError, in_user_names};
use crate::{
    model::ids::GroupId,
    router::{
        core::{
            catalog::Catalog,
            copy_split::Key,
            hash::{KeyType, Value, bucket_of},
            plan::{CopyKey, KeySource},
            protocol::backend,
            request::{Param, Request},
        },
        pool::server::{Lost, Server, ServerError},
    },
};

/// What can be said of a value without asking.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Its bucket.
    Bucket(u32),
    /// It is NULL.
    Null,
    /// Ask.
    Ask(Question),
}

/// A value to ask PostgreSQL about.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    /// Type of the distribution column.
    pub key: KeyType,
    /// Its declared type where storing may change the value.
    pub stored: Option<String>,
    /// The value.
    pub param: Param,
}

/// Of a COPY row's field.
pub fn of_copied(key: &CopyKey, value: &Key<'_>) -> Found {
    let (hashed, param) = match value {
        Key::Null => return Found::Null,
        Key::Text(text) => (
            std::str::from_utf8(text).ok().map(Value::Text),
            Param { type_oid: 0, binary: false, value: Some(Bytes::copy_from_slice(text)) },
        ),
        Key::Binary(bytes) => (
            Some(Value::Binary { type_oid: 0, bytes }),
            Param { type_oid: key.key.oid(), binary: true, value: Some(Bytes::copy_from_slice(bytes)) },
        ),
    };
    let known = hashed.filter(|_| key.stored.is_none()).and_then(|value| key.key.bucket(value, key.bucket_count).ok());
    match known {
        Some(bucket) => Found::Bucket(bucket),
        None => Found::Ask(Question { key: key.key, stored: key.stored.clone(), param }),
    }
}

/// Of a statement's key.
pub fn of_source(source: &KeySource, params: &[Param], bucket_count: u32) -> Found {
    match source {
        KeySource::Bucket(bucket) => Found::Bucket(*bucket),
        KeySource::Ask { text, key, stored } => {
            let param = Param { type_oid: 0, binary: false, value: Some(Bytes::copy_from_slice(text.as_bytes())) };
            Found::Ask(Question { key: *key, stored: stored.clone(), param })
        }
        KeySource::Param { index, key, stored } => {
            let Some(param) = params.get(usize::from(*index).wrapping_sub(1)) else { return Found::Null };
            let Some(bytes) = &param.value else { return Found::Null };
            let value = if param.binary {
                Some(Value::Binary { type_oid: param.type_oid, bytes })
            } else {
                std::str::from_utf8(bytes).ok().map(Value::Text)
            };
            let known = value.filter(|_| stored.is_none()).and_then(|value| key.bucket(value, bucket_count).ok());
            match known {
                Some(bucket) => Found::Bucket(bucket),
                None => Found::Ask(Question { key: *key, stored: stored.clone(), param: param.clone() }),
            }
        }
    }
}

/// Asks the query group, in the session's own settings.
pub async fn ask(
    server: &mut Server,
    group: &GroupId,
    catalog: &Catalog,
    question: &Question,
    bucket_count: u32,
) -> Result<u32, ExecError> {
    let sql = question.key.ask_sql(question.stored.as_deref());
    server.prepared.unnamed = None;
    Request { sql, params: vec![question.param.clone()], formats: Vec::new() }.encode(false, &mut server.output);
    let (mut hash, mut refused) = (None, None);
    loop {
        let frame = server.message().await.map_err(|lost| ExecError::lost(group, lost))?;
        match frame.tag {
            b'D' => {
                let row = backend::read_row(frame.body()).ok();
                let text = row.as_ref().and_then(|row| row.first().copied().flatten());
                hash = text.and_then(|text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
            }
            b'E' => refused = Some(in_user_names(&ServerError(frame.shared_body()), catalog)),
            b'Z' => break,
            _ => {}
        }
    }
    match (refused, hash) {
        (Some(error), _) => Err(ExecError::Refused(error)),
        (None, Some(hash)) => Ok(bucket_of(hash.cast_unsigned(), bucket_count)),
        (None, None) => Err(ExecError::lost(group, Lost::Protocol("no hash where one was asked for"))),
    }
}
