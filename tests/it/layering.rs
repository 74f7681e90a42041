//! The dependency rules of the rooms in `src/`, enforced by reading it.
//!
//! 1. A module imports from lower layers only; sideways, within a layer, only where that closes no ring.
//! 2. An engine is named only in the rooms that are about it.
//! 3. Nothing below the commands and `run` prints, reads the environment or the clock.
//! 4. No subcommand imports another; no file is called util, helpers, common or misc.
//!
//! Unit tests at the foot of a file are exempt: they may use anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Lowest first.
const LAYERS: [&[&str]; 7] = [
    &["units", "batch", "digest", "rng", "artefact", "progress", "resample"],
    &["metric", "stats"],
    &["onnx", "network", "suite", "record"],
    &["encoder", "dataset", "score"],
    &["attack", "train", "export"],
    &["run", "report", "drift"],
    &["cmd", "cli", "main", "lib"],
];

/// Third-party crates and the only places that may name them: a module, or the beginning of a file's name within it.
const ENGINES: [(&str, &[&str]); 5] = [
    ("tch", &["train/", "export/"]),
    ("ort", &["encoder/"]),
    ("plotters", &["report/chart"]),
    ("clap", &["cmd/", "cli", "main"]),
    ("polars", &["record/", "report/"]),
];

/// What belongs to the top only.
const OUTSIDE_WORLD: [&str; 11] = [
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
    "env::var",
    "env::args",
    "env::current",
    "SystemTime",
    "Instant",
    "std::io::stdout",
    "std::io::stderr",
];

const NAMELESS: [&str; 4] = ["util", "helpers", "common", "misc"];

/// One file: its path below `src/` with `/` between folders, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// Depth of its module path: 1 for `units.rs` and `metric/mod.rs`, 2 for `metric/recall.rs`, 0 for the roots.
    fn depth(&self) -> usize {
        let parts = self.path.split('/').count();
        match self.path.rsplit('/').next().unwrap() {
            "mod.rs" => parts - 1,
            "lib.rs" | "main.rs" => 0,
            _ => parts,
        }
    }

    /// Code without comments, literals and the unit tests at the foot.
    fn code(&self) -> String {
        let code = without_comments_and_literals(&self.text);
        let tests = code.find("#[cfg(test)]\nmod tests").unwrap_or(code.len());
        code[..tests].to_owned()
    }
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Every broken rule, one line each.
fn violations(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    let mut sideways: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let (path, module) = (&source.path, source.module());
        let Some(layer) = layer_of(module) else {
            found.push(format!("{path}: module `{module}` has no layer; give it one in tests/it/layering.rs"));
            continue;
        };
        let stem = path.rsplit('/').find(|part| *part != "mod.rs").unwrap().trim_end_matches(".rs");
        if NAMELESS.contains(&stem) {
            found.push(format!("{path}: `{stem}` says nothing; name the noun"));
        }
        // Test modules in files of their own are exempt like those at a file's foot; `lib` only declares.
        if stem == "tests" || module == "lib" {
            continue;
        }
        let code = source.code();
        for imported in imports(&code, source.depth(), module == "cmd" || module == "cli" || module == "main") {
            match layer_of(&imported) {
                _ if imported == module => {}
                None => {}
                Some(other) if other < layer => {}
                Some(other) if other == layer => {
                    sideways.entry(module).or_default().insert(imported);
                }
                Some(_) => found.push(format!("{path}: `{module}` imports `{imported}` from a higher layer")),
            }
        }
        for (engine, rooms) in ENGINES {
            if names_crate(&code, engine) && !rooms.iter().any(|room| path.starts_with(room)) {
                found.push(format!("{path}: `{engine}` belongs to {} only", rooms.join(", ")));
            }
        }
        if !["run", "cmd", "cli", "main"].contains(&module) {
            for word in OUTSIDE_WORLD.iter().filter(|word| has_word(&code, word)) {
                found.push(format!("{path}: `{word}` belongs to run/ and cmd/; have it passed in"));
            }
        }
        found.extend(sibling_commands(source, &code, sources));
    }
    found.extend(rings(&sideways));
    found
}

/// Modules of the crate that `code` names: `crate::x`, `crate::{x, y::z}`, enough `super::`, and `mdprop::x` in the binary.
fn imports(code: &str, depth: usize, binary: bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let climb = "super::".repeat(depth);
    let mut prefixes = vec!["crate::"];
    if binary {
        prefixes.push("mdprop::");
    }
    if depth > 0 {
        prefixes.push(&climb);
    }
    for prefix in prefixes {
        for (at, _) in code.match_indices(prefix) {
            let inside_path = code[..at].ends_with(|c: char| c == ':' || c == '_' || c.is_alphanumeric());
            if !inside_path {
                found.extend(heads(&code[at + prefix.len()..]));
            }
        }
    }
    found
}

