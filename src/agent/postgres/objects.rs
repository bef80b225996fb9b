//! Roles, database and schema that every group has. Made sure of in every reign; nothing here waits
//! for standbys, and whatever is acknowledged later lies behind it in the log.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::timeout;
use tokio_postgres::Client;

use crate::{
    agent::core::settings::{AGENT_ROLE, REPLICATION_ROLE, ROUTER_ROLE},
    model::{goal::Goal, schema},
};

use super::{ActionError, Server};

/// `CREATE DATABASE` copies files, and waits for a checkpoint on a busy disk.
const ENSURE: Duration = Duration::from_mins(2);

/// The schema that `model::schema` makes.
const SCHEMA: &str = "howdah";

impl Server {
    /// Makes sure of them.
    pub async fn ensure_objects(&self, goal: &Goal) -> Result<(), ActionError> {
        let what = "making sure of roles, database and schema";
        match timeout(ENSURE, self.ensure(goal, what)).await {
            Ok(result) => result,
            Err(_) => Err(ActionError::Deadline { what: what.to_owned(), after: ENSURE }),
        }
    }

    async fn ensure(&self, goal: &Goal, what: &str) -> Result<(), ActionError> {
        let (database, owner) = (&goal.settings.database, &goal.settings.owner);
        let session = self.connect("postgres").await?;
        let client = session.client();
        self.ensure_roles(client, owner).await.map_err(ActionError::sql(what))?;
        let there = client.query_opt("SELECT FROM pg_database WHERE datname = $1", &[database]).await;
        if there.map_err(ActionError::sql(what))?.is_none() {
            let create = format!("CREATE DATABASE {} OWNER {}", identifier(database), identifier(owner));
            client.simple_query(&create).await.map_err(ActionError::sql(what))?;
        }
        let session = self.connect(database).await?;
        let installed = session.client().query_one(&schema::installed(), &[]).await.map_err(ActionError::sql(what))?;
        if !installed.get::<_, bool>(0) {
            session.client().batch_execute(&schema::install(goal.kind)).await.map_err(ActionError::sql(what))?;
        }
        Ok(())
    }

    /// Verifiers are derived, so that they are equal on every group and a client's key passes through.
    async fn ensure_roles(&self, client: &Client, owner: &str) -> Result<(), tokio_postgres::Error> {
        let rows = client.query("SELECT rolname::text, coalesce(rolpassword, '') FROM pg_authid", &[]).await?;
        let present: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let ours = [(AGENT_ROLE, "SUPERUSER"), (REPLICATION_ROLE, "REPLICATION"), (ROUTER_ROLE, "SUPERUSER")];
        for (role, right) in ours {
            let verifier = self.secret.verifier(role, &self.secret.password(role));
            let verb = match present.get(role) {
                Some(password) if *password == verifier => continue,
                Some(_) => "ALTER",
                None => "CREATE",
            };
            client.simple_query(&format!("{verb} ROLE {role} LOGIN {right} PASSWORD '{verifier}'")).await?;
        }
        // The owner's password is the users' to change: it is set once.
        if !present.contains_key(owner) {
            let verifier = self.secret.verifier(owner, &self.owner_password);
            let (owner, rights) = (identifier(owner), "LOGIN CREATEDB CREATEROLE");
            client
                .simple_query(&format!("CREATE ROLE {owner} {rights} PASSWORD '{verifier}' IN ROLE pg_monitor"))
                .await?;
        }
        // A role of the schema's own name would find and make its tables in there ("$user" comes first).
        let configured = "SELECT FROM pg_db_role_setting JOIN pg_roles r ON r.oid = setrole
            WHERE rolname = $1 AND setdatabase = 0 AND setconfig::text LIKE '%search_path=%'";
        if owner == SCHEMA && client.query_opt(configured, &[&owner]).await?.is_none() {
            client.simple_query(&format!("ALTER ROLE {} SET search_path = public", identifier(owner))).await?;
        }
        Ok(())
    }
}

/// A name, quoted.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
