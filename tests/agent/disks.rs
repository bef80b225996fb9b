//! Small disks of their own for members: file systems that can be filled and frozen without anybody else
//! noticing. They need root; a test that cannot have one says so and ends.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A mounted file system; unmounted, thawed first, when the value is dropped.
pub struct Disk {
    mounted_at: PathBuf,
}

impl Disk {
    /// A file in memory, formatted and mounted at a member's directory. `None` where that is not allowed.
    pub fn mount(image: &Path, at: &Path, megabytes: u64) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("left out: mounting a disk needs root");
            return None;
        }
        let file = fs::File::create(image).expect("a scratch directory");
        file.set_len(megabytes << 20).expect("a sparse file");
        fs::create_dir_all(at).expect("a scratch directory");
        run("mkfs.ext4", &["-q", "-F", "-m", "0", text(image)]);
        if !Command::new("mount").args(["-o", "loop", text(image), text(at)]).status().is_ok_and(|it| it.success()) {
            eprintln!("left out: this machine has no loop devices");
            return None;
        }
        Some(Self { mounted_at: at.to_owned() })
    }

    /// Fills it up; gives the file that does.
    pub fn fill(&self) -> PathBuf {
        let ballast = self.mounted_at.join("ballast");
        // Until nothing more goes in: first quickly, then to the last block.
        for block in ["64k", "1k"] {
            let (size, to) = (format!("bs={block}"), format!("of={}", text(&ballast)));
            let fill = ["if=/dev/zero", &size, &to, "oflag=append", "conv=notrunc"];
            let _full = Command::new("dd").args(fill).output().expect("dd is everywhere");
        }
        ballast
    }

    /// Everything that writes to it waits from now on.
    pub fn freeze(&self) {
        run("fsfreeze", &["--freeze", text(&self.mounted_at)]);
    }

    /// It goes on.
    pub fn thaw(&self) {
        run("fsfreeze", &["--unfreeze", text(&self.mounted_at)]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Not frozen, most often.
        let _ = Command::new("fsfreeze").args(["--unfreeze", text(&self.mounted_at)]).output();
        let _ = Command::new("umount").args(["--lazy", text(&self.mounted_at)]).status();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("scratch paths are plain")
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}
