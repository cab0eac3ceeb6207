//! Small file systems for real, where the tests have the right to mount them.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::Command;

/// The file that a loop device makes a disk of.
const IMAGE: &str = "image";

/// A file system of its own, gone when this is dropped.
pub struct Mounted {
    kind: &'static str,
    dir: tempfile::TempDir,
    at: PathBuf,
}

impl Mounted {
    /// Mounts an empty file system of `kind`: tmpfs, or one that `mkfs.KIND` makes in a file under a loop device. Prints why
    /// and returns `None` where the system refuses.
    pub fn new(kind: &'static str, bytes: u64) -> Option<Self> {
        Self::with(kind, bytes, "defaults")
    }

    /// The same with options of mount(8).
    pub fn with(kind: &'static str, bytes: u64, options: &str) -> Option<Self> {
        let dir = super::fast_dir();
        let made = if kind == "tmpfs" {
            Self::mount(kind, dir, &format!("size={bytes},{options}"))
        } else {
            let image = dir.path().join(IMAGE);
            File::create(&image).and_then(|file| file.set_len(bytes)).unwrap();
            let quiet = if kind == "ext4" { "-qF" } else { "-qf" };
            run(Command::new(format!("mkfs.{kind}")).arg(quiet).arg(&image))
                .and_then(|()| Self::mount(kind, dir, options))
        };
        made.inspect_err(|why| println!("skipped: no {kind} here: {why}")).ok()
    }

    /// The file system as a power cut at this moment would leave it: what the loop device has been given so far, and nothing
    /// that is only in the page cache.
    pub fn after_a_power_cut(&self) -> Self {
        // Each in a folder of its own: the system may let go of a loop device some time after its file system is gone.
        let dir = super::fast_dir();
        let copy = dir.path().join(IMAGE);
        std::fs::copy(self.dir.path().join(IMAGE), &copy).unwrap();
        let mounted = Self::mount(self.kind, dir, "defaults").unwrap();
        // The loop device keeps it.
        std::fs::remove_file(copy).unwrap();
        mounted
    }

    fn mount(kind: &'static str, dir: tempfile::TempDir, options: &str) -> Result<Self, String> {
        let at = dir.path().join("mounted");
        std::fs::create_dir(&at).unwrap();
        let (device, options) = match kind {
            "tmpfs" => (kind.into(), options.into()),
            _ => (dir.path().join(IMAGE), format!("loop,{options}")),
        };
        run(Command::new("mount").args(["-t", kind, "-o", &options]).arg(device).arg(&at))?;
        Ok(Self { kind, dir, at })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.at.join(name)
    }

    /// Writes a file of noughts and ones until not a byte more fits.
    pub fn fill(&self) {
        // Written back in between, since a file system may find only then that it has more room than it had thought.
        for _ in 0..3 {
            let mut file = File::options().create(true).append(true).open(self.path("filling")).unwrap();
            for len in [1 << 20, 1 << 12, 1] {
                let piece = vec![1; len];
                let refused = loop {
                    if let Err(error) = file.write_all(&piece) {
                        break error;
                    }
                };
                assert_eq!(refused.kind(), ErrorKind::StorageFull, "{refused}");
            }
            let _ = file.sync_all();
        }
    }

    /// Makes room for so many bytes, or some more or less.
    pub fn spare(&self, bytes: u64) {
        let file = File::options().write(true).open(self.path("filling")).unwrap();
        file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
        self.sync();
    }

    /// Makes room again.
    pub fn empty(&self) {
        std::fs::remove_file(self.path("filling")).unwrap();
        self.sync();
    }

    pub fn sync(&self) {
        run(Command::new("sync").arg("-f").arg(&self.at)).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg("-l").arg(&self.at)) {
            eprintln!("left mounted in {}: {error}", self.dir.path().display());
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let done = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr).trim()))
}
