//! `--load tpch:SCALE`: the eight tables of TPC-H, distributed, and their rows, through a router as
//! any client would. Called by `dev`.
//!
//! orders and lineitem are colocated by order key; customer, part, partsupp and supplier are
//! distributed by their own keys; nation and region are reference tables.

mod rows;
mod tables;

use std::{io::IsTerminal as _, time::Duration};

use bytes::Bytes;
use futures_util::SinkExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;
use tokio_postgres::{Client, NoTls};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use self::tables::{TABLES, Table};

/// Chunks on their way from the generator to the router: enough that neither waits for the other.
const CHUNKS: usize = 8;

/// Between two lines of progress where there is no terminal, in rows.
const LINE_EVERY: u64 = 1_000_000;

/// Why the data was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The cluster said no.
    #[error("cannot load TPC-H: {what}: {}", reason(.source))]
    Sql {
        /// At which step.
        what: String,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// Some of the tables are there, and not all.
    #[error("cannot load TPC-H: {0} of its tables are there already, left by an interrupted load: drop them first")]
    Half(usize),
}

/// The server's own words, with its hint.
fn reason(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        None => crate::host::causes::with_causes(error),
        Some(it) => {
            let hint = it.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{}: {}{hint}", it.code().code(), it.message())
        }
    }
}

/// Loads TPC-H at `scale`, unless it is there.
pub async fn tpch(connection: &str, scale: f64, say: fn(&str)) -> Result<(), LoadError> {
    let sql = |what: &str| {
        let what = what.to_owned();
        move |source| LoadError::Sql { what, source }
    };
    let (client, running) = tokio_postgres::connect(connection, NoTls).await.map_err(sql("connecting"))?;
    let running = tokio::spawn(running);
    let names: Vec<_> = TABLES.iter().map(|table| table.name).collect();
    let there = client
        .query("SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relname = ANY ($1)", &[&names])
        .await
        .map_err(sql("looking for its tables"))?;
    match there.len() {
        0 => {}
        all if all == TABLES.len() => {
            say("TPC-H is loaded already");
            return Ok(());
        }
        some => return Err(LoadError::Half(some)),
    }
    say(&format!("loading TPC-H at scale {scale}"));
    for table in &TABLES {
        for statement in [table.create, table.distribute] {
            client.batch_execute(statement).await.map_err(sql(statement))?;
        }
    }
    for table in &TABLES {
        copy(&client, table, scale, say).await.map_err(sql(&format!("COPY {}", table.name)))?;
        let analyze = format!("ANALYZE {}", table.name);
        client.batch_execute(&analyze).await.map_err(sql(&analyze))?;
    }
    drop(client);
    running.abort();
    Ok(())
}

/// Streams one table's rows; the generator runs on a thread of its own and waits where the router
/// is slower.
async fn copy(client: &Client, table: &Table, scale: f64, say: fn(&str)) -> Result<(), tokio_postgres::Error> {
    let (send, chunks) = mpsc::channel(CHUNKS);
    let generate = table.rows;
    let generator = tokio::task::spawn_blocking(move || generate(scale, &mut rows::Chunks::new(send)));
    let bar = progress(table.name);
    let mut next_line = LINE_EVERY;
    let mut sink = Box::pin(client.copy_in::<_, Bytes>(&format!("COPY {} FROM STDIN", table.name)).await?);
    let mut chunks = ReceiverStream::new(chunks);
    while let Some(chunk) = chunks.next().await {
        let rows = chunk.rows;
        sink.feed(chunk.bytes).await?;
        bar.set_position(rows);
        if bar.is_hidden() && rows >= next_line {
            say(&format!("{}: {rows} rows", table.name));
            next_line += LINE_EVERY;
        }
    }
    let loaded = sink.as_mut().finish().await?;
    // It has ended: its channel is closed.
    let _ = generator.await;
    bar.finish_and_clear();
    say(&format!("{}: {loaded} rows", table.name));
    Ok(())
}

fn progress(name: &'static str) -> ProgressBar {
    if !std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg}: {human_pos} rows, {per_sec}");
    let bar = ProgressBar::new_spinner().with_message(name);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
