//! The house rules, each a function from a file to what is wrong with it. Called by `tidy`.

use super::source::{self, Named};

/// Lines in a file, tests included.
const FILE_LINES: usize = 600;

/// Lines in a function: a screen.
const FUNCTION_LINES: usize = 70;

/// What pure code may not name, and why.
const IMPURE: [(&str, &str); 13] = [
    ("tokio", "waits and does I/O"),
    ("tokio_postgres", "does I/O"),
    ("tonic", "does I/O"),
    ("sled", "does I/O"),
    ("std::fs", "touches files"),
    ("std::net", "touches sockets"),
    ("std::process", "touches processes"),
    ("std::env", "reads the environment"),
    ("std::thread", "starts threads"),
    ("std::time::Instant", "reads the clock"),
    ("std::time::SystemTime", "reads the clock"),
    ("getrandom", "draws entropy"),
    ("tracing", "logs"),
];

/// The parts that meet only in `model` and `wire`.
const ROLES: [&str; 4] = ["coordinator", "agent", "router", "admin"];

/// What is above the roles: nothing below may know it.
const ABOVE: [&str; 4] = ["cli", "dev", "provision", "console"];

/// Names that say nothing.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "common", "manager", "helpers", "misc"];

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which rule; what an exception names.
    pub rule: &'static str,
    /// Line, from 1.
    pub line: usize,
    /// What, and what to do.
    pub what: String,
}

/// One file: path from the repository's root, and text.
pub struct File<'a> {
    path: &'a str,
    text: &'a str,
    code: String,
    named: Vec<Named>,
}

impl<'a> File<'a> {
    /// Reads the text once for all rules.
    pub fn new(path: &'a str, text: &'a str) -> Self {
        let code = source::code(text);
        let named = source::paths(&code);
        Self { path, text, code, named }
    }

    /// Everything that is wrong with it.
    pub fn check(&self) -> Vec<Broken> {
        [
            self.size(),
            self.function_size(),
            self.head(),
            self.file_name(),
            self.purity(),
            self.directions(),
            self.protobuf(),
            self.anyhow(),
            self.forbidden_calls(),
        ]
        .concat()
    }

    /// Pure: `model`, and folders and files named `core`.
    fn is_pure(&self) -> bool {
        self.path.starts_with("src/model/") || self.path.starts_with("src/") && self.path.contains("/core/")
    }

    /// Module path of the file: `crate::agent::core::states`.
    fn module(&self) -> Vec<&str> {
        let inner = self.path.strip_prefix("src/").unwrap_or(self.path).trim_end_matches(".rs");
        let names = inner.split('/').filter(|name| !["mod", "lib", "main"].contains(name));
        std::iter::once("crate").chain(names).collect()
    }

    fn size(&self) -> Vec<Broken> {
        let lines = self.text.lines().count();
        let what = format!("{lines} lines, at most {FILE_LINES}: a file is one idea, split it");
        if lines > FILE_LINES { vec![Broken { rule: "file size", line: lines, what }] } else { Vec::new() }
    }

    fn function_size(&self) -> Vec<Broken> {
        let long = source::functions(&self.code).into_iter().filter(|it| it.lines > FUNCTION_LINES);
        let what =
            |name, lines| format!("fn {name} has {lines} lines, at most {FUNCTION_LINES}: take a step out of it");
        long.map(|it| Broken { rule: "function size", line: it.line, what: what(it.name, it.lines) }).collect()
    }

    fn head(&self) -> Vec<Broken> {
        let what = "must begin with //! saying what it is, why, and who calls it".to_owned();
        if self.text.starts_with("//! ") { Vec::new() } else { vec![Broken { rule: "head", line: 1, what }] }
    }

    fn file_name(&self) -> Vec<Broken> {
        let parts = self.path.trim_end_matches(".rs").split('/');
        let empty = parts.filter(|name| EMPTY_NAMES.contains(name));
        let what = |name| format!("{name:?} says nothing: name a file for the question it answers");
        empty.map(|name| Broken { rule: "name", line: 1, what: what(name) }).collect()
    }

    fn purity(&self) -> Vec<Broken> {
        if !self.is_pure() {
            return Vec::new();
        }
        let mut broken = Vec::new();
        for named in &self.named {
            let is = |banned: &str| named.path == banned || named.path.starts_with(&format!("{banned}::"));
            if let Some((banned, why)) = IMPURE.iter().find(|(banned, _)| is(banned)) {
                let what = format!("pure code names {banned}, which {why}: take the value as an argument");
                broken.push(Broken { rule: "purity", line: named.line, what });
            }
        }
        broken
    }

