//! The text of `PostgreSQL`'s configuration files, as the cluster wants them. Written by
//! `postgres::files` before every start and on every change.

use core::net::IpAddr;
use std::{collections::BTreeSet, fmt::Write as _};

use crate::model::{
    group::{Cohort, Container},
    ids::MemberId,
    policy::WAL_SENDER_TIMEOUT,
};

/// The role standbys stream as.
pub const REPLICATION_ROLE: &str = "howdah_replication";
/// The role routers log in as.
pub const ROUTER_ROLE: &str = "howdah_router";
/// The bootstrap superuser, used by agents.
pub const AGENT_ROLE: &str = "postgres";

/// A standby's physical replication slot on its primary.
pub fn slot_name(member: &MemberId) -> String {
    member.as_str().replace('-', "_")
}

/// What does not change while `PostgreSQL` runs.
pub struct Fixed<'a> {
    /// `listen_addresses`.
    pub listen: &'a str,
    /// `port`.
    pub port: u16,
    /// `max_slot_wal_keep_size`.
    pub slot_wal_keep_mb: u32,
    /// `PostgreSQL`'s major version.
    pub major: u32,
}

/// The first version that keeps logical slots over a failover (manual, "Logical Replication Failover").
pub const SYNCS_SLOTS: u32 = 17;

/// `howdah.conf`. The reasons for the numbers stand beside them.
pub fn fixed(settings: &Fixed<'_>) -> String {
    let Fixed { listen, port, slot_wal_keep_mb, major } = settings;
    // Slots that were made with `failover => true` are kept on every standby.
    let sync_slots = if *major >= SYNCS_SLOTS { "sync_replication_slots = on\n" } else { "" };
    let (listen, wal_sender_timeout) = (quote(listen), WAL_SENDER_TIMEOUT);
    format!(
        "# Written by howdah before every start; changes are lost.
listen_addresses = {listen}
port = {port}
# TCP only: paths of deep data directories are too long for a socket.
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 300
# Every router session in a distributed transaction may hold one.
max_prepared_transactions = 500
shared_buffers = '128MB'
# Logical, so that buckets can be moved.
wal_level = logical
hot_standby = on
hot_standby_feedback = on
# Replay that waits longer for a reader delays elections.
max_standby_streaming_delay = '2s'
full_page_writes = on
max_wal_senders = 20
max_replication_slots = 20
wal_keep_size = '128MB'
max_slot_wal_keep_size = '{slot_wal_keep_mb}MB'
# The default of 5 s would make every follow take 5 s.
wal_retrieve_retry_interval = '100ms'
wal_receiver_status_interval = '1s'
wal_receiver_timeout = '5s'
wal_sender_timeout = '{wal_sender_timeout}ms'
recovery_target_timeline = 'latest'
# One call before recovery instead of an fsync of each of a thousand files.
recovery_init_sync_method = 'syncfs'
# The agent decides what follows a crash.
restart_after_crash = off
tcp_keepalives_idle = 5
tcp_keepalives_interval = 2
tcp_keepalives_count = 3
logging_collector = off
log_destination = 'stderr'
log_line_prefix = '%m [%p] %q%u@%d '
lc_messages = 'C'
{sync_slots}"
    )
}

/// Whom a standby follows.
pub struct Upstream<'a> {
    /// The primary.
    pub primary: &'a Container,
    /// Password of [`REPLICATION_ROLE`]: hexadecimal digits.
    pub password: &'a str,
    /// This member.
    pub me: &'a MemberId,
}

/// What changes while `PostgreSQL` runs: `howdah_dynamic.conf`.
#[derive(Default)]
pub struct Dynamic<'a> {
    /// Whom to follow; `None`: fenced.
    pub upstream: Option<Upstream<'a>>,
    /// Whose acknowledgement counts; `None`: a standby that never exists, so that nothing commits.
    pub cohort: Option<&'a Cohort>,
    /// Grows with each change, so that a session can tell that the file was read.
    pub generation: u64,
    /// `PostgreSQL`'s major version.
    pub major: u32,
}

/// Its text.
pub fn dynamic(settings: &Dynamic<'_>) -> String {
    let names = settings.cohort.map_or_else(|| "ANY 1 (howdah_fenced)".to_owned(), synchronous_standby_names);
    let (conninfo, slot, upstream) = match &settings.upstream {
        None => (String::new(), String::new(), ""),
        Some(to) => {
            let conninfo = conninfo(to.primary, REPLICATION_ROLE, to.me.as_str());
            // Slots are synchronised over an ordinary connection, which needs a database.
            let database = if settings.major >= SYNCS_SLOTS { " dbname=postgres" } else { "" };
            (format!("{conninfo} password={}{database}", to.password), slot_name(to.me), to.primary.id.as_str())
        }
    };
    let mut text = "# Written by howdah; changes are lost.\n".to_owned();
    for (name, value) in [
        ("primary_conninfo", conninfo.as_str()),
        ("primary_slot_name", &slot),
        ("synchronous_standby_names", &names),
        ("howdah.upstream", upstream),
        ("howdah.generation", &settings.generation.to_string()),
    ] {
        writeln!(text, "{name} = {}", quote(value)).expect("writing to a string cannot fail");
    }
    if settings.major >= SYNCS_SLOTS {
        let slots = quote(&synchronized_standby_slots(settings.cohort));
        writeln!(text, "synchronized_standby_slots = {slots}").expect("writing to a string cannot fail");
    }
    text
}

