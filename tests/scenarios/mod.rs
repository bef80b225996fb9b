//! Scenarios as text that a stranger can read: what members say, how time passes, what the coordinator
//! must decide. Each `*.txt` beside this file is one test case; the words are explained in `words.rs`.

mod show;
mod stage;
mod words;

use std::{fs, path::Path};

#[test]
fn every_scenario_plays_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = fs::read_dir(folder).expect("the folder").flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(!files.is_empty(), "no scenarios");
    for path in files {
        let text = fs::read_to_string(&path).expect("UTF-8 text");
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        words::play(&name, &text);
    }
}
