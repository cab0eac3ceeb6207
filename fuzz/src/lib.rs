//! What the fuzz targets check. Each takes any bytes, makes of them what it needs, and panics where a promise is
//! broken. `tests/suite/` of the journal's own package builds these files too, replays every find as an ordinary test,
//! and has the decoder judge its sweeps, so they name nothing that is not among its dependencies.

pub mod damage;
pub mod decoder;
pub mod header;
pub mod input;
pub mod operations;
pub mod recover;
pub mod render;

/// Where a fuzzing process keeps its files: one directory, in memory where there is one, that is empty between runs.
pub fn folder() -> &'static std::path::Path {
    static FOLDER: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let memory = std::path::Path::new("/dev/shm");
    let create = || if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    FOLDER.get_or_init(|| create().expect("a temporary directory")).path()
}
