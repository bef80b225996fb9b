//! Every rule of the planner, by example, many of them refusals.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{Input, plan_text};
use crate::{
    model::ids::ColocationId,
    router::core::{
        catalog::{Catalog, Column, Distribution, Fill, Table, TableKind, TableName},
        hash::KeyType,
        plan::{KeySource, Leaf, Merge, Plan},
    },
};

mod grammar;
mod insert;
mod one_shard;
mod scatter;
mod utility;

pub fn column(name: &str, type_oid: u32, type_name: &str) -> Column {
    Column {
        name: name.to_owned(),
        type_oid,
        type_name: type_name.to_owned(),
        collation: None,
        not_null: false,
        declared_type: None,
        fill: Fill::Null,
    }
}

fn table(name: &str, key: Option<(usize, u32)>, columns: Vec<Column>) -> Table {
    let kind = match key {
        None => TableKind::Reference,
        Some((key, colocation)) => TableKind::Distributed(Distribution {
            key,
            key_type: KeyType::from_oid(columns[key].type_oid).expect("a key type"),
            colocation: ColocationId(colocation),
            bucket_count: 32,
        }),
    };
    Table {
        name: TableName::new("public", name),
        kind,
        columns,
        indexes: BTreeSet::from([format!("{name}_pkey")]),
        statement_triggers: false,
    }
}

/// `orders` and `items` by `customer`, `events` by a text in another group, `nations` everywhere.
pub fn catalog() -> Catalog {
    let bigint = |name: &str| column(name, 20, "bigint");
    let text = |name: &str| column(name, 25, "text");
    let numeric = |name: &str| column(name, 1700, "numeric");
    Catalog::new(
        [
            table("orders", Some((0, 1)), vec![bigint("customer"), bigint("id"), text("note"), numeric("total")]),
            table(
                "items",
                Some((0, 1)),
                vec![bigint("customer"), bigint("order_id"), bigint("nation"), numeric("price")],
            ),
            table("events", Some((1, 2)), vec![bigint("id"), text("device"), text("what")]),
            table("nations", None, vec![bigint("id"), text("name")]),
        ],
        [TableName::new("other", "orders")],
        ["my_function".to_owned()],
        [],
    )
}

pub fn plan_with(text: &str, param_types: &[u32], search_path: &[&str]) -> Plan {
    let catalog = catalog();
    let search_path: Vec<String> = search_path.iter().map(|schema| (*schema).to_owned()).collect();
    let input = Input {
        catalog: &catalog,
        search_path: &search_path,
        temporary: &BTreeSet::from(["scratch".to_owned()]),
        param_types,
        standard_conforming_strings: true,
    };
    let mut plans = plan_text(&input, text);
    assert_eq!(plans.len(), 1, "{text}");
    plans.remove(0).plan
}

pub fn plan(text: &str) -> Plan {
    plan_with(text, &[], &["public"])
}

/// What a plan is, in one line.
pub fn show(text: &str) -> String {
    show_plan(&plan(text))
}

pub fn show_plan(plan: &Plan) -> String {
    let leaf = Some(Leaf { bucket: 7, bucket_count: 32 });
    let mut out = String::new();
    match plan {
        Plan::OneShard(one) => {
            match &one.key {
                KeySource::Bucket(_) => out.push_str("bucket: "),
                KeySource::Param { index, .. } => write!(out, "${index}: ").expect("a string"),
                KeySource::Ask { text, .. } => write!(out, "ask {text}: ").expect("a string"),
            }
            one.text.render(leaf, &mut out);
        }
        Plan::Scatter(scatter) => {
            out.push_str("scatter: ");
            scatter.shard.render(None, &mut out);
            if let Merge::Final { query, columns } = &scatter.merge {
                write!(out, " | {columns} | ").expect("a string");
                query.render_final(None, "partial", &|_| "type", &mut out);
            }
        }
        Plan::Refuse(refusal) => write!(out, "{}: {}", refusal.sqlstate, refusal.message).expect("a string"),
        Plan::Local(local) if local.effects.is_empty() => out.push_str("local"),
        other => write!(out, "{other:?}").expect("a string"),
    }
    out
}

pub fn is_local(text: &str) {
    assert!(matches!(plan(text), Plan::Local(_)), "{text}: {:?}", plan(text));
}

pub fn is_scatter(text: &str) {
    assert!(matches!(plan(text), Plan::Scatter(_)), "{text}: {:?}", plan(text));
}

pub fn is_one_shard(text: &str) {
    assert!(matches!(plan(text), Plan::OneShard(_)), "{text}: {:?}", plan(text));
}

pub fn is_refused(text: &str) {
    assert!(matches!(plan(text), Plan::Refuse(_)), "{text}: {:?}", plan(text));
}
