//! `docs/suite-format.md`, every key of suites, recipes and cards, is made from the types that read them and kept equal.
//!
//! `MDPROP_WRITE_DOCS=1 cargo test suite_format` writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// A type that a file is read into.
#[derive(Debug, Clone, Default)]
struct Described {
    about: String,
    is_enum: bool,
    /// Every field may be left out, see the type's `Default`.
    all_default: bool,
    members: Vec<Member>,
}

/// A key, or a choice of an enum with keys of its own.
#[derive(Debug, Clone, Default, PartialEq)]
struct Member {
    name: String,
    about: String,
    kind: String,
    default: Option<String>,
    keys: Vec<Member>,
}

/// The files whose types are described, and where a reader starts.
const ROOTS: [(&str, &str, &str); 3] = [
    ("SuiteWire", "A suite", "`suites/<group>/<name>.toml`: what is measured."),
    ("Recipe", "A recipe", "`models/<id>.toml`: how a model is trained."),
    ("OnnxCard", "A card", "`models/<id>.toml` with `onnx`: somebody else's file; see foreign-models.md."),
];

/// Every described type of some sources, and the one-line functions that give defaults.
fn read(sources: &[String]) -> BTreeMap<String, Described> {
    let mut types = BTreeMap::new();
    for source in sources {
        let code = source.split("#[cfg(test)]").next().unwrap();
        let lines: Vec<&str> = code.lines().collect();
        let functions = default_functions(&lines);
        let mut attributes = Attributes::default();
        let mut at = 0;
        while at < lines.len() {
            let line = lines[at].trim();
            let head = ["pub struct ", "pub enum "].iter().find_map(|k| line.strip_prefix(k).map(|rest| (*k, rest)));
            if let Some((kind, rest)) = head.filter(|(_, rest)| rest.ends_with('{') && attributes.derived) {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
                let end = (at..lines.len()).find(|i| lines[*i] == "}").unwrap();
                let is_enum = kind == "pub enum ";
                let body = &lines[at + 1..end];
                let mut described = Described {
                    about: attributes.about.clone(),
                    is_enum,
                    all_default: attributes.text.contains("default)") && !is_enum,
                    members: members(body, &functions, is_enum, attributes.text.contains("kebab-case")),
                };
                if described.all_default {
                    fill_defaults(&mut described, &name, code);
                }
                types.insert(name, described);
                at = end;
                attributes = Attributes::default();
            } else {
                attributes.take(line);
            }
            at += 1;
        }
    }
    types
}

/// What stands above an item.
#[derive(Debug, Clone, Default)]
struct Attributes {
    about: String,
    text: String,
    derived: bool,
}

impl Attributes {
    fn take(&mut self, line: &str) {
        if let Some(doc) = line.strip_prefix("///") {
            let gap = if self.about.is_empty() { "" } else { " " };
            write!(self.about, "{gap}{}", doc.trim()).unwrap();
        } else if line.starts_with("#[") {
            self.text.push_str(line);
            self.derived |= line.contains("Deserialize");
        } else if !line.is_empty() {
            *self = Self::default();
        }
    }

    fn absent(&self, functions: &BTreeMap<String, String>) -> Option<String> {
        if let Some(rest) = self.text.split("default = \"").nth(1) {
            let name = rest.split('"').next().unwrap();
            return Some(functions.get(name).unwrap_or_else(|| panic!("no one-line function {name}")).clone());
        }
        let plain = ["(default)", "(default,", " default,", " default)"].iter().any(|d| self.text.contains(d));
        plain.then(String::new)
    }

    /// Another name in the file.
    fn rename(&self) -> Option<String> {
        let rest = self.text.split("rename = \"").nth(1)?;
        Some(rest.split('"').next().unwrap().to_string())
    }
}

/// `fn half() -> f64 { 0.5 }`, on three lines.
fn default_functions(lines: &[&str]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for window in lines.windows(3) {
        if let Some(rest) = window[0].strip_prefix("fn ").filter(|_| window[2] == "}") {
            let name = rest.split('(').next().unwrap();
            found.insert(name.to_string(), literal(window[1].trim()));
        }
    }
    found
}

/// A Rust value as TOML says it.
fn literal(value: &str) -> String {
    let value = value.trim().trim_end_matches(',').trim_start_matches("vec!");
    match value {
        "None" => String::new(),
        "String::new()" => "\"\"".into(),
        _ => match value.rsplit_once("::") {
            Some((_, "defaults()")) => "those of metrics.md that are measured by default".into(),
            Some((_, word)) => format!("\"{}\"", kebab(word.trim_end_matches(']')))
                .replace("\"main\"", if value.starts_with('[') { "[\"main\"]" } else { "\"main\"" }),
            None => value.to_string(),
        },
    }
}

fn kebab(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    out
}

