//! `proto/status.schema.json` documents exactly what `howdah status --output json` prints.

use std::fs;

use howdah::model::{
    ids::ColocationId,
    map::Colocation,
    status::{
        CoordinatorStatus, Event, GroupStatus, MapStatus, MemberStatus, OperationStatus, RouterStatus, Status,
        TableStatus,
    },
};
use serde_json::Value;

fn text() -> String {
    "x".to_owned()
}

fn member() -> MemberStatus {
    MemberStatus {
        id: text(),
        address: text(),
        port: 1,
        role: text(),
        state: text(),
        healthy: true,
        epoch: 1,
        timeline: 1,
        lsn: text(),
        lag_bytes: Some(1),
        synchronous: true,
        pid: Some(1),
        postmaster_pid: Some(1),
        data_dir: text(),
        note: text(),
        group: text(),
    }
}

/// One of everything, nothing left out.
fn full() -> Status {
    let (id, kind, state, message) = (text(), text(), text(), text());
    let coordinator = CoordinatorStatus { id: 1, address: text(), role: text(), term: 1, healthy: true, pid: Some(1) };
    let group = GroupStatus {
        id: text(),
        kind: text(),
        epoch: 1,
        phase: text(),
        primary: Some(text()),
        cohort: vec![text()],
        acks: 1,
        reason: text(),
        paused: true,
        replicas: 1,
        members: vec![member()],
    };
    let router = RouterStatus {
        id: text(),
        address: text(),
        port: 1,
        read_only_port: 1,
        map_version: 1,
        healthy: true,
        pid: Some(1),
    };
    let buckets = vec!["shard-1".parse().expect("a name")];
    let colocation = Colocation { id: ColocationId(1), key_type: text(), buckets };
    let table = TableStatus {
        database: text(),
        schema: text(),
        name: text(),
        kind: text(),
        distribution_column: text(),
        colocation_id: 1,
        bucket_count: 1,
        shards: vec![text()],
    };
    Status {
        cluster: text(),
        coordinators: vec![coordinator],
        groups: vec![group],
        idle: vec![member()],
        routers: vec![router],
        map: MapStatus { version: 1, colocation_groups: vec![colocation] },
        tables: vec![table],
        operations: vec![OperationStatus { id, kind, target: text(), state, message }],
        warnings: vec![text()],
    }
}

/// Every field is documented with its type, and nothing is documented that is not there.
fn compare(schema: &Value, root: &Value, value: &Value, place: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(name) => &root["$defs"][name.rsplit('/').next().unwrap_or_default()],
        None => schema,
    };
    let kind = match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "integer",
        Value::Bool(_) => "boolean",
        Value::Null => "null",
    };
    let kinds = &schema["type"];
    let documented = kinds == kind || kinds.as_array().is_some_and(|kinds| kinds.iter().any(|one| one == kind));
    assert!(documented, "{place} is {kind}, the schema says {kinds}");
    match value {
        Value::Object(fields) => {
            let properties = schema["properties"].as_object().expect("an object has properties");
            let (have, documented): (Vec<_>, Vec<_>) = (fields.keys().collect(), properties.keys().collect());
            assert!(have.iter().all(|name| documented.contains(name)), "{place}: {have:?} and {documented:?}");
            assert!(documented.iter().all(|name| have.contains(name)), "{place}: {have:?} and {documented:?}");
            fields.iter().for_each(|(name, value)| compare(&properties[name], root, value, &format!("{place}.{name}")));
        }
        Value::Array(items) => {
            for item in items {
                compare(&schema["items"], root, item, &format!("{place}[]"));
            }
        }
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

#[test]
fn the_schema_documents_the_status() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/proto/status.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).expect("the schema")).expect("it is JSON");
    compare(&schema, &schema, &serde_json::to_value(full()).expect("a status is JSON"), "status");
    let event = Event { revision: 1, time_ms: 1, group: text(), kind: text(), message: text() };
    let event = serde_json::to_value(event).expect("an event is JSON");
    compare(&schema["$defs"]["event"], &schema, &event, "event");
}
