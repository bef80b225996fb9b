//! When a cluster is up: [`missing`] says what is not yet; [`sql`] asks each router. Called by `dev`.

use std::time::Duration;

use tokio_postgres::NoTls;

use super::layout::{Layout, Shape};
use crate::{host::causes::with_causes, model::status::Status};

/// A router holds work for a group without a primary for 15 s; here it is asked again sooner.
const SQL_DEADLINE: Duration = Duration::from_secs(3);

/// The first thing that is not as it should be; `None`: all is.
pub fn missing(status: &Status, shape: &Shape, layout: &Layout) -> Option<String> {
    let ill = status.coordinators.iter().find(|it| !it.healthy);
    if let Some(it) = ill {
        return Some(format!("coordinator-{} is not in touch with its leader", it.id));
    }
    if status.coordinators.len() < layout.coordinators.len() {
        return Some("not every coordinator is there".to_owned());
    }
    let members = status.groups.iter().flat_map(|group| &group.members).chain(&status.idle);
    let known = members.count();
    if known < layout.containers.len() {
        return Some(format!("{known} of {} containers have registered", layout.containers.len()));
    }
    if status.groups.len() < usize::from(shape.shards) + 1 {
        return Some(format!("{} of {} groups are formed", status.groups.len(), shape.shards + 1));
    }
    for group in &status.groups {
        if group.phase != "serving" {
            return Some(format!("{} is {}", group.id, group.phase));
        }
        if let Some(it) = group.members.iter().find(|it| !it.healthy) {
            let note = if it.note.is_empty() { String::new() } else { format!(": {}", it.note) };
            return Some(format!("{} of {} is {}{note}", it.id, group.id, it.state));
        }
    }
    let routers = status.routers.iter().filter(|it| it.healthy).count();
    let wanted = usize::from(shape.query_nodes);
    (routers < wanted).then(|| format!("{routers} of {wanted} routers answer"))
}

/// Every router answers a statement; else which does not, and why.
pub async fn sql(layout: &Layout) -> Result<(), String> {
    for it in layout.containers.iter().filter(|it| it.router.is_some()) {
        let port = it.router.map_or(0, |router| router.sql);
        let string = format!("host=127.0.0.1 port={port} user=howdah password=howdah dbname=howdah");
        let ask = async {
            let (client, connection) = tokio_postgres::connect(&string, NoTls).await?;
            // Ends with the client.
            let running = tokio::spawn(connection);
            let answer = client.simple_query("SELECT 1").await;
            drop(client);
            running.abort();
            answer
        };
        match tokio::time::timeout(SQL_DEADLINE, ask).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(format!("the router of {}: {}", it.name, with_causes(&error))),
            Err(_) => return Err(format!("the router of {} does not answer SQL yet", it.name)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::status::{CoordinatorStatus, GroupStatus, MapStatus, MemberStatus, RouterStatus};

    fn member(id: &str) -> MemberStatus {
        MemberStatus {
            id: id.to_owned(),
            address: "127.0.0.1".to_owned(),
            port: 1,
            role: "primary".to_owned(),
            state: "primary".to_owned(),
            healthy: true,
            epoch: 1,
            timeline: 2,
            lsn: "0/0".to_owned(),
            lag_bytes: None,
            synchronous: false,
            pid: None,
            postmaster_pid: None,
            data_dir: String::new(),
            note: String::new(),
            group: String::new(),
        }
    }

    fn whole() -> Status {
        let group = |id: &str, kind: &str, member_id: &str| GroupStatus {
            id: id.to_owned(),
            kind: kind.to_owned(),
            epoch: 1,
            phase: "serving".to_owned(),
            primary: Some(member_id.to_owned()),
            cohort: Vec::new(),
            acks: 0,
            reason: String::new(),
            paused: false,
            replicas: 0,
            members: vec![member(member_id)],
        };
        let router = RouterStatus {
            id: "query-1".to_owned(),
            address: String::new(),
            port: 1,
            read_only_port: 0,
            map_version: 1,
            healthy: true,
            pid: None,
        };
        let coordinator = CoordinatorStatus {
            id: 1,
            address: String::new(),
            role: "leader".to_owned(),
            term: 1,
            healthy: true,
            pid: None,
        };
        Status {
            cluster: "dev".to_owned(),
            coordinators: vec![coordinator],
            groups: vec![group("query", "query", "query-1"), group("shard-1", "shard", "data-1")],
            idle: Vec::new(),
            routers: vec![router],
            map: MapStatus { version: 1, colocation_groups: Vec::new() },
            tables: Vec::new(),
            operations: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn says_what_is_missing() {
        let shape = Shape {
            shards: 1,
            replicas: 0,
            coordinators: 1,
            query_nodes: 1,
            spares: 0,
            sql_port: 7432,
            base_port: 7400,
            zones: 0,
        };
        let layout = shape.layout().expect("it fits");
        let with = |change: fn(&mut Status)| {
            let mut status = whole();
            change(&mut status);
            missing(&status, &shape, &layout)
        };
        assert_eq!(with(|_| ()), None);
        let recruiting = with(|status| status.groups[1].phase = "recruiting".to_owned());
        assert_eq!(recruiting.as_deref(), Some("shard-1 is recruiting"));
        assert!(with(|status| status.groups[0].members[0].healthy = false).is_some());
        assert!(with(|status| status.routers.clear()).is_some());
        assert!(with(|status| status.groups.truncate(1)).is_some());
    }
}