fn members(body: &[&str], functions: &BTreeMap<String, String>, is_enum: bool, kebabs: bool) -> Vec<Member> {
    let mut found: Vec<Member> = Vec::new();
    let mut attributes = Attributes::default();
    let mut inside = false;
    for line in body.iter().map(|line| line.trim()) {
        if line.starts_with("//") || line.starts_with("#[") || line.is_empty() {
            attributes.take(line);
            continue;
        }
        if is_enum && !inside {
            let name: String = line.chars().take_while(|c| c.is_alphanumeric()).collect();
            let wire = attributes.rename().unwrap_or_else(|| if kebabs { kebab(&name) } else { name.clone() });
            let rest = &line[name.len()..];
            let kind = rest.strip_prefix('(').map(|r| r.trim_end_matches(',').trim_end_matches(')').to_string());
            inside = rest.trim().ends_with('{');
            let about = attributes.about.clone();
            let empty = if rest.trim_start().starts_with("{}") { "{}" } else { "" };
            found.push(Member { name: wire, about, kind: kind.unwrap_or_else(|| empty.into()), ..Member::default() });
        } else if line.starts_with('}') {
            inside = false;
        } else if let Some((name, kind)) = line.trim_start_matches("pub ").split_once(": ") {
            let member = Member {
                name: attributes.rename().unwrap_or_else(|| name.to_string()),
                about: attributes.about.clone(),
                kind: kind.trim_end_matches(',').to_string(),
                default: attributes.absent(functions),
                keys: vec![],
            };
            match found.last_mut().filter(|_| is_enum) {
                Some(choice) => choice.keys.push(member),
                None => found.push(member),
            }
        }
        attributes = Attributes::default();
    }
    found
}

/// The values of a struct literal in `impl Default for NAME`.
fn fill_defaults(described: &mut Described, name: &str, code: &str) {
    let body = code.split(&format!("impl Default for {name} {{")).nth(1).map(|rest| rest.split("\n}").next().unwrap());
    for member in &mut described.members {
        let value = body.and_then(|body| {
            let line = body.lines().find(|line| line.trim().starts_with(&format!("{}: ", member.name)))?;
            Some(literal(line.trim().split_once(": ")?.1))
        });
        member.default = Some(member.default.clone().filter(|d| !d.is_empty()).or(value).unwrap_or_default());
    }
}

/// The type below the wrappings, if it is described.
fn inner(kind: &str) -> &str {
    let at = kind.rfind('<').map_or(0, |at| at + 1);
    kind[at..].trim_end_matches('>')
}

/// A type in a reader's words.
fn words(kind: &str, types: &BTreeMap<String, Described>) -> String {
    if let Some(of) = kind.strip_prefix("Vec<") {
        return format!("list of {}", words(&of[..of.len() - 1], types));
    }
    if let Some(of) = kind.strip_prefix("Option<") {
        return words(&of[..of.len() - 1], types);
    }
    match kind {
        "String" | "PathBuf" => "text".into(),
        "bool" => "true or false".into(),
        "u32" | "u64" | "usize" => "whole number".into(),
        "f64" | "f32" => "number".into(),
        "Metric" => "name of a metric".into(),
        "[f32; 2]" => "two numbers".into(),
        "EpsilonList" => "budget, or list of them".into(),
        "Epsilon" => "budget".into(),
        other if types.contains_key(other) => format!("[{other}](#{})", other.to_lowercase()),
        other => other.to_string(),
    }
}

