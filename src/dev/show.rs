//! What runs where, as a table for people. Called by `dev` once everything is up.

use comfy_table::{Table, presets};

use super::{directory::Directory, layout::Layout};
use crate::{
    model::status::{MemberStatus, Status},
    provision::process::Supervised,
};

/// The table, the connection strings, and where to look further.
pub fn picture(layout: &Layout, directory: &Directory, parts: &[Supervised], status: &Status) -> String {
    let addresses = layout.coordinator_urls().join(",");
    let data = directory.path().display();
    format!(
        "{}\n\nSQL         {}\nread only   {}\nadmin       howdah status --coordinator {addresses}\nHTTP        \
         /livez, /readyz and /metrics on every HTTP port\nlogs        {data}/log/<part>.log\n",
        table(layout, directory, parts, status),
        layout.connection_string(false),
        layout.connection_string(true),
    )
}

fn table(layout: &Layout, directory: &Directory, parts: &[Supervised], status: &Status) -> String {
    let pid = |name: &str| {
        let life = parts.iter().find(|part| part.name() == name).map(Supervised::life);
        life.and_then(|life| life.pid).map_or_else(|| "-".to_owned(), |pid| pid.to_string())
    };
    let data = |name: &str| directory.path().join(name).display().to_string();
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["PART", "PID", "WHAT", "ADDRESS", "HTTP", "DATA"]);
    for it in &layout.coordinators {
        let name = format!("coordinator-{}", it.id);
        let role =
            status.coordinators.iter().find(|known| known.id == u64::from(it.id)).map_or("", |known| &known.role);
        table.add_row([
            name.clone(),
            pid(&name),
            format!("coordinator, {role}"),
            format!("127.0.0.1:{} gRPC", it.port),
            it.http.to_string(),
            data(&name),
        ]);
    }
    for it in &layout.containers {
        let (what, http, address) = match it.router {
            Some(router) => (
                what(status, &it.name),
                format!("{}, {}", it.http, router.http),
                format!("127.0.0.1:{} SQL, {} read only, {} PostgreSQL", router.sql, router.read_only, it.postgres),
            ),
            None => (what(status, &it.name), it.http.to_string(), format!("127.0.0.1:{} PostgreSQL", it.postgres)),
        };
        table.add_row([it.name.clone(), pid(&it.name), what, address, http, data(&it.name)]);
    }
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// `shard-1, primary`, or `spare`.
fn what(status: &Status, name: &str) -> String {
    let is = |member: &&MemberStatus| member.id == name;
    let of = |group| move |member: &MemberStatus| format!("{group}, {}", member.role);
    let found = status.groups.iter().find_map(|group| group.members.iter().find(is).map(of(group.id.as_str())));
    found.unwrap_or_else(|| "spare".to_owned())
}
