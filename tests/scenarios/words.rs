//! The words of a scenario, one sentence a line; `#` begins a comment.
//!
//! | sentence | meaning |
//! |---|---|
//! | `policy acks=1 durability=strict …` | before all others; otherwise the default policy, no groups |
//! | `serving a b c acks=1` | group `shard-1` serves in epoch 1 on timeline 2; `a` reigns, the others are its cohort |
//! | `container x zone=z wish=g priority=9 birth=8` | a container registers; before `serving`: so it is when that begins |
//! | `a primary 2:100 b=100 c=90` | `a` reports, from now on with every heartbeat: primary, where its log ends, who streams from it and has flushed what; `epoch=` and `old-cohort` where they are not the newest ones |
//! | `b standby 2:100 from=a` | `b` streams from `a`; without `from` it stands still; `recruited` answers a recruitment |
//! | `a live 2:100` | a primary in good health that answers a recruitment |
//! | `a down`, `a crashed`, `a starting`, `a empty` | no `PostgreSQL`, in these ways |
//! | `a silent`, `a gone` | nothing more is heard; its stream is reset |
//! | `router r open=1 topology=5` | a router reports |
//! | `ask switchover to=b`, `ask failover accept-data-loss`, `ask add-shard replicas=1`, `ask pause`, `ask resume`, `ask remove member=b`, `ask set replicas=2` | a person asks |
//! | `the leader pauses 800` | nobody at all is heard for so long |
//! | `another leader begins` | it has heard of nobody; containers have to register with it |
//! | `expect X` | the planner wants exactly X, now; it is applied |
//! | `within 700 expect X` | it wants nothing until then, and X before 700 ms have passed |
//! | `for 700 nothing` | it wants nothing for so long |
//! | `warns X` | a warning of `status` contains X |

use std::collections::BTreeMap;

use howdah::{
    coordinator::core::{
        command::{OperationKind, Outcome},
        state::State,
    },
    model::{
        group::{Cohort, Phase},
        numbers::{Epoch, Lsn, Millis, Position, Revision, Timeline},
        observed::{DataState, PostgresSeen, Recruited, StandbySeen},
        policy::{AckZones, Durability, Policy, Reads},
    },
};

use super::{
    show,
    stage::{SYSTEM, Stage, group_id, id},
};

/// A sentence's words, and its `key=value` pairs.
struct Sentence<'a> {
    words: Vec<&'a str>,
    pairs: BTreeMap<&'a str, &'a str>,
}

impl<'a> Sentence<'a> {
    fn new(line: &'a str) -> Self {
        let (pairs, words): (Vec<_>, Vec<_>) = line.split_whitespace().partition(|word| word.contains('='));
        Self { words, pairs: pairs.into_iter().filter_map(|pair| pair.split_once('=')).collect() }
    }

    fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.pairs.get(key).map(|text| text.parse().expect("a number"))
    }
}

/// Plays a scenario; panics, with its name and line, where it goes otherwise.
pub fn play(name: &str, text: &str) {
    let mut stage = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let at = format!("{name}:{}: {line}", number + 1);
        let sentence = Sentence::new(line);
        if sentence.words[0] == "policy" {
            stage = Some(Stage::new(policy(&sentence)));
            continue;
        }
        let stage =
            stage.get_or_insert_with(|| Stage::new(Policy { shards: 0, query_members: 0, ..Policy::default() }));
        play_line(stage, line, &sentence, &at);
    }
}

fn policy(sentence: &Sentence<'_>) -> Policy {
    let number = |key, default| sentence.number(key).map_or(default, |n| u32::try_from(n).expect("small"));
    let is = |key, value| sentence.pairs.get(key) == Some(&value);
    Policy {
        shards: number("shards", 0),
        replicas: number("replicas", 1),
        query_members: number("query", 0),
        acks: number("acks", 1),
        durability: if is("durability", "strict") { Durability::Strict } else { Durability::Available },
        ack_zones: if is("ack-zones", "other") { AckZones::Other } else { AckZones::Any },
        replace_after: sentence.number("replace-after").map_or(Policy::default().replace_after, Millis),
        reads: if is("reads", "strict") { Reads::Strict } else { Reads::Available },
        ..Policy::default()
    }
}