/// Slots of the standbys that must have a change before a subscriber of a failover slot gets it: all of the
/// cohort, as any of them may be elected; so no subscriber is ever ahead of the next primary. One that is lost
/// holds subscribers up until it has left the cohort.
pub fn synchronized_standby_slots(cohort: Option<&Cohort>) -> String {
    let slots = cohort.iter().filter(|cohort| cohort.acks > 0).flat_map(|cohort| &cohort.standbys).map(slot_name);
    slots.collect::<Vec<_>>().join(", ")
}

/// `ANY k ("a", "b")`, or nothing where nobody is waited for.
pub fn synchronous_standby_names(cohort: &Cohort) -> String {
    if cohort.acks == 0 || cohort.standbys.is_empty() {
        return String::new();
    }
    let names: Vec<_> = cohort.standbys.iter().map(|member| format!("\"{member}\"")).collect();
    format!("ANY {} ({})", cohort.acks, names.join(", "))
}

/// A libpq connection string to a member, without a password.
pub fn conninfo(to: &Container, role: &str, application_name: &str) -> String {
    let value = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    format!(
        "host={} port={} user={role} application_name={} connect_timeout=2 keepalives=1 keepalives_idle=2 \
         keepalives_interval=1 keepalives_count=3 tcp_user_timeout=5000 sslmode=prefer",
        value(&to.host),
        to.port,
        value(application_name),
    )
}

/// `pg_hba.conf`: passwords always; this host, its networks, and the members.
pub fn host_based_access(members: &[Container]) -> String {
    let hosts: BTreeSet<String> = members.iter().map(|member| address(&member.host)).collect();
    let near = ["127.0.0.1/32", "::1/128", "samehost", "samenet"].map(str::to_owned);
    let mut text = "# Written by howdah; changes are lost.\n".to_owned();
    for host in near.iter().chain(&hosts) {
        for database in ["all", "replication"] {
            writeln!(text, "host {database} all {host} scram-sha-256").expect("writing to a string cannot fail");
        }
    }
    text
}

/// An address as `pg_hba.conf` wants it: networks with their length, names as they are.
fn address(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => format!("{ip}/32"),
        Ok(IpAddr::V6(ip)) => format!("{ip}/128"),
        Err(_) => host.to_owned(),
    }
}

/// A value of a configuration file (manual, "Setting Parameters"): quotes doubled.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::numbers::Revision;

    #[test]
    fn names_are_quoted_and_nobody_is_nothing() {
        let member = |name: &str| name.parse::<MemberId>().expect("valid");
        let mut cohort = Cohort { standbys: [member("b-1"), member("a")].into(), acks: 1, ordered_at: Revision(3) };
        assert_eq!(synchronous_standby_names(&cohort), r#"ANY 1 ("a", "b-1")"#);
        cohort.acks = 0;
        assert_eq!(synchronous_standby_names(&cohort), "");
    }

    #[test]
    fn failover_slots_are_kept_where_postgresql_can() {
        let member = |name: &str| name.parse::<MemberId>().expect("valid");
        let cohort = Cohort { standbys: [member("b-1"), member("a")].into(), acks: 1, ordered_at: Revision(3) };
        let to = Container {
            id: member("p"),
            host: "h".to_owned(),
            port: 1,
            kind: crate::model::group::GroupKind::Shard,
            zone: String::new(),
            wish: None,
            priority: 50,
            birth: 0,
        };
        let text = |major| {
            let fixed = fixed(&Fixed { listen: "*", port: 1, slot_wal_keep_mb: 1, major });
            let me = member("a");
            let upstream = Some(Upstream { primary: &to, password: "00", me: &me });
            let standby = dynamic(&Dynamic { upstream, cohort: None, generation: 1, major });
            let primary = dynamic(&Dynamic { upstream: None, cohort: Some(&cohort), generation: 1, major });
            (fixed, standby, primary)
        };
        let (fixed, standby, primary) = text(17);
        assert!(fixed.contains("\nsync_replication_slots = on\n"), "{fixed}");
        assert!(standby.contains(" dbname=postgres'\n") && standby.contains("synchronized_standby_slots = ''\n"));
        assert!(primary.contains("\nsynchronized_standby_slots = 'a, b_1'\n"), "{primary}");
        let (fixed, standby, primary) = text(16);
        assert!([fixed, standby, primary].iter().all(|text| !text.contains("sync_rep") && !text.contains("dbname")));
        let alone = Cohort { acks: 0, ..cohort };
        assert_eq!(synchronized_standby_slots(Some(&alone)), "", "nobody is waited for");
    }

    #[test]
    fn fenced_commits_nothing_and_follows_nobody() {
        let text = dynamic(&Dynamic::default());
        assert!(text.contains("primary_conninfo = ''\n"), "{text}");
        assert!(text.contains("synchronous_standby_names = 'ANY 1 (howdah_fenced)'\n"), "{text}");
    }
}
