//! The shape of the source, read from the source: which room knows which, what only one place may name, and that
//! nothing panics without saying why it cannot. Test modules are left out: they may know and do what they like.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which rooms a room may know. Whoever adds a room adds it here, and whoever adds an arrow says why in the commit.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("clock", &["model"]),
    ("store", &["model", "clock"]),
    ("render", &["model"]),
    ("sign", &["model"]),
    ("client", &["model"]),
    ("engine", &["store", "client", "render", "sign", "model", "clock"]),
    ("service", &["store", "sign", "model", "clock"]),
    ("http", &["model"]),
    ("mouth", &["service", "http", "model"]),
    ("ingest", &["mouth", "service", "http", "model"]),
    ("api", &["mouth", "service", "http", "sign", "model"]),
    ("ui", &["mouth", "service", "http", "model"]),
    ("config", &["model"]),
    (
        "daemon",
        &["model", "clock", "store", "sign", "client", "engine", "service", "http", "ingest", "api", "ui", "config"],
    ),
    ("cli", &["daemon", "config", "sign", "model", "clock"]),
];

/// Arrows of a single file, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("cli/serve.rs", "store", "says what helps when the store cannot be opened, which is an error of the store's own"),
    ("cli/bench/floor.rs", "client", "measures what the daemon's client does without the rest of the daemon"),
];

/// What only some places may name. A place is a file, or a folder with a slash behind it.
const PRESERVES: &[(&[&str], &[&str], &str)] = &[
    (&["redb::"], &["store/"], "another store must be able to take its place"),
    (&["bincode::"], &["store/codec.rs"], "the bytes on disk are decided in one place"),
    (
        &["TcpStream::connect", "TcpSocket::", "lookup_host", "to_socket_addrs"],
        // The operator's own tool calls an address of the operator's own choice; the benchmark's bare client calls the
        // receiver of the same run, on loopback.
        &["client/", "cli/admin.rs", "cli/bench/bare.rs"],
        "every other address has to pass the guard",
    ),
    (
        &["UnixStream::connect", "UnixDatagram::"],
        // The daemon asks whether another one still answers before it replaces a stale socket; the command line speaks to
        // the daemon.
        &["daemon/socket.rs", "cli/admin.rs", "cli/emit.rs", "cli/check.rs", "cli/demo.rs", "cli/bench/producer.rs"],
        "nothing else has anybody to speak to",
    ),
    (
        &["SystemTime::now", "std::time::Instant", "jiff::Timestamp::now", "Zoned::now"],
        &["clock.rs"],
        "a simulation must be able to be the clock",
    ),
    (
        &["getrandom::", "fastrand::Rng::new", "fastrand::Rng::with_seed", "Uuid::new_v", "OsRng"],
        // A nonce for a signature that a person asks for; a moment that is drawn anew from the engine's own chance and a
        // delivery's place whenever its row is read, and is the same each time.
        &["daemon/mod.rs", "cli/signature.rs", "engine/spread.rs"],
        "a simulation must be able to be the chance",
    ),
];

/// What gives no reason when it ends a task.
const MUTE: &[&str] = &[
    ".unwrap()",
    ".unwrap_err()",
    ".expect(\"\")",
    "panic!()",
    "unreachable!()",
    "todo!(",
    "unimplemented!(",
    "dbg!(",
];

/// One source file, without its comments and its test modules.
struct Source {
    /// Below `src`, with slashes.
    place: String,
    code: String,
}

impl Source {
    /// The room it lies in; `lib.rs` and `main.rs` lie in none.
    fn room(&self) -> Option<&str> {
        let room = self.place.split('/').next().unwrap();
        let room = room.strip_suffix(".rs").unwrap_or(room);
        (!["lib", "main"].contains(&room)).then_some(room)
    }

    /// How many `super::` lead from this file to the root of the crate.
    fn depth(&self) -> usize {
        let parts: Vec<&str> = self.place.split('/').collect();
        if parts.last() == Some(&"mod.rs") { parts.len() - 1 } else { parts.len() }
    }

