//! Power loss: what the server did not fsync is gone. `power.c` records what it did.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use asofdb_tests::database::{Database, end, seeded};
use asofdb_tests::process::ServerProcess;
use rand::Rng;

use crate::PROGRAM;

/// Power losses, one after the other, of one database.
const LOSSES: u32 = 6;

/// What is durable of a folder.
struct Shadow {
    folder: tempfile::TempDir,
}

impl Shadow {
    /// All that is in `folder` now.
    fn of(folder: &Path) -> Shadow {
        let shadow = Shadow { folder: tempfile::tempdir().expect("a folder") };
        for part in ["names", "content"] {
            fs::create_dir(shadow.folder.path().join(part)).expect("a folder");
        }
        shadow.add(folder);
        shadow
    }

    fn record(&self, part: &str, inode: u64) -> PathBuf {
        self.folder.path().join(part).join(inode.to_string())
    }

    fn add(&self, folder: &Path) {
        let mut names = String::new();
        for entry in fs::read_dir(folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let (metadata, name) = (entry.metadata().expect("it is there"), entry.file_name());
            let kind = if metadata.is_dir() { 'd' } else { 'f' };
            names.push_str(&format!("{} {kind} {}\n", metadata.ino(), name.to_string_lossy()));
            match metadata.is_dir() {
                true => self.add(&entry.path()),
                false => {
                    let content = self.record("content", metadata.ino());
                    fs::copy(entry.path(), content).expect("copies");
                }
            }
        }
        let inode = fs::metadata(folder).expect("it is there").ino();
        fs::write(self.record("names", inode), names).expect("writes");
    }

    /// Makes `target` the folder with this inode. What has a name but was never fsynced is empty.
    fn restore(&self, inode: u64, target: &Path) {
        fs::create_dir_all(target).expect("a folder");
        let names = fs::read_to_string(self.record("names", inode)).unwrap_or_default();
        for line in names.lines() {
            let [inode, kind, name] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let inode = inode.parse().expect("a number");
            match kind {
                "d" => self.restore(inode, &target.join(name)),
                _ => {
                    let content = fs::read(self.record("content", inode)).unwrap_or_default();
                    fs::write(target.join(name), content).expect("writes");
                }
            }
        }
    }
}

/// The library that records, compiled.
fn library(folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/faults/power.c");
    let library = folder.join("power.so");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source);
    assert!(compile.status().expect("cc runs").success());
    library
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_a_power_loss() {
    let mut rng = seeded();
    let tools = tempfile::tempdir().expect("a folder");
    let library = library(tools.path());
    let database = Database::new(PROGRAM, Vec::new()).await;
    let (mut rows, mut taken) = (0, 0);
    for _ in 0..LOSSES {
        let shadow = Shadow::of(database.folder());
        let mut command = database.command();
        command.env("LD_PRELOAD", &library).env("SHADOW", shadow.folder.path());
        let server = ServerProcess::start(&mut command).expect("the binary serves");
        let work = database.work(&server, &mut rng).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(100..700))).await;
        drop(server);
        end(work).await;
        let folder = database.folder();
        let before = size_of(folder);
        let inode = fs::metadata(folder).expect("it is there").ino();
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.expect("it goes");
        }
        shadow.restore(inode, folder);
        taken += before.abs_diff(size_of(folder));
        rows += database.check(&database.start()).await.0;
    }
    assert!(rows > 0, "no run got as far as an acknowledged row");
    println!("{rows} rows, {taken} bytes were taken away");
}

/// The bytes of all files below a folder.
fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let size = |entry: fs::DirEntry| match entry.path().is_dir() {
        true => size_of(&entry.path()),
        false => entry.metadata().expect("it is there").len(),
    };
    entries.map(size).sum()
}
