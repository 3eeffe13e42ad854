//! Every requirement of the five source documents has its proof: a test whose doc comment names its id, or, where it speaks
//! to readers, a page that says it. `requirements.md` beside this file has the pages, and what is not yet there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// How many requirements each source has; ids count from 1.
const SOURCES: [(&str, u32); 6] = [("S0", 47), ("S1", 45), ("S2", 68), ("S3", 26), ("S4", 17), ("SX", 15)];

type Proofs = BTreeMap<String, BTreeSet<String>>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn all() -> BTreeSet<String> {
    SOURCES.iter().flat_map(|(source, count)| (1..=*count).map(move |number| format!("{source}.{number}"))).collect()
}

/// The ids in a text: whole words of the form `S2.31`.
fn ids_in(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '.'))
        .map(|word| word.trim_matches('.').to_owned())
        .filter(|word| word.starts_with('S') && word.contains('.'))
}

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
}

/// The ids that the doc comments of Rust's test functions name.
fn proved_in_rust(text: &str) -> BTreeSet<String> {
    let mut proved = BTreeSet::new();
    let mut comment = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("///") {
            comment.push_str(doc);
            comment.push('\n');
        } else if line.starts_with("#[") && (line.contains("test]") || line.contains("test(")) {
            proved.extend(ids_in(&comment));
        } else if !line.starts_with("#[") {
            comment.clear();
        }
    }
    proved
}

/// The ids that the docstrings of a Python test name.
fn proved_in_python(text: &str) -> BTreeSet<String> {
    text.split("\"\"\"").skip(1).step_by(2).flat_map(ids_in).collect()
}

/// The rows of a section's table: their cells.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let section = text.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("requirements.md has no section {heading}"));
    section
        .lines()
        .filter(|line| line.starts_with("| S"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

fn proofs() -> Proofs {
    let mut proofs = Proofs::new();
    let mut sources = Vec::new();
    files(&root().join("src"), "rs", &mut sources);
    files(&root().join("tests"), "rs", &mut sources);
    let in_rust = sources.into_iter().map(|path| (proved_in_rust as fn(&str) -> BTreeSet<String>, path));
    let mut scripts = Vec::new();
    files(&root().join("tests"), "py", &mut scripts);
    for (proved, path) in in_rust.chain(scripts.into_iter().map(|path| (proved_in_python as fn(&str) -> _, path))) {
        for id in proved(&fs::read_to_string(&path).unwrap()) {
            proofs.entry(id).or_default().insert(path.strip_prefix(root()).unwrap().display().to_string());
        }
    }
    proofs
}

fn pages() -> String {
    fs::read_to_string(root().join("tests/requirements.md")).unwrap()
}

#[test]
fn each_requirement_is_proved_or_is_said_to_be_missing() {
    let (all, proofs, pages) = (all(), proofs(), pages());
    let told: BTreeSet<String> = rows(&pages, "Told to readers").iter().map(|row| row[0].to_owned()).collect();
    let missing: BTreeSet<String> =
        rows(&pages, "Not yet proved").iter().flat_map(|row| row[0].split_whitespace()).map(str::to_owned).collect();
    let proved: BTreeSet<String> = proofs.keys().cloned().chain(told).collect();
    let unknown: Vec<_> = proved.union(&missing).filter(|id| !all.contains(*id)).collect();
    assert!(unknown.is_empty(), "no source has these: {unknown:?}");
    let unnamed: Vec<_> = all.difference(&proved).filter(|id| !missing.contains(*id)).collect();
    assert!(unnamed.is_empty(), "nothing proves these, and requirements.md does not say so: {unnamed:?}");
    let stale: Vec<_> = missing.intersection(&proved).collect();
    assert!(stale.is_empty(), "requirements.md calls these missing, but something proves them: {stale:?}");
}

#[test]
fn the_pages_for_readers_say_what_is_asked() {
    let pages = pages();
    for row in rows(&pages, "Told to readers") {
        let [id, page, words] = row[..] else { panic!("a row needs an id, a page and its words: {row:?}") };
        let text = fs::read_to_string(root().join(page)).unwrap_or_else(|_| panic!("{id}: there is no {page}"));
        let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(plain.contains(words), "{id}: {page} does not say “{words}”");
    }
}

/// The reading itself: only the doc comment of a test counts, and only whole ids.
#[test]
fn only_doc_comments_of_tests_prove() {
    let text = "/// Proves S2.31 and (SX.4).\n#[test]\nfn a() {}\n/// S0.1\nfn b() {}\n//! S1.1\n/// S3.2\n#[cfg(x)]\n\
                #[tokio::test(start_paused = true)]\nasync fn c() {}\n// S4.4\n#[test]\nfn d() {}\n";
    let found: Vec<_> = proved_in_rust(text).into_iter().collect();
    assert_eq!(found, ["S2.31", "S3.2", "SX.4"]);
    let script = "\"\"\"Proves S2.54.\"\"\"\n# S1.1\nx = 'S1.2'\n\"\"\"S2.5\n7\"\"\"";
    assert_eq!(proved_in_python(script).into_iter().collect::<Vec<_>>(), ["S2.5", "S2.54"]);
}