fn play_line(stage: &mut Stage, line: &str, sentence: &Sentence<'_>, at: &str) {
    match sentence.words.as_slice() {
        ["serving", members @ ..] => {
            stage.serve(members, u32::try_from(sentence.number("acks").unwrap_or(1)).expect("small"));
        }
        ["container", name] => {
            let priority = sentence.number("priority").map(|n| u32::try_from(n).expect("small"));
            let (zone, wish) = (sentence.pairs.get("zone").unwrap_or(&""), sentence.pairs.get("wish").copied());
            stage.connect(name, zone, wish, priority, sentence.number("birth").unwrap_or(0));
        }
        ["router", name] => {
            let open = u32::try_from(sentence.number("open").unwrap_or(0)).expect("small");
            stage.router(name, sentence.number("topology").map(Revision), open);
        }
        ["ask", what, ..] => {
            let outcome = stage.ask(operation(what, sentence));
            assert!(matches!(outcome, Outcome::Operation(_)), "{at}: {outcome:?}");
        }
        ["another", "leader", "begins"] => stage.begin_term(),
        ["the", "leader", "pauses", span] => stage.pause(span.parse().expect("milliseconds")),
        ["warns", ..] => {
            let wanted = line.trim_start_matches("warns").trim();
            let warnings = stage.warnings();
            assert!(warnings.iter().any(|warning| warning.contains(wanted)), "{at}: {warnings:#?}");
        }
        ["expect", ..] => expect(stage, 0, line.trim_start_matches("expect").trim(), at),
        ["within", span, "expect", ..] => {
            let (_, wanted) = line.split_once("expect").expect("it is there");
            expect(stage, span.parse().expect("milliseconds"), wanted.trim(), at);
        }
        ["for", span, "nothing"] => {
            let wanted = stage.wait(span.parse().expect("milliseconds"));
            assert!(wanted.is_empty(), "{at}: {:?}", wanted.iter().map(show::proposal).collect::<Vec<_>>());
        }
        [member, "gone"] => stage.reset(member),
        [member, "silent"] => stage.say(member, None),
        [member, what, rest @ ..] => {
            let end = rest.first().map(|text| position(text));
            let said = say(&stage.state, member, what, end, sentence);
            stage.say(member, Some(said));
        }
        _ => panic!("{at}: what does that mean?"),
    }
}

fn expect(stage: &mut Stage, span: u64, wanted: &str, at: &str) {
    let proposals = stage.wait(span);
    let shown: Vec<_> = proposals.iter().map(show::proposal).collect();
    assert_eq!(shown.join(" & "), wanted, "{at}");
    for proposal in &proposals {
        let outcome = stage.apply(proposal);
        assert_eq!(outcome, Outcome::Applied, "{at}");
    }
}

fn operation(what: &str, sentence: &Sentence<'_>) -> OperationKind {
    let group = group_id();
    match what {
        "switchover" => OperationKind::Switchover { group, to: sentence.pairs.get("to").map(|name| id(name)) },
        "failover" => OperationKind::Failover { group, accept_data_loss: sentence.has("accept-data-loss") },
        "remove" => OperationKind::RemoveMember { member: id(sentence.pairs["member"]) },
        "set" => {
            let replicas = u32::try_from(sentence.number("replicas").expect("a number")).expect("small");
            OperationKind::SetReplicas { group, replicas }
        }
        "pause" => OperationKind::Pause { group: None },
        "resume" => OperationKind::Resume { group: Some(group) },
        "add-shard" => {
            let replicas = u32::try_from(sentence.number("replicas").unwrap_or(0)).expect("small");
            OperationKind::AddShard { replicas }
        }
        other => panic!("nobody can ask for {other}"),
    }
}

fn position(text: &str) -> Position {
    let (timeline, lsn) = text.split_once(':').expect("timeline:lsn");
    Position { timeline: Timeline(timeline.parse().expect("a timeline")), lsn: Lsn(lsn.parse().expect("a position")) }
}

/// What a member says.
fn say(
    state: &State,
    member: &str,
    what: &str,
    end: Option<Position>,
    sentence: &Sentence<'_>,
) -> (DataState, PostgresSeen, Option<Recruited>) {
    let group = state.group_of(&id(member));
    let epoch = group.map_or(Epoch(0), |group| group.epoch);
    let end = end.unwrap_or_default();
    let recruited = |live_primary| Some(Recruited { epoch, position: end, live_primary });
    let ready = DataState::Ready { system_identifier: SYSTEM };
    match what {
        "empty" => (DataState::Empty, PostgresSeen::Down { crashed: None }, None),
        "down" => (ready, PostgresSeen::Down { crashed: None }, None),
        "crashed" => (ready, PostgresSeen::Down { crashed: Some("signal 9".to_owned()) }, None),
        "starting" => (ready, PostgresSeen::Starting, None),
        "standby" => {
            let upstream = sentence.pairs.get("from").map(|name| id(name));
            let streaming = upstream.is_some();
            let seen = PostgresSeen::Standby { position: end, replayed: end.lsn, streaming, upstream };
            (ready, seen, if sentence.has("recruited") { recruited(false) } else { None })
        }
        "primary" | "live" => {
            let ordered = group.and_then(|group| match &group.phase {
                Phase::Promoting { next } => Some(next.ordered.clone()),
                _ => group.reign.as_ref().map(|reign| reign.ordered.clone()),
            });
            let applied = if sentence.has("old-cohort") { Cohort::default() } else { ordered.unwrap_or_default() };
            let streams = |(name, flushed): (&&str, &&str)| StandbySeen {
                member: id(name),
                streaming: true,
                flushed: Lsn(flushed.parse().expect("a position")),
                synchronous: true,
            };
            let standbys = sentence.pairs.iter().filter(|(key, _)| **key != "epoch").map(streams).collect();
            let epoch = sentence.number("epoch").map_or(epoch, Epoch);
            let seen = PostgresSeen::Primary { position: end, epoch, applied, standbys, tables: Vec::new() };
            (ready, seen, if what == "live" { recruited(true) } else { None })
        }
        other => panic!("nobody says {other}"),
    }
}
