//! What a replayed seed tells.

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
        text += &format!(
            "{}: promise {} at {end}, {:?}, goal {goal:?}, frozen until {}\n",
            member.id, member.agent.promise, postgres.running, member.frozen_until
        );
    }
    text
}
