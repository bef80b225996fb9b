//! Wall clocks of containers, set without touching the machine's: a small library that is loaded before
//! their programs (`clock.c`) adds what a file says. Called by `machines`.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;

/// Where the library and the files are.
pub struct Clocks {
    directory: PathBuf,
}

impl Clocks {
    /// Builds the library; `None` where there is no C compiler.
    pub fn make(directory: &Path) -> Option<Self> {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harness/machines/clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(directory.join("clock.so")).args([source, "-ldl"]);
        let built = compiler.status().is_ok_and(|status| status.success());
        built.then(|| Self { directory: directory.to_owned() })
    }

    /// What a container's environment needs; its clock is true at first.
    pub fn environment(&self, container: &str) -> [String; 2] {
        fs::write(self.file(container), 0_i64.to_ne_bytes()).expect("a scratch directory");
        [
            format!("LD_PRELOAD={}", self.directory.join("clock.so").display()),
            format!("HOWDAH_CLOCK={}", self.file(container).display()),
        ]
    }

    /// Sets a container's clock to so many seconds from the true time.
    pub fn set(&self, container: &str, seconds: i64) {
        // In place: programs have the file mapped.
        let file = OpenOptions::new().write(true).open(self.file(container));
        let written = file.and_then(|mut file| file.write_all(&(seconds * SECOND).to_ne_bytes()));
        written.expect("a scratch directory");
    }

    fn file(&self, container: &str) -> PathBuf {
        self.directory.join(format!("{container}.clock"))
    }
}