    /// The names that follow the crate's root, however it was reached.
    fn rooms_named(&self) -> BTreeSet<String> {
        let up = "super::".repeat(self.depth());
        let mut rooms = BTreeSet::new();
        for root in ["crate::", "postrider::", &up] {
            let code = self.code.as_str();
            for (at, _) in code.match_indices(root) {
                if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
                    continue;
                }
                rooms.extend(heads(&code[at + root.len()..]));
            }
        }
        rooms
    }
}

/// The first name of a path, or of each path in braces.
fn heads(text: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(list) = text.strip_prefix('{') else { return vec![name(text)] };
    let mut names = Vec::new();
    let mut nested = 0;
    let mut expecting = true;
    for (at, c) in list.char_indices() {
        match c {
            '{' => nested += 1,
            '}' if nested == 0 => break,
            '}' => nested -= 1,
            ',' if nested == 0 => expecting = true,
            c if expecting && !c.is_whitespace() => {
                names.push(name(&list[at..]));
                expecting = false;
            }
            _ => {}
        }
    }
    names
}

/// The code without comments and without what `#[cfg(test)]` stands before; and the files that stand behind it.
fn without_tests(text: &str) -> (String, Vec<String>) {
    let mut code = String::new();
    let mut test_files = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim() == "#[cfg(test)]" {
            // rustfmt closes an item with a line of the item's own indent.
            let closing = format!("{indent}}}");
            for line in lines.by_ref() {
                if line.trim_start().starts_with("#[") {
                    continue;
                }
                let item = line.trim();
                let item = ["pub(crate) ", "pub(super) "].iter().find_map(|of| item.strip_prefix(of)).unwrap_or(item);
                if let Some(name) = item.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
                    test_files.push(name.to_owned());
                }
                if line.ends_with(';') && line.starts_with(indent) && !line[indent.len()..].starts_with(' ')
                    || line.starts_with(&closing)
                {
                    break;
                }
            }
        } else if !line.trim_start().starts_with("//") {
            code.push_str(line);
            code.push('\n');
        }
    }
    (code, test_files)
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    files_below(&root, &mut files);
    let mut tests = Vec::new();
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "rs")) {
        let place = file.strip_prefix(&root).unwrap().display().to_string();
        let (code, names) = without_tests(&std::fs::read_to_string(file).unwrap());
        let folder = match place.strip_suffix("mod.rs").or_else(|| place.strip_suffix("lib.rs")) {
            Some(folder) => folder.to_owned(),
            None => place.strip_suffix(".rs").unwrap().to_owned() + "/",
        };
        tests.extend(names.into_iter().map(|name| format!("{folder}{name}")));
        sources.push(Source { place, code });
    }
    sources.retain(|source| {
        !tests.iter().any(|test| source.place == format!("{test}.rs") || source.place.starts_with(&format!("{test}/")))
    });
    assert!(sources.len() > 50, "the source is where it was");
    sources
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files_below(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// The arrows that are drawn and not allowed.
fn wrong_arrows(sources: &[Source]) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for source in sources {
        let Some(room) = source.room() else { continue };
        let Some(known) = allowed.get(room) else {
            wrong.push(format!("{}: the room {room} is not on the map", source.place));
            continue;
        };
        for other in source.rooms_named() {
            let excepted = EXCEPTIONS.iter().any(|(place, room, _)| *place == source.place && *room == other);
            if other != room && !known.contains(&other.as_str()) && !excepted {
                wrong.push(format!("{}: {room} must not know {other}", source.place));
            }
        }
    }
    wrong
}

/// The names that stand where they must not.
fn trespasses(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (names, places, why) in PRESERVES {
        for source in sources {
            let at_home = places.iter().any(|place| match place.strip_suffix('/') {
                Some(_) => source.place.starts_with(place),
                None => source.place == *place,
            });
            for name in names.iter().filter(|name| !at_home && source.code.contains(**name)) {
                wrong.push(format!("{}: {name} is for {} alone: {why}", source.place, places.join(", ")));
            }
        }
    }
    wrong
}

fn mute_endings(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources {
        for line in source.code.lines().filter(|line| MUTE.iter().any(|mute| line.contains(mute))) {
            wrong.push(format!("{}: {}", source.place, line.trim()));
        }
    }
    wrong
}

