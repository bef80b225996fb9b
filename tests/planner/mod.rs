//! The planner against PostgreSQL: its hash, and its statements for several shards.

mod hash;
mod scatter;

use std::time::Duration;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::cluster::plain::Plain;

/// A session of a plain server, which may just be starting.
async fn connect(server: &Plain) -> Client {
    // Five seconds of tries: initdb's first start takes well under one.
    for _ in 0..500 {
        if let Ok((client, connection)) = tokio_postgres::connect(&server.dsn(), NoTls).await {
            // Ends with the client.
            tokio::spawn(connection);
            return client;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the server does not accept connections");
}

/// A query's rows as text; `None`: NULL.
async fn rows(client: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
    let messages = client.simple_query(sql).await.map_err(|error| format!("{sql}: {error:?}"))?;
    let mut rows = Vec::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
        }
    }
    Ok(rows)
}
