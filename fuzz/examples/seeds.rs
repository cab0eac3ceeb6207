//! Writes the seeds: `cargo run --example seeds`, in this package. They are checked in; this tells how they were made.

use std::fs;
use std::path::Path;

use wally::{Format, Options, SyncPolicy};
use wally_fuzz::render;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for target in ["recover", "operations", "damage", "header"] {
        fs::create_dir_all(root.join("seeds").join(target))?;
    }
    let files = files(root)?;
    for (at, (name, file)) in files.iter().enumerate() {
        // Every policy gets its share of the files, and the file follows as it is.
        let mut seed = vec![[0, 1, 2, 18, 4, 8][at % 6], 0];
        seed.extend_from_slice(file);
        fs::write(root.join("seeds/recover").join(name), seed)?;
        if let Some(head) = file.get(..16) {
            fs::write(root.join("seeds/header").join(name), head)?;
        }
    }
    for (name, script) in SCRIPTS {
        for (way, letter) in [(0, 'a'), (1, 'b'), (4, 'c')] {
            let seed = [&[way, 1], *script].concat();
            fs::write(root.join("seeds/recover").join(format!("script-{name}-{letter}")), seed)?;
        }
    }
    for (name, operations) in OPERATIONS {
        for (way, format) in [("sealed", 1), ("reference", 0)] {
            let seed = [&[3, format, 20], *operations].concat();
            fs::write(root.join("seeds/operations").join(format!("{name}-{way}")), seed)?;
        }
    }
    for (at, (name, damage)) in DAMAGE.iter().enumerate() {
        // Three records, a sync, a batch of two; closed.
        let mut seed = vec![at as u8 % 3, 1, 6, 0, 3, b'o', b'n', b'e', 0, 3, b't', b'w', b'o', 7];
        seed.extend_from_slice(&[4, 2, 3, b'a', b'b', b'c', 3, b'd', b'e', b'f', 0, 2, b'g', b'h', 6, 11, 0]);
        seed.extend_from_slice(damage);
        fs::write(root.join("seeds/damage").join(name), seed)?;
    }
    Ok(())
}

type Named = Vec<(String, Vec<u8>)>;

/// The small fixtures of the reference, and sealed journals in every state.
fn files(root: &Path) -> Result<Named, Box<dyn std::error::Error>> {
    let mut files = Named::new();
    for entry in fs::read_dir(root.join("../tests/fixtures"))? {
        let path = entry?.path();
        let file = fs::read(&path)?;
        if path.extension().is_some_and(|kind| kind == "wally") && file.len() < 4096 {
            files.push((format!("reference-{}", path.file_stem().unwrap_or_default().display()), file));
        }
    }
    files.sort();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("journal");
    let journal = Options::new().sync_policy(SyncPolicy::OnDemand).new_file_format(Format::Sealed).open(&path)?;
    let empty = fs::read(&path)?;
    for payload in ["one", "", "three"] {
        journal.append(payload.as_bytes())?;
    }
    journal.sync()?;
    journal.append_batch(["four", "five"])?;
    journal.append(&[6; 600])?;
    journal.flush()?;
    let open = fs::read(&path)?;
    journal.close()?;
    let closed = fs::read(&path)?;

    let with = |at: usize, byte: u8| {
        let mut file = closed.clone();
        file[at] ^= byte;
        file
    };
    let mut room_ahead = open.clone();
    room_ahead.resize(open.len() + 512, 0);
    let mut truncation = open.clone();
    truncation.resize(1024, 0);
    truncation.extend(render::mark(1024, 35));
    let mut gap = render::gap(48, 2);
    gap.extend(render::record(gap.len(), b"third", 2));
    gap.extend(render::mark(gap.len(), gap.len()));
    // The batch begins behind the first three records.
    let torn_batch = open[..16 * 4 + 8 + 4 + 7].to_vec();
    let newer = [&open[..35], &render::header(35, 4, 0, 0x21), b"next"].concat();
    let sealed = [
        ("empty", empty),
        ("open", open.clone()),
        ("closed", closed.clone()),
        ("torn", open[..open.len() - 100].to_vec()),
        ("torn-batch", torn_batch),
        ("damaged-payload", with(17, 1)),
        ("damaged-first-seal", with(13, 1)),
        ("damaged-last-payload", with(300, 1)),
        ("lost-first-sector", [&[0; 40], &closed[40..]].concat()),
        ("room-ahead", room_ahead),
        ("truncation", truncation),
        ("gap", gap),
        ("newer", newer),
        ("crashed-creation", vec![0; 512]),
    ];
    files.extend(sealed.map(|(name, file)| (format!("sealed-{name}"), file)));
    Ok(files)
}

