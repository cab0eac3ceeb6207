//! The Markdown files of the repository: no link in them leads nowhere.

use std::fs;
use std::path::Path;

/// The targets of links and images, as they stand in the text.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in [
        "README.md",
        "CHANGELOG.md",
        "benches/RESULTS.md",
        "benches/rivals/README.md",
        "fuzz/README.md",
        "tests/README.md",
    ] {
        let text = fs::read_to_string(root.join(document)).expect(document);
        let folder = root.join(document).parent().expect("a folder").to_owned();
        for link in links(&text).filter(|link| !link.starts_with("https://")) {
            let file = link.split('#').next().unwrap_or_default();
            assert!(folder.join(file).exists(), "{document}: {link}");
        }
    }
}

#[test]
fn what_the_readme_links_to_is_in_the_package() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("README.md");
    let left_out = [".ci/", "benches/rivals/", "fuzz/", "tests/"];
    let results = fs::read_to_string(root.join("benches/RESULTS.md")).expect("benches/RESULTS.md");
    let of_results = links(&results).map(|link| format!("benches/{link}"));
    for link in links(&readme).map(str::to_owned).chain(of_results) {
        assert!(!left_out.iter().any(|folder| link.starts_with(folder)) && !link.contains(".."), "{link}");
    }
}