fn default_words(member: &Member) -> String {
    match &member.default {
        None => if member.kind.starts_with("Option<") { "left out" } else { "needed" }.into(),
        Some(value) if value.is_empty() => match member.kind.as_str() {
            "bool" => "`false`".into(),
            "u32" | "u64" | "usize" | "f64" | "f32" => "`0`".into(),
            kind if kind.starts_with("Vec<") => "none".into(),
            kind if kind.starts_with("Option<") => "left out".into(),
            _ => "its own".into(),
        },
        Some(value) if value.contains(' ') && !value.starts_with(['[', '{']) => value.clone(),
        Some(value) => format!("`{value}`"),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn key_table(members: &[Member], types: &BTreeMap<String, Described>) -> String {
    let mut out = String::from("| key | value | default | what |\n|---|---|---|---|\n");
    for m in members {
        let line = [cell(&words(&m.kind, types)), cell(&default_words(m)), cell(&m.about)];
        writeln!(out, "| `{}` | {} |", m.name, line.join(" | ")).unwrap();
    }
    out + "\n"
}

fn section(name: &str, d: &Described, types: &BTreeMap<String, Described>) -> String {
    let mut out = format!("### {name}\n\n{}\n\n", d.about);
    if !d.is_enum {
        return out + &key_table(&d.members, types);
    }
    if d.members.iter().all(|m| m.keys.is_empty() && m.kind.is_empty()) {
        for m in &d.members {
            writeln!(out, "- `\"{}\"`: {}", m.name, m.about).unwrap();
        }
        return out + "\n";
    }
    for m in &d.members {
        let form = match (m.kind.as_str(), m.keys.is_empty()) {
            ("", true) => format!("`\"{}\"`", m.name),
            ("{}", _) => format!("`{} = {{}}`", m.name),
            ("", false) => format!("`{} = {{ ... }}`", m.name),
            (kind, _) => format!("`{} =` {}", m.name, words(kind, types)),
        };
        write!(out, "**{form}** {}\n\n", m.about).unwrap();
        if !m.keys.is_empty() {
            out += &key_table(&m.keys, types);
        }
    }
    out
}

/// Types in the order in which a reader meets them.
fn reachable(root: &str, types: &BTreeMap<String, Described>, seen: &mut BTreeSet<String>, order: &mut Vec<String>) {
    let Some(described) = types.get(root) else { return };
    if !seen.insert(root.to_string()) {
        return;
    }
    order.push(root.to_string());
    for member in described.members.iter().flat_map(|m| std::iter::once(m).chain(&m.keys)) {
        reachable(inner(&member.kind), types, seen, order);
    }
}

fn document(types: &BTreeMap<String, Described>) -> String {
    let mut out = String::from(
        "# Suites, recipes and cards: every key\n\nMade from the types that read these files; a test keeps it equal \
         (`MDPROP_WRITE_DOCS=1 cargo test suite_format` writes it).\n\n\
         Unknown keys are errors that show the line. A choice with values of its own is written as a table with one key, \
         `goal.multi-target = { targets = 5 }`; one without as a word, `side = \"query\"`. A **budget** is in pixels before \
         normalisation, `\"8/255\"` or a number in [0, 1]; `{ normalized = 0.01 }` is the paper's unit. \
         [threat-models.md](threat-models.md) says what the choices mean, [metrics.md](metrics.md) has the metrics.\n\n",
    );
    let mut seen = BTreeSet::new();
    for (root, title, about) in ROOTS {
        let mut order = Vec::new();
        reachable(root, types, &mut seen, &mut order);
        write!(out, "## {title}\n\n{about}\n\n").unwrap();
        for name in order {
            out += &section(&name, &types[&name], types);
        }
    }
    out.trim_end().to_string() + "\n"
}

fn sources() -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root.join("suite"), &mut found);
    found.push(std::fs::read_to_string(root.join("onnx/wrap/spec.rs")).unwrap());
    found
}

#[test]
fn the_reference_is_what_the_types_say() {
    let types = read(&sources());
    let text = document(&types);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/suite-format.md");
    if std::env::var_os("MDPROP_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == text, "docs/suite-format.md is old; run: MDPROP_WRITE_DOCS=1 cargo test suite_format");
    for key in ["recall_at", "crafted_on", "at_least", "epsilon", "restarts", "image_size", "embedding_dim", "onnx"] {
        assert!(text.contains(&format!("| `{key}` |")), "{key} is missing");
    }
}

/// Every key of every suite and recipe in the repository is in the reference.
#[test]
fn no_key_in_use_is_missing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = document(&read(&sources()));
    let mut missing = BTreeSet::new();
    for folder in ["suites", "suites/paper", "models"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap().map(|e| e.unwrap().path()) {
            if entry.extension().is_none_or(|e| e != "toml") {
                continue;
            }
            for line in std::fs::read_to_string(&entry).unwrap().lines() {
                let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains([' ', '#', '"'])) else {
                    continue;
                };
                let key = key.trim().split('.').next_back().unwrap().trim_matches('`');
                let known = [format!("`{key}`"), format!("`{key} ="), format!("**`{key}")];
                if !known.iter().any(|k| text.contains(k.as_str())) {
                    missing.insert(format!("{}: {key}", entry.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn defaults_and_choices_are_read_as_the_file_has_them() {
    let source = "/// A thing.\n#[derive(Deserialize)]\n#[serde(deny_unknown_fields)]\npub struct Thing {\n    /// How far.\n    \
                  #[serde(default = \"half\")]\n    pub reach: f64,\n    /// Which.\n    pub way: Way,\n    /// Note.\n    \
                  #[serde(default, skip)]\n    pub note: Option<String>,\n}\n\nfn half() -> f64 {\n    0.5\n}\n\n\
                  /// A way.\n#[derive(Deserialize)]\n#[serde(rename_all = \"kebab-case\")]\npub enum Way {\n    /// Long.\n    \
                  LongRoad {\n        /// Miles.\n        miles: usize,\n    },\n    /// None.\n    Nothing,\n}\n";
    let types = read(&[source.to_string()]);
    let thing = section("Thing", &types["Thing"], &types);
    assert!(thing.contains("| `reach` | number | `0.5` | How far. |"), "{thing}");
    assert!(thing.contains("| `way` | [Way](#way) | needed | Which. |"), "{thing}");
    assert!(thing.contains("| `note` | text | left out | Note. |"), "{thing}");
    let way = section("Way", &types["Way"], &types);
    assert!(
        way.contains("**`long-road = { ... }`** Long.") && way.contains("| `miles` | whole number | needed | Miles. |")
    );
    assert!(way.contains("**`\"nothing\"`** None."), "{way}");
}