#[test]
fn each_room_knows_only_whom_it_may() {
    let wrong = wrong_arrows(&sources());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Invariants 6 and 7 of the design, and the two fences of the store.
#[test]
fn what_belongs_to_one_place_is_named_nowhere_else() {
    let wrong = trespasses(&sources());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_panics_without_a_reason() {
    let wrong = mute_endings(&sources());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_is_forbidden_in_library_and_binary() {
    for place in ["lib.rs", "main.rs"] {
        let source = sources().into_iter().find(|source| source.place == place).unwrap();
        assert!(source.code.contains("#![forbid(unsafe_code)]"), "{place}");
    }
}

/// The control: what is planted must be found, and what only tests do must not.
#[test]
fn a_planted_trespass_is_found() {
    let planted = |place: &str, text: &str| [Source { place: place.to_owned(), code: without_tests(text).0 }];
    for (place, text) in [
        ("model/id.rs", "use crate::store::Store;\n"),
        ("engine/lanes.rs", "use crate::{model::Seq, service::Service};\n"),
        ("engine/lanes.rs", "fn f() { super::super::service::f() }\n"),
        ("sign.rs", "use super::config::Config;\n"),
        ("api/native/key.rs", "    let x = crate::store::open();\n"),
        ("new_room.rs", ""),
    ] {
        assert_eq!(wrong_arrows(&planted(place, text)).len(), 1, "{place}: {text}");
    }
    for (place, text) in [
        ("api/native/key.rs", "use super::super::page::Page;\nuse crate::model::{self, Seq};\n"),
        ("model/id.rs", "// crate::store\n#[cfg(test)]\nmod tests {\n    use crate::store::Store;\n}\n"),
        ("model/id.rs", "#[cfg(test)]\nuse crate::store::Store;\nfn f() {}\n"),
    ] {
        assert_eq!(wrong_arrows(&planted(place, text)), [""; 0], "{place}: {text}");
    }
    let after_tests = "#[cfg(test)]\nmod tests {\n    fn f() {\n        g();\n    }\n}\nfn f() { x.unwrap() }\n";
    assert_eq!(mute_endings(&planted("sign.rs", after_tests)).len(), 1);
    assert_eq!(trespasses(&planted("store/mod.rs", "use bincode::Options;")).len(), 1);
    assert_eq!(trespasses(&planted("store/codec.rs", "use bincode::Options;")).len(), 0);
}

/// What a machine is called where this was written is of no use to whoever reads it, and may tell too much.
#[test]
fn no_file_names_a_machine_or_a_registry() {
    // In two parts each, because this file is read too.
    let folders = [("/wo", "rk"), ("/ro", "ot"), ("/tmp/", "wt")].map(|(a, b)| [a, b].concat());
    let hosts = [("crates", ".io"), ("pypi", ".org"), ("npmjs", ".org"), ("proxy.golang", ".org"), ("docker", ".io")]
        .map(|(a, b)| [a, b].concat());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match path.is_dir() {
            true if [".git", "target"].contains(&name.as_str()) => {}
            true => files_below(&path, &mut files),
            // A worktree's `.git` is a file.
            false if name == ".git" => {}
            false => files.push(path),
        }
    }
    let mut wrong = Vec::new();
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for (number, line) in text.lines().enumerate() {
            let names_a_folder = folders.iter().any(|folder| {
                line.match_indices(folder.as_str()).any(|(at, _)| {
                    let word = |c: char| c.is_alphanumeric() || "-_.".contains(c);
                    !line[at + folder.len()..].starts_with(word) && !line[..at].ends_with(word)
                })
            });
            // Cargo's own lock file says where Cargo's own names come from, and nothing else may stand there.
            let cargos_own = line == format!("source = \"registry+https://github.com/rust-lang/{}-index\"", hosts[0]);
            let is_lock = file.ends_with("Cargo.lock");
            let names_a_host = hosts.iter().any(|host| line.contains(host.as_str())) && !(is_lock && cargos_own);
            let other_source = is_lock && line.starts_with("source = ") && !cargos_own;
            if names_a_folder || names_a_host || other_source {
                wrong.push(format!("{}:{}: {line}", file.strip_prefix(root).unwrap().display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