/// Scripts of `render`.
const SCRIPTS: &[(&str, &[u8])] = &[
    ("records", &[2, 0, 3, 1, 2, 3, 2, 2, 0, 3, 4, 5, 9, 9, 9, 9, 9, 2, 0, 1, 7]),
    ("marked", &[2, 0, 3, 1, 2, 3, 10, 0]),
    ("truncation", &[2, 0, 3, 1, 2, 3, 2, 0, 1, 1, 1, 8, 10, 200]),
    ("truncated-batch", &[2, 4, 3, 1, 2, 3, 2, 4, 0, 2, 0, 1, 1, 1, 8, 10, 201]),
    ("resealed", &[2, 0, 3, 1, 2, 3, 14, 3, 7, 7, 7, 4, 0, 1, 1, 5, 10, 200]),
    ("barrier-beyond", &[2, 0, 3, 1, 2, 3, 13, 2, 1, 1, 0, 0, 2, 2, 1, 9]),
    ("gap", &[12, 5, 3, 2, 0, 3, 1, 2, 3]),
    ("reference", &[8, 3, 1, 2, 3, 8, 0, 9, 1, 7, 0, 2, 1, 2]),
    ("nested", &[2, 0, 3, 1, 2, 3, 20, 0, 2, 0, 2, 0, 1, 1, 10, 200]),
    ("batches", &[22, 1, 5, 1, 7, 3, 8, 2, 2, 0, 0, 22, 1, 3, 1, 7, 3]),
    ("zeros-inside", &[2, 2, 3, 1, 2, 3, 1, 6, 2, 0, 3, 1, 2, 3, 1, 8]),
];

const OPERATIONS: &[(&str, &[u8])] = &[
    ("append-read", &[0, 3, 1, 2, 3, 0, 0, 15, 1, 0, 31, 13, 14, 2, 0]),
    ("batches", &[8, 3, 2, 1, 1, 0, 3, 2, 2, 2, 11, 2, 1, 9, 1, 8, 12, 27, 28, 40, 0, 31]),
    ("truncate", &[8, 3, 2, 1, 1, 0, 3, 2, 2, 2, 19, 24, 50, 1, 0, 4, 5, 5, 5, 5, 21, 27, 29, 0, 31]),
    ("large", &[0, 250, 0, 9, 0, 255, 7, 30, 19, 0, 239, 12, 25, 50, 2, 21, 0, 245, 3, 9, 27, 30, 1, 31]),
    ("readers", &[0, 3, 1, 2, 3, 12, 23, 3, 1, 0, 2, 0, 0, 0, 1, 18, 0, 0, 19, 24, 0, 0, 1, 5, 21, 30, 0]),
];

const DAMAGE: &[(&str, &[u8])] = &[
    ("flip", &[0, 20, 0, 0, 0, 0, 0, 3]),
    ("zero", &[0, 30, 9, 0, 0, 2]),
    ("sector", &[0, 30, 9, 0, 0, 3]),
    ("cut", &[0, 60, 9, 0, 0, 4]),
    ("insert", &[0, 19, 4, 0, 0, 5, 1, 2, 3, 4, 5]),
    ("remove", &[0, 19, 18, 0, 0, 6]),
    ("append", &[0, 0, 4, 0, 0, 7, 1, 2, 3, 4, 5]),
    ("duplicate", &[0, 19, 18, 0, 0, 8, 38]),
    ("twice", &[1, 20, 0, 0, 0, 0, 0, 3, 90, 0, 0, 0, 0, 7]),
];