/// First segments of the path, or of each path in the braces, that `rest` begins with.
fn heads(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else {
        return vec![identifier(rest)];
    };
    let mut depth = 0;
    let mut heads = Vec::new();
    let mut start = 0;
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.push(identifier(group[start..i].trim_start()));
                start = i + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| *c == '_' || c.is_alphanumeric()).collect()
}

/// Whether `code` uses a crate of that name: `name::…`, `use name;`, `name` in an attribute's path.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].trim_end_matches("r#");
        let after = &code[at + name.len()..];
        let begins =
            !before.ends_with(|c: char| c == '_' || c == ':' || c.is_alphanumeric()) || before.ends_with(" ::");
        let used = before.ends_with("use ") && after.starts_with([';', ' ']);
        begins && (after.starts_with("::") || used)
    })
}

fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let part = |c: char| c == '_' || c.is_alphanumeric();
        !code[..at].ends_with(part) && (word.ends_with('!') || !code[at + word.len()..].starts_with(part))
    })
}

/// A subcommand that names another one.
fn sibling_commands(source: &Source, code: &str, sources: &[Source]) -> Vec<String> {
    let command = |path: &str| {
        let name = path.strip_prefix("cmd/")?.split('/').next()?.trim_end_matches(".rs");
        // What the subcommands share is private to `cmd`.
        let shared = |s: &Source| s.path == "cmd/mod.rs" && s.text.contains(&format!("\nmod {name};"));
        (name != "mod" && !sources.iter().any(shared)).then(|| name.to_owned())
    };
    let Some(own) = command(&source.path) else { return Vec::new() };
    let others: BTreeSet<String> =
        sources.iter().filter_map(|s| command(&s.path)).filter(|name| *name != own).collect();
    let mut named = BTreeSet::new();
    for prefix in ["crate::cmd::", "super::"] {
        for (at, _) in code.match_indices(prefix) {
            named.extend(heads(&code[at + prefix.len()..]));
        }
    }
    let siblings = others.intersection(&named);
    siblings
        .map(|other| format!("{}: imports the subcommand `{other}`; move what both need down", source.path))
        .collect()
}

/// Sideways imports that lead back to where they began.
fn rings(edges: &BTreeMap<&str, BTreeSet<String>>) -> Vec<String> {
    let mut found = Vec::new();
    for start in edges.keys() {
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        let mut open: Vec<&str> = vec![start];
        while let Some(module) = open.pop() {
            for next in edges.get(module).into_iter().flatten() {
                if reached.insert(next) {
                    open.push(next);
                }
            }
        }
        if reached.contains(start) {
            found.push(format!("`{start}` imports itself through its own layer ({})", join(&reached)));
        }
    }
    found
}

fn join(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}

/// Replaces comments, strings and characters by nothing, so that words in prose are no imports. Lines stay.
fn without_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::new();
    let mut i = 0;
    while i < bytes.len() {
        let rest = &text[i..];
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) =
            raw_string(rest).filter(|_| !code.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        {
            length
        } else if rest.starts_with('"') {
            quoted(rest, b'"')
        } else if rest.starts_with("'\\") || (rest.starts_with('\'') && rest.chars().nth(2) == Some('\'')) {
            quoted(rest, b'\'')
        } else {
            0
        };
        if skipped == 0 {
            let c = rest.chars().next().unwrap();
            code.push(c);
            i += c.len_utf8();
        } else {
            i += skipped;
        }
    }
    code
}

/// Length of the raw string that `rest` begins with.
fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = after.bytes().take_while(|b| *b == b'#').count();
    let body = after[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&close).map_or(body.len(), |end| end + close.len());
    Some(rest.len() - body.len() + length)
}

/// Length of the literal between two `quote`s that `rest` begins with, backslashes respected.
fn quoted(rest: &str, quote: u8) -> usize {
    let bytes = rest.as_bytes();
    let mut i = 1;
    while i < bytes.len() && bytes[i] != quote {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    (i + 1).min(bytes.len())
}

fn read_sources(folder: &Path, below: &str, sources: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            read_sources(&entry.path(), &format!("{path}/"), sources);
        } else if path.ends_with(".rs") {
            sources.push(Source { path, text: std::fs::read_to_string(entry.path()).unwrap() });
        }
    }
}

#[test]
fn the_sources_keep_to_their_layers() {
    let mut sources = Vec::new();
    read_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources);
    assert!(sources.len() > 20, "only {} files found", sources.len());
    let found = violations(&sources);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// What the checker says about made-up files.
