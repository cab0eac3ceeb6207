//! What several test files share.
#![allow(dead_code, unreachable_pub)]

pub mod content;
pub mod disk;
pub mod rng;
pub mod script;

/// A directory in memory where there is one, so that syncs cost nothing.
pub fn fast_dir() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}
