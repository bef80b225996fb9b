//! The style as a test: sizes, purity, directions of imports, module heads, forbidden calls. A new
//! exception is a line in [`EXCEPTIONS`] with its reason. The last tests prove that each rule fails
//! on what it forbids.

mod rules;
mod source;

use std::{fs, path::Path};

use rules::{Broken, File};

/// File, rule, reason.
const EXCEPTIONS: [(&str, &str, &str); 1] = [(
    "src/router/core/auth.rs",
    "direction",
    "its test checks a client's proof against the verifier that host::secret computes; that does no I/O",
)];

/// Every Rust file of ours, with its path from the repository's root.
fn files() -> Vec<(String, String)> {
    fn walk(directory: &Path, found: &mut Vec<(String, String)>) {
        let mut entries: Vec<_> = fs::read_dir(directory).expect("a folder of the repository").flatten().collect();
        entries.sort_by_key(fs::DirEntry::path);
        for entry in entries {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("it is below the root").to_string_lossy().into_owned();
                found.push((name, fs::read_to_string(&path).expect("UTF-8 text")));
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches"] {
        if root().join(folder).is_dir() {
            walk(&root().join(folder), &mut found);
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_house_is_tidy() {
    let mut complaints = Vec::new();
    let mut used = Vec::new();
    for (path, text) in files() {
        for Broken { rule, line, what } in File::new(&path, &text).check() {
            match EXCEPTIONS.iter().find(|(file, excepted, _)| *file == path && *excepted == rule) {
                Some(exception) => used.push(*exception),
                None => complaints.push(format!("{path}:{line}: [{rule}] {what}")),
            }
        }
    }
    for exception in EXCEPTIONS.iter().filter(|exception| !used.contains(exception)) {
        complaints.push(format!("{} no longer needs its exception from {:?}: delete it", exception.0, exception.1));
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn every_dependency_has_its_sentence() {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    let mut in_dependencies = false;
    let mut explained = false;
    for line in text.lines() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
        }
        match line.trim() {
            comment if comment.starts_with('#') => explained = true,
            "" => explained = false,
            dependency if in_dependencies && !line.starts_with('[') => {
                assert!(explained, "Cargo.toml: say above it, in a sentence, why we need: {dependency}");
            }
            _ => explained = false,
        }
    }
}

/// Rules that a file with this path and text breaks.
fn broken(path: &str, text: &str) -> Vec<&'static str> {
    let mut rules: Vec<_> =
        File::new(path, &format!("//! Head.\n{text}")).check().into_iter().map(|it| it.rule).collect();
    rules.dedup();
    rules
}

#[test]
fn clean_code_passes() {
    let text = "use std::time::Duration;\nuse crate::model::ids::GroupId;\n/// tokio::spawn\nfn f() { \"std::fs\"; }\n";
    assert_eq!(broken("src/agent/core/a.rs", text), [""; 0]);
    assert_eq!(
        broken("src/agent/runner.rs", "use tokio::fs;\nuse super::core::x;\nuse crate::wire::agent;\n"),
        [""; 0]
    );
    assert_eq!(broken("src/agent/core/mod.rs", "mod tests {\n    use super::*;\n}\n"), [""; 0]);
    assert_eq!(broken("src/wire/a.rs", "use super::pb::admin as pb;\n"), [""; 0]);
}

#[test]
fn impure_core_is_found() {
    for line in [
        "use std::{collections::BTreeMap, fs};",
        "use std::{\n    io,\n    net::{IpAddr, SocketAddr},\n};",
        "fn f() { tokio::spawn(g()); }",
        "fn f() { let t = std::time::Instant::now(); }",
        "use tracing::info;",
    ] {
        assert_eq!(broken("src/router/core/a.rs", line), ["purity"], "{line}");
        assert_eq!(broken("src/router/a.rs", line), [""; 0], "{line}");
    }
}

#[test]
fn wrong_directions_are_found() {
    for (path, line) in [
        ("src/agent/a.rs", "use crate::coordinator::core::state;"),
        ("src/router/core/a.rs", "use crate::wire::agent;"),
        ("src/router/core/a.rs", "use crate::host::clock;"),
        ("src/router/core/a.rs", "use crate::router::pool::Pool;"),
        ("src/router/core/deep/a.rs", "use super::super::super::pool::Pool;"),
        ("src/model/a.rs", "use crate::config::AgentConfig;"),
        ("src/wire/a.rs", "use crate::host::clock;"),
        ("src/host/a.rs", "fn f() { crate::agent::run(); }"),
        ("src/admin/a.rs", "use crate::{dev, model};"),
    ] {
        assert_eq!(broken(path, line), ["direction"], "{path}: {line}");
    }
}

#[test]
fn sizes_heads_and_names_are_found() {
    let long = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(70));
    assert_eq!(broken("src/a.rs", &long), ["function size"]);
    assert_eq!(broken("src/a.rs", &"\n".repeat(600)), ["file size"]);
    assert_eq!(File::new("src/a.rs", "fn f() {}\n").check().len(), 1, "no head");
    assert_eq!(broken("src/utils.rs", ""), ["name"]);
    let braces_in_text = "fn f() {\n    let a = '{';\n    let b = r#\"}\"#;\n    /* } */\n}\n";
    let code = source::code(braces_in_text);
    assert_eq!(source::functions(&code), [source::Function { line: 1, name: "f".to_owned(), lines: 5 }]);
}

#[test]
fn forbidden_words_are_found() {
    assert_eq!(broken("src/agent/a.rs", "fn f() { println!(); }"), ["call"]);
    assert_eq!(broken("src/cli/a.rs", "fn f() { println!(); }"), [""; 0]);
    assert_eq!(broken("tests/a.rs", "fn f() { g().unwrap(); }"), ["call"]);
    assert_eq!(broken("src/agent/a.rs", "fn f() { todo!(\"later\") }"), ["call"]);
    assert_eq!(broken("src/agent/runner.rs", "use crate::wire::pb::agent::Goal;"), ["protobuf"]);
    assert_eq!(broken("src/coordinator/agent_service.rs", "use crate::wire::pb::agent::Goal;"), [""; 0]);
    assert_eq!(broken("src/agent/a.rs", "use anyhow::Context;"), ["anyhow"]);
}