    fn directions(&self) -> Vec<Broken> {
        if !self.path.starts_with("src/") {
            return Vec::new();
        }
        let module = self.module();
        let mut broken = Vec::new();
        for named in &self.named {
            let Some(target) = self.resolve(&module, named) else { continue };
            if let Some(what) = wrong_way(&module, &target, self.is_pure()) {
                broken.push(Broken { rule: "direction", line: named.line, what });
            }
        }
        broken
    }

    /// A path into this crate, from its root; `None` for one that leaves it or is an item's own.
    fn resolve(&self, module: &[&str], named: &Named) -> Option<Vec<String>> {
        let segments: Vec<&str> = named.path.split("::").collect();
        let supers = segments.iter().take_while(|segment| **segment == "super").count();
        let (base, rest) = match segments.first() {
            Some(&"crate") => (&module[..1], &segments[1..]),
            Some(&"self") => (module, &segments[1..]),
            Some(&"super") => {
                let up = supers.saturating_sub(source::inline_modules(&self.code, named.line));
                (&module[..module.len().saturating_sub(up).max(1)], &segments[supers..])
            }
            _ => return None,
        };
        Some(base.iter().chain(rest).map(ToString::to_string).collect())
    }

    fn protobuf(&self) -> Vec<Broken> {
        if !self.path.starts_with("src/") || self.path.starts_with("src/wire/") {
            return Vec::new();
        }
        let at_border = ["service.rs", "client.rs", "watch.rs", "peers.rs"].iter().any(|end| self.path.ends_with(end));
        let names = |it: &&Named| it.path.split("::").any(|segment| segment == "pb") || it.path.starts_with("prost");
        let found = self.named.iter().filter(names).filter(|_| !at_border);
        let what = "protobuf types are named in wire/ and at a service's border only: convert there".to_owned();
        found.map(|it| Broken { rule: "protobuf", line: it.line, what: what.clone() }).collect()
    }

    fn anyhow(&self) -> Vec<Broken> {
        let may = ["src/main.rs", "src/cli/", "src/admin/"].iter().any(|start| self.path.starts_with(start));
        let found =
            self.named.iter().filter(|it| it.path.starts_with("anyhow") && !may && self.path.starts_with("src/"));
        let what = "anyhow is for main and admin: use an error enum of the operation".to_owned();
        found.map(|it| Broken { rule: "anyhow", line: it.line, what: what.clone() }).collect()
    }

    fn forbidden_calls(&self) -> Vec<Broken> {
        const EVERYWHERE: [&str; 4] = [".unwrap()", "todo!(", "unimplemented!(", "dbg!("];
        const PRINTS: [&str; 4] = ["println!(", "print!(", "eprintln!(", "eprint!("];
        let command_line = ["src/cli/", "src/admin/", "src/dev/", "src/main.rs", "tests/", "benches/", "build.rs"];
        let may_print = command_line.iter().any(|start| self.path.starts_with(start));
        let banned = EVERYWHERE.iter().chain(PRINTS.iter().filter(|_| !may_print));
        let mut broken = Vec::new();
        for call in banned {
            for (at, _) in self.code.match_indices(call) {
                let inside_word = at > 0 && self.code.as_bytes()[at - 1].is_ascii_alphanumeric();
                if !inside_word || call.starts_with('.') {
                    let what = format!("{call}…) is not allowed here: return an error, or log");
                    broken.push(Broken { rule: "call", line: source::line_of(&self.code, at), what });
                }
            }
        }
        broken
    }
}

/// Why a module may not name another, if so. `model ← wire`, `model ← core ← the role's shell ← main`.
fn wrong_way(from: &[&str], to: &[String], pure: bool) -> Option<String> {
    let (here, there) = (*from.get(1)?, to.get(1)?.as_str());
    let says = |why: &str| Some(format!("{} names {}: {why}", from.join("::"), to.join("::")));
    if here == there {
        let in_core = to.get(2).is_some_and(|second| second == "core");
        let shell = ROLES.contains(&here) && pure && !in_core && to.len() > 2;
        return if shell { says("core does not know its role's shell") } else { None };
    }
    match here {
        "model" => says("model knows nothing but itself"),
        "wire" if there != "model" => says("wire knows only model"),
        "host" | "config" if ROLES.contains(&there) || ABOVE.contains(&there) => says("it is below the roles"),
        role if ROLES.contains(&role) => {
            if ROLES.contains(&there) {
                says("roles meet only in model and wire")
            } else if ABOVE.contains(&there) {
                says("main knows the roles, not the other way round")
            } else if pure && there != "model" {
                says("core knows only model")
            } else {
                None
            }
        }
        _ => None,
    }
}
