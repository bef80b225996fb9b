//! What a replayed seed tells.

use std::fmt::Write as _;

use super::cluster::Cluster;

pub fn tell(cluster: &Cluster, what: impl FnOnce() -> String) {
    if cluster.tell {
        println!("{:>6} {}", cluster.now, what());
    }
}

/// Everything, for a failure.
pub fn state(cluster: &Cluster) -> String {
    let mut text = format!("{:#?}\n", cluster.group());
    for member in &cluster.members {
        let postgres = &member.postgres;
        let end = postgres.position();
        let goal = member.agent.goal.as_ref().map(|goal| (goal.epoch, goal.revision, &goal.order));
        let (id, promise, frozen) = (&member.id, member.agent.promise, member.frozen_until);
        let running = &postgres.running;
        writeln!(text, "{id}: promise {promise} at {end}, {running:?}, goal {goal:?}, frozen until {frozen}")
            .expect("writing to a string cannot fail");
    }
    text
}
