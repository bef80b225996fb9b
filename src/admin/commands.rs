//! Runs one admin command: one call, one table. Called by `cli`.

use std::{io::IsTerminal as _, time::Duration};

use anyhow::bail;
use indicatif::ProgressBar;

use super::{
    arguments::{
        AdminCommand, Changing, CoordinatorCommand, GroupCommand, MemberCommand, OperationCommand, Output, Reading,
        ShardCommand, TableCommand,
    },
    client::{CallError, Client},
    output::{line, show},
    tables,
};
use crate::{config::ServiceUrl, host::entropy, model::status::OperationStatus};

/// Between two pictures of `status --watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Runs `command`; the error is one line, with what to do.
pub async fn run(command: AdminCommand) -> anyhow::Result<()> {
    match command {
        AdminCommand::Status { reading, watch: true } => watch_status(&reading).await,
        AdminCommand::Status { reading, watch: false } => {
            show(reading.output, &reading.connection.client().status().await?, tables::status)
        }
        AdminCommand::Events { reading, after } => {
            show(reading.output, &reading.connection.client().events(after).await?, |list| tables::events(list))
        }
        AdminCommand::Shard(ShardCommand::List(reading)) => {
            let status = reading.connection.client().status().await?;
            let shards: Vec<_> = status.groups.into_iter().filter(|group| group.kind == "shard").collect();
            show(reading.output, &shards, |list| tables::shards(list))
        }
        AdminCommand::Shard(ShardCommand::Add { replicas, changing }) => {
            change(&changing, async |client, key| client.add_shard(key, replicas).await).await
        }
        AdminCommand::Group(GroupCommand::List(reading)) => {
            let status = reading.connection.client().status().await?;
            show(reading.output, &status.groups, |list| tables::groups(list))
        }
        AdminCommand::Group(GroupCommand::Set { group, replicas, changing }) => {
            change(&changing, async |client, key| client.set_replicas(key, &group, replicas).await).await
        }
        AdminCommand::Member(MemberCommand::List(reading)) => {
            let status = reading.connection.client().status().await?;
            let members: Vec<_> =
                status.groups.into_iter().flat_map(|group| group.members).chain(status.idle).collect();
            show(reading.output, &members, |list| tables::members(list))
        }
        AdminCommand::Member(MemberCommand::Remove { member, changing }) => {
            change(&changing, async |client, key| client.remove_member(key, &member).await).await
        }
        AdminCommand::Table(TableCommand::List(reading)) => {
            let status = reading.connection.client().status().await?;
            show(reading.output, &status.tables, |list| tables::tables(list))
        }
        AdminCommand::Operation(OperationCommand::List(reading)) => {
            let status = reading.connection.client().status().await?;
            show(reading.output, &status.operations, |list| tables::operations(list))
        }
        AdminCommand::Operation(OperationCommand::Watch { id, reading }) => {
            let operation = follow(&reading.connection.client(), id.as_str()).await?;
            ended(reading.output, &operation)
        }
        AdminCommand::CoordinatorMember(command) => coordinator_member(command).await,
        AdminCommand::Switchover { group, to, changing } => {
            change(&changing, async |client, key| client.switchover(key, &group, to.as_ref()).await).await
        }
        AdminCommand::Failover { group, accept_data_loss, changing } => {
            change(&changing, async |client, key| client.failover(key, &group, accept_data_loss).await).await
        }
        AdminCommand::Pause { group, changing } => {
            change(&changing, async |client, key| client.pause(key, group.as_ref()).await).await
        }
        AdminCommand::Resume { group, changing } => {
            change(&changing, async |client, key| client.resume(key, group.as_ref()).await).await
        }
    }
}

async fn coordinator_member(command: CoordinatorCommand) -> anyhow::Result<()> {
    match command {
        CoordinatorCommand::List(reading) => {
            let status = reading.connection.client().status().await?;
            show(reading.output, &status.coordinators, |list| tables::coordinators(list))
        }
        CoordinatorCommand::Add { url, changing } => {
            change(&changing, async |client, key| client.add_coordinator(key, url.as_str()).await).await
        }
        CoordinatorCommand::Remove { id, force, changing } => {
            change(&changing, async |client, key| client.remove_coordinator(key, id, force).await).await
        }
        CoordinatorCommand::Replace { id, url, changing } => {
            let url = url.as_ref().map_or("", ServiceUrl::as_str);
            change(&changing, async |client, key| client.replace_coordinator(key, id, url).await).await
        }
    }
}

/// Shows the status again and again, until a signal ends the process. A coordinator that does not
/// answer is shown, not fatal: watching is for bad times.
async fn watch_status(reading: &Reading) -> anyhow::Result<()> {
    let client = reading.connection.client();
    let clear = reading.output == Output::Table && std::io::stdout().is_terminal();
    loop {
        let picture = client.status().await;
        if clear {
            // ANSI: cursor to the top left, erase what is below.
            line("\x1b[H\x1b[2J")?;
        }
        match picture {
            Ok(status) => show(reading.output, &status, tables::status)?,
            Err(error) => eprintln!("howdah: {error}"),
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// Asks for a change and, unless told otherwise, follows it to its end.
async fn change(
    changing: &Changing,
    ask: impl AsyncFn(&Client, &str) -> Result<OperationStatus, CallError>,
) -> anyhow::Result<()> {
    let client = changing.reading.connection.client();
    let key = changing.idempotency_key.clone().unwrap_or_else(entropy::hex::<16>);
    let mut operation = ask(&client, &key).await?;
    if operation.state == "running" && !changing.no_wait {
        operation = follow(&client, &operation.id).await?;
    }
    ended(changing.reading.output, &operation)
}

/// Follows an operation: a spinner on a terminal, a line for each change elsewhere, on stderr.
async fn follow(client: &Client, id: &str) -> Result<OperationStatus, CallError> {
    let terminal = std::io::stderr().is_terminal();
    let spinner = if terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    spinner.enable_steady_tick(Duration::from_millis(100));
    let mut shown = String::new();
    let operation = client
        .watch(id, |now| {
            let text = format!("{} {} {}: {}", now.id, now.kind, now.target, now.message);
            spinner.set_message(text.clone());
            if !terminal && text != shown {
                eprintln!("{text}");
            }
            shown = text;
        })
        .await;
    spinner.finish_and_clear();
    operation
}

/// Shows an operation; a failed one is an error.
fn ended(output: Output, operation: &OperationStatus) -> anyhow::Result<()> {
    show(output, operation, |it| tables::operations(std::slice::from_ref(it)))?;
    if operation.state == "failed" {
        bail!("{} of {} failed: {}", operation.kind, operation.target, operation.message);
    }
    Ok(())
}
