//! Leaving broken queries alone saves time and changes nothing: the ensemble on the reference file in ONNX Runtime, with and
//! without it.

use mdprop::record::{QueryOutcome, folder};

use crate::program;

const SUITE: &str = r#"
schema = 1
about = "broken queries are left alone"
seed = 5
[dataset.glyphs]
image_size = 32
classes = 24
per_class = 6
seed = 2
[evaluation]
recall_at = [1]
metrics = []
queries = 16
batch_size = 16
gallery = 0
[[model]]
id = "foreign"
[[attack]]
name = "auto"
side = "query"
goal.misrank = {}
method.auto = { epsilon = [0.0005, 0.004], stop = "STOP" }
"#;

/// Outcomes of the attacked queries, without the key of their trial and what it took, and the sum of what it took.
fn outcomes(stop: &str) -> (Vec<QueryOutcome>, u32) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("suite.toml"), SUITE.replace("STOP", stop)).unwrap();
    let mut command = program();
    command.arg("run").arg(folder.path().join("suite.toml")).args(["--quiet", "--threads", "2"]);
    for (flag, name) in [("--out", "run"), ("--artifacts", "artifacts"), ("--data", "data")] {
        command.arg(flag).arg(folder.path().join(name));
    }
    command.assert().code(predicates::ord::le(3));
    let run = folder::read(&folder.path().join("run")).unwrap();
    let trials: Vec<&str> = run.measurements.iter().filter(|m| m.attack == "auto").map(|m| m.trial.as_str()).collect();
    assert_eq!(trials.len(), 2);
    let attacked = run.queries.iter().filter(|query| trials.contains(&query.trial.as_str()));
    let spent = attacked.clone().map(|query| query.evaluations).sum();
    (attacked.map(|query| QueryOutcome { trial: String::new(), evaluations: 0, ..query.clone() }).collect(), spent)
}

#[test]
fn the_ensemble_finds_the_same_whether_broken_queries_are_left_alone_or_not() {
    let ((alone, few), (all, many)) = (outcomes("broken"), outcomes("never"));
    assert_eq!(alone.len(), 32);
    assert_eq!(alone, all);
    let broken: std::collections::BTreeSet<&str> = alone.iter().map(|query| query.broken_by.as_str()).collect();
    assert!(broken.contains("") && broken.len() > 1, "some are broken, some are not: {broken:?}");
    assert!(few < many, "{few} looks, and {many} to the end");
}
