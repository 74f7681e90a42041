//! A night for machines: JSON, JUnit XML, SARIF, GitHub annotations.

use std::collections::BTreeMap;

use serde_json::json;

use super::gate::{Finding, Judgement, Kind, Says};

/// Everything, with the exit code.
pub fn json(j: &Judgement) -> String {
    let mut value = serde_json::to_value(j).expect("plain numbers and names serialise");
    value["exit_code"] = json!(j.exit_code());
    value["passed"] = json!(j.findings.is_empty());
    serde_json::to_string_pretty(&value).expect("a JSON value serialises") + "\n"
}

/// Escapes for XML; characters that XML 1.0 cannot hold become `?`.
fn xml(text: &str) -> String {
    let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&apos;",
            c if legal(c) => out.push(c),
            _ => out.push('?'),
        }
    }
    out
}

/// A test case: its name, what went wrong, what it says.
type Case<'a> = (String, Option<&'a Finding>, String);

/// JUnit XML: one suite for each question, one case for each metric; findings that are no metric's are cases of their own.
pub fn junit(j: &Judgement) -> String {
    let mut suites: BTreeMap<&str, Vec<Case<'_>>> = BTreeMap::new();
    let of = |place: &str, metric| {
        j.findings.iter().find(|f| f.place == place && f.metric == Some(metric) && f.kind == Kind::Drift)
    };
    for cell in &j.cells {
        let finding = if cell.says == Says::Drift { of(&cell.question, cell.metric) } else { None };
        let out = format!("accepted {}, tonight {}", cell.accepted, cell.tonight);
        suites.entry(&cell.question).or_default().push((cell.metric.to_string(), finding, out));
    }
    for finding in j.findings.iter().filter(|f| f.kind != Kind::Drift) {
        let metric = finding.metric.map(|m| format!(" {m}")).unwrap_or_default();
        let name = format!("{}{metric}", finding.kind.name());
        suites.entry(&finding.place).or_default().push((name, Some(finding), String::new()));
    }
    let (mut body, mut tests, mut failures) = (String::new(), 0, 0);
    for (place, cases) in &suites {
        let failed = cases.iter().filter(|case| case.1.is_some()).count();
        (tests, failures) = (tests + cases.len(), failures + failed);
        body += &format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\">\n",
            xml(place),
            cases.len()
        );
        for (name, finding, out) in cases {
            body += &format!("    <testcase classname=\"{}\" name=\"{}\">", xml(place), xml(name));
            if let Some(f) = finding {
                let text = xml(&f.text);
                body += &format!("<failure type=\"{}\" message=\"{text}\">{text}</failure>", f.kind.name());
            }
            if !out.is_empty() {
                body += &format!("<system-out>{}</system-out>", xml(out));
            }
            body += "</testcase>\n";
        }
        body += "  </testsuite>\n";
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"{}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\">\n{body}</testsuites>\n",
        xml(&format!("mdprop {}", j.suite))
    )
}

/// SARIF 2.1.0: one rule for each kind of failure, one result for each finding, placed in the suite's file.
pub fn sarif(j: &Judgement, suite_file: &str) -> String {
    let about = |kind: Kind| match kind {
        Kind::Coverage => "A trial failed, or something that was accepted is missing.",
        Kind::Data => "The images or queries are not the accepted ones.",
        Kind::Soundness => "A soundness check failed.",
        Kind::Drift => "A metric is worse than the accepted one, beyond chance and floor.",
        Kind::Artefact => "A pinned model's file is not the accepted one.",
        Kind::SlowDrift => "A metric drifts slowly away from the accepted one.",
    };
    let kinds = [Kind::Coverage, Kind::Data, Kind::Soundness, Kind::Drift, Kind::Artefact, Kind::SlowDrift];
    let rule = |kind: Kind| json!({ "id": kind.name(), "shortDescription": { "text": about(kind) } });
    let result = |f: &Finding| {
        json!({
            "ruleId": f.kind.name(),
            "level": "error",
            "message": { "text": format!("{}: {}", f.place, f.text) },
            "locations": [{ "physicalLocation": { "artifactLocation": { "uri": suite_file }, "region": { "startLine": 1 } } }],
            "partialFingerprints": { "question/v1": format!("{} {} {:?}", f.kind.name(), f.place, f.metric.map(|m| m.to_string())) },
        })
    };
    let value = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "mdprop", "version": env!("CARGO_PKG_VERSION"), "rules": kinds.map(rule) } },
            "results": j.findings.iter().map(result).collect::<Vec<_>>(),
        }],
    });
    serde_json::to_string_pretty(&value).expect("a JSON value serialises") + "\n"
}

/// GitHub's workflow commands: an `::error` for each finding, a `::warning` for each note.
pub fn annotations(j: &Judgement, suite_file: &str) -> String {
    // https://docs.github.com/actions/reference/workflow-commands: data and properties are escaped differently.
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut out = String::new();
    for f in &j.findings {
        let metric = f.metric.map(|m| format!(" {m}")).unwrap_or_default();
        let title = property(&format!("{}: {}{metric}", f.kind.name(), f.place));
        out += &format!("::error file={},title={title}::{}\n", property(suite_file), data(&f.text));
    }
    for note in &j.notes {
        out += &format!("::warning file={},title={}::{}\n", property(suite_file), property(&j.suite), data(note));
    }
    if !j.findings.is_empty() {
        for suspect in &j.suspects {
            out += &format!("::notice title=suspect::{}\n", data(suspect));
        }
    }
    out
}
