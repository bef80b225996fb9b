//! [pure] The words every role shares: ids, numbers, what is wanted (policy), decided (group, goal,
//! map, topology) and seen (observed). Roles never import each other; they meet here and in `wire`.

pub mod coordinator;
pub mod goal;
pub mod group;
pub mod ids;
pub mod map;
pub mod numbers;
pub mod observed;
pub mod policy;
pub mod schema;
pub mod status;
pub mod topology;
