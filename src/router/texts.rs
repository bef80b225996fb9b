//! A worker's plans, cached by text, parameter types, context and catalog version; bounded in bytes.
//! Called by the session's context.

use std::{collections::HashMap, rc::Rc};

use bytes::Bytes;

use super::session::Text;

/// Bytes of text whose plans are kept per worker; a plan is some ten times its text.
const LIMIT: usize = 8 << 20;
/// A longer text is not worth keeping: it is data, and will not come again.
pub const LONGEST: usize = 32 << 10;

#[derive(Debug)]
struct Entry {
    types: Vec<u32>,
    context: u64,
    text: Rc<Text>,
}

/// The cache.
#[derive(Debug, Default)]
pub struct Texts {
    by_text: HashMap<Bytes, Vec<Entry>>,
    bytes: usize,
    version: i64,
}

impl Texts {
    /// The plans of a text, where they were made for the same.
    pub fn get(&self, sql: &[u8], types: &[u32], context: u64, version: i64) -> Option<Rc<Text>> {
        let fits = |entry: &&Entry| entry.context == context && entry.text.version == version && entry.types == types;
        self.by_text.get(sql)?.iter().find(fits).map(|entry| entry.text.clone())
    }

    /// Keeps plans of a text no longer than [`LONGEST`]. A newer catalog throws all others away; so does
    /// a full cache.
    pub fn keep(&mut self, text: &Rc<Text>, types: &[u32], context: u64) {
        if text.version != self.version || self.bytes > LIMIT {
            self.by_text.clear();
            self.bytes = 0;
            self.version = text.version;
        }
        self.bytes += text.sql.len() + 64;
        let entry = Entry { types: types.to_vec(), context, text: text.clone() };
        self.by_text.entry(text.sql.clone()).or_default().push(entry);
    }
}
