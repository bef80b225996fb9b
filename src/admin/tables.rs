//! Status, shards, tables, operations and events as tables for people. Called by `commands`.

use std::fmt::Write as _;

use comfy_table::{Cell, Color, Table, presets};

use super::times;
use crate::model::status::{CoordinatorStatus, Event, GroupStatus, MemberStatus, OperationStatus, Status, TableStatus};

/// A table without lines, its head in capitals.
fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(head.iter().map(|name| Cell::new(name.to_uppercase())));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Coloured only on a terminal: the table sees to that.
fn health(healthy: bool) -> Cell {
    if healthy { Cell::new("ok").fg(Color::Green) } else { Cell::new("NOT OK").fg(Color::Red) }
}

fn address(host: &str, port: u16) -> String {
    if port == 0 { "-".to_owned() } else { format!("{host}:{port}") }
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn coordinator_table(list: &[CoordinatorStatus]) -> Table {
    let mut table = table(&["coordinator", "address", "role", "term", "health"]);
    for it in list {
        table.add_row([
            Cell::new(it.id),
            Cell::new(&it.address),
            Cell::new(&it.role),
            Cell::new(it.term),
            health(it.healthy),
        ]);
    }
    table
}

/// Coordinators.
pub fn coordinators(list: &[CoordinatorStatus]) -> String {
    trimmed(&coordinator_table(list))
}

/// Everything.
pub fn status(status: &Status) -> String {
    let mut text = format!("cluster {}, map version {}\n\n", status.cluster, status.map.version);
    let coordinators = coordinator_table(&status.coordinators);
    let mut routers = table(&["router", "sql", "read-only", "map", "health"]);
    for it in &status.routers {
        routers.add_row([
            Cell::new(&it.id),
            Cell::new(address(&it.address, it.port)),
            Cell::new(address(&it.address, it.read_only_port)),
            Cell::new(it.map_version),
            health(it.healthy),
        ]);
    }
    let everyone = status.groups.iter().flat_map(|group| &group.members).chain(&status.idle);
    let mut all = vec![("", coordinators), ("", group_table(&status.groups)), ("", member_table(everyone))];
    all.push(("", routers));
    if !status.operations.is_empty() {
        all.push(("", operation_table(&status.operations)));
    }
    for (title, table) in all {
        writeln!(text, "{title}{}\n", trimmed(&table)).expect("writing to a string cannot fail");
    }
    for warning in &status.warnings {
        writeln!(text, "warning: {warning}").expect("writing to a string cannot fail");
    }
    text
}

/// Lines without the blanks that fill the last column.
fn trimmed(table: &Table) -> String {
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn group_table(groups: &[GroupStatus]) -> Table {
    let mut table = table(&["group", "epoch", "phase", "primary", "commits wait for", "reason"]);
    for it in groups {
        let colour = if it.phase == "serving" { Color::Green } else { Color::Yellow };
        let wait = match it.acks {
            0 => "nobody".to_owned(),
            acks => format!("{acks} of {}", it.cohort.join(", ")),
        };
        table.add_row([
            Cell::new(&it.id),
            Cell::new(it.epoch),
            Cell::new(if it.paused { format!("{}, paused", it.phase) } else { it.phase.clone() }).fg(colour),
            Cell::new(it.primary.as_deref().unwrap_or("-")),
            Cell::new(wait),
            Cell::new(dash(&it.reason)),
        ]);
    }
    table
}

/// Groups.
pub fn groups(list: &[GroupStatus]) -> String {
    trimmed(&group_table(list))
}

/// Members of groups, and containers without one.
pub fn members(list: &[MemberStatus]) -> String {
    trimmed(&member_table(list.iter()))
}

fn member_table<'a>(list: impl Iterator<Item = &'a MemberStatus>) -> Table {
    let head = ["member", "group", "address", "role", "state", "timeline", "lsn", "lag", "sync", "health", "note"];
    let mut table = table(&head);
    for it in list {
        table.add_row(member_row(it));
    }
    table
}

fn member_row(it: &MemberStatus) -> Vec<Cell> {
    vec![
        Cell::new(&it.id),
        Cell::new(dash(&it.group)),
        Cell::new(address(&it.address, it.port)),
        Cell::new(&it.role),
        Cell::new(&it.state),
        Cell::new(it.timeline),
        Cell::new(&it.lsn),
        Cell::new(it.lag_bytes.map_or_else(|| "-".to_owned(), bytes)),
        Cell::new(if it.synchronous { "yes" } else { "-" }),
        health(it.healthy),
        Cell::new(dash(&it.note)),
    ]
}

/// Bytes in the largest unit that leaves at least one.
fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{} kB", count / 1024),
        1_048_576..1_073_741_824 => format!("{} MB", count / 1_048_576),
        _ => format!("{} GB", count / 1_073_741_824),
    }
}

/// Shards and their members.
pub fn shards(groups: &[GroupStatus]) -> String {
    let mut table = table(&["shard", "epoch", "phase", "primary", "standbys"]);
    for it in groups {
        let primary = it.primary.as_deref().unwrap_or("-");
        let standbys: Vec<_> = it.members.iter().map(|member| member.id.as_str()).filter(|id| *id != primary).collect();
        table.add_row([
            it.id.clone(),
            it.epoch.to_string(),
            it.phase.clone(),
            primary.to_owned(),
            dash(&standbys.join(", ")).to_owned(),
        ]);
    }
    trimmed(&table)
}

/// Distributed and reference tables.
pub fn tables(list: &[TableStatus]) -> String {
    let mut table = table(&["table", "database", "kind", "column", "colocation", "buckets", "shards"]);
    for it in list {
        table.add_row([
            format!("{}.{}", it.schema, it.name),
            it.database.clone(),
            it.kind.clone(),
            dash(&it.distribution_column).to_owned(),
            it.colocation_id.to_string(),
            it.bucket_count.to_string(),
            it.shards.join(", "),
        ]);
    }
    trimmed(&table)
}

fn operation_table(operations: &[OperationStatus]) -> Table {
    let mut table = table(&["operation", "kind", "target", "state", "message"]);
    for it in operations {
        let colour = match it.state.as_str() {
            "done" => Color::Green,
            "failed" => Color::Red,
            _ => Color::Yellow,
        };
        table.add_row([
            Cell::new(&it.id),
            Cell::new(&it.kind),
            Cell::new(&it.target),
            Cell::new(&it.state).fg(colour),
            Cell::new(&it.message),
        ]);
    }
    table
}

/// Operations.
pub fn operations(list: &[OperationStatus]) -> String {
    trimmed(&operation_table(list))
}

/// Events.
pub fn events(list: &[Event]) -> String {
    let mut table = table(&["time", "revision", "group", "event", "what and why"]);
    for it in list {
        let row = [
            times::utc(it.time_ms),
            it.revision.to_string(),
            dash(&it.group).to_owned(),
            it.kind.clone(),
            it.message.clone(),
        ];
        table.add_row(row);
    }
    trimmed(&table)
}