fn verdict(files: &[(&str, &str)]) -> String {
    let source = |(path, text): &(&str, &str)| Source { path: (*path).to_owned(), text: (*text).to_owned() };
    violations(&files.iter().map(source).collect::<Vec<_>>()).join("\n")
}

#[test]
fn an_import_from_above_is_found_in_every_spelling() {
    for text in [
        "use crate::attack::Goal;",
        "use crate::{batch::Images, attack::{Goal, Budget}};",
        "use crate::{\n    batch::{Images, Labels},\n    attack,\n};",
        "fn f() { crate::attack::run() }",
        "use super::super::attack::Goal;",
        "/* why */ pub use crate::attack;",
        "const A: char = '\"'; use crate::attack; const B: &str = \"\";",
    ] {
        assert_eq!(
            verdict(&[("metric/recall.rs", text)]),
            "metric/recall.rs: `metric` imports `attack` from a higher layer"
        );
    }
    assert!(verdict(&[("metric/mod.rs", "use super::attack::Goal;")]).contains("higher layer"));
    assert!(verdict(&[("run/mod.rs", "use crate::cmd::doctor;")]).contains("`run` imports `cmd`"));
}

#[test]
fn imports_from_below_words_in_prose_and_unit_tests_are_free() {
    let text = "//! `crate::attack` and println!\nuse crate::batch::Images;\nconst A: &str = \"crate::attack println!\";\n\
                const R: &str = r#\"tch:: \" ort::\"#;\nfn f<'a>(x: &'a str) {}\n\
                #[cfg(test)]\nmod tests {\n    use crate::attack::Goal;\n    fn t() { println!(); }\n}\n";
    assert_eq!(verdict(&[("metric/recall.rs", text), ("metric/tests.rs", "use crate::attack;")]), "");
}

#[test]
fn sideways_is_free_until_it_closes_a_ring() {
    let (network, suite) = (("network/mod.rs", "use crate::suite::A;"), ("suite/mod.rs", "use crate::record::B;"));
    assert_eq!(verdict(&[network, suite]), "");
    let found = verdict(&[network, suite, ("record/mod.rs", "use crate::network::C;")]);
    assert_eq!(found.lines().count(), 3, "{found}");
    assert!(found.contains("`network` imports itself through its own layer (network, record, suite)"), "{found}");
}

#[test]
fn engines_stay_in_their_rooms() {
    let found = |path, text| !verdict(&[(path, text)]).is_empty();
    assert!(found("metric/knn.rs", "use tch::Tensor;"));
    assert!(found("attack/mod.rs", "fn f(x: &ort::Session) {}"));
    assert!(found("report/html.rs", "use plotters::prelude::*;"));
    assert!(found("run/plan.rs", "#[derive(clap::Args)] struct A;"));
    assert!(found("stats/mod.rs", "use polars;"));
    assert!(!found("report/chart_recall.rs", "use plotters::prelude::*;"));
    assert!(!found("report/chart/axes.rs", "use plotters::prelude::*;"));
    assert!(!found("train/adam.rs", "use tch::Tensor;"));
    assert!(!found("attack/mod.rs", "use crate::encoder::ort::A; fn sort() { support::x() }"));
}

#[test]
fn only_the_top_meets_the_outside_world() {
    for text in ["println!()", "eprint!()", "std::env::var()", "use std::time::Instant;", "SystemTime::now()"] {
        assert!(verdict(&[("train/mod.rs", text)]).contains("have it passed in"), "{text}");
        assert_eq!(verdict(&[("run/mod.rs", text)]), "");
    }
    assert_eq!(verdict(&[("train/mod.rs", "struct InstantNoodles; fn my_println() {} sprint!()")]), "");
}

#[test]
fn commands_do_not_import_each_other_and_names_are_nouns() {
    let plan = ("cmd/plan.rs", "pub fn run() {}");
    for text in ["use crate::cmd::plan;", "use super::plan::run;", "use crate::cmd::{doctor, plan::run};"] {
        assert!(verdict(&[plan, ("cmd/run.rs", text)]).contains("imports the subcommand `plan`"), "{text}");
    }
    assert_eq!(verdict(&[plan, ("cmd/run.rs", "use mdprop::run::plan; use super::RunArgs;")]), "");
    assert!(verdict(&[("metric/util.rs", "")]).contains("name the noun"));
    assert!(verdict(&[("train/common/mod.rs", "")]).contains("name the noun"));
    assert!(verdict(&[("gadgets/mod.rs", "")]).contains("has no layer"));
}
