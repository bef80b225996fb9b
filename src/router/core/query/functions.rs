//! Which functions may run on a shard, and what their answers depend on. Called while expressions are
//! read.

use crate::router::core::catalog::Catalog;

/// How far a function's answer can be trusted when it is evaluated on shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It depends on its arguments and on settings that every session of ours has alike.
    Steady,
    /// It tells the time: nearly alike everywhere.
    Clock,
    /// It answers differently each time.
    Volatile,
    /// It must not run there, for this reason (a hint).
    No(&'static str),
}

/// Prefixes of built-in functions that look at the server, the session or the catalog.
const OF_THE_SERVER: [&str; 11] = [
    "pg_",
    "lo_",
    "txid_",
    "has_",
    "inet_client",
    "inet_server",
    "to_reg",
    "currtid",
    "col_description",
    "obj_description",
    "shobj_",
];

/// Exceptions to [`OF_THE_SERVER`].
const HARMLESS: [&str; 5] = ["pg_typeof", "pg_size_pretty", "pg_column_size", "pg_sleep", "pg_collation_for"];

/// What a call of this name can be trusted with.
pub fn trust(catalog: &Catalog, schema: Option<&str>, name: &str) -> Trust {
    if schema.is_some_and(|schema| schema != "pg_catalog") || catalog.is_user_function(name) {
        return Trust::No(
            "Its body may read tables, of which a shard has only a part. Compute its value first and pass it on.",
        );
    }
    match name {
        "nextval" | "currval" | "lastval" | "setval" => {
            Trust::No("Sequences live in the query group. Call it in a statement of its own and pass the value on.")
        }
        "set_config" | "setseed" => Trust::No("Call it in a statement of its own."),
        "query_to_xml" | "table_to_xml" | "schema_to_xml" | "database_to_xml" | "cursor_to_xml" | "ts_stat" => {
            Trust::No("It reads tables by itself, of which a shard has only a part.")
        }
        "now" | "transaction_timestamp" | "statement_timestamp" | "age" => Trust::Clock,
        "random" | "clock_timestamp" | "timeofday" | "gen_random_uuid" | "uuidv4" | "uuidv7" | "random_normal" => {
            Trust::Volatile
        }
        _ if HARMLESS.contains(&name) => Trust::Steady,
        _ if OF_THE_SERVER.iter().any(|prefix| name.starts_with(prefix)) => {
            Trust::No("It tells about one server. Call it in a statement of its own.")
        }
        _ => Trust::Steady,
    }
}

/// Strings that date and time types read as the present.
pub fn is_clock_word(text: &str) -> bool {
    ["now", "today", "tomorrow", "yesterday"].iter().any(|word| text.trim().eq_ignore_ascii_case(word))
}

/// The built-in aggregates.
const AGGREGATES: [&str; 52] = [
    "any_value",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "cume_dist",
    "dense_rank",
    "every",
    "json_agg",
    "json_agg_strict",
    "json_object_agg",
    "json_object_agg_strict",
    "json_object_agg_unique",
    "json_object_agg_unique_strict",
    "jsonb_agg",
    "jsonb_agg_strict",
    "jsonb_object_agg",
    "jsonb_object_agg_strict",
    "jsonb_object_agg_unique",
    "jsonb_object_agg_unique_strict",
    "max",
    "min",
    "mode",
    "percent_rank",
    "percentile_cont",
    "percentile_disc",
    "range_agg",
    "range_intersect_agg",
    "rank",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "var_pop",
    "var_samp",
];

/// The name is that of a built-in aggregate.
pub fn is_aggregate(name: &str) -> bool {
    AGGREGATES.binary_search(&name).is_ok() || matches!(name, "variance" | "xmlagg")
}
