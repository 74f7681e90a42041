//! Attacks are at least as strong as those of other libraries: the same model, images, radii and steps. What torchattacks,
//! foolbox and a RobRank-style attack leave of recall@1 is stored with its script, `tests/data/attack/peers.py`.

use std::collections::BTreeMap;
use std::path::Path;

use mdprop::record::Run;
use serde::Deserialize;

use crate::retrieval::attack_in_onnx_runtime;

const SUITE: &str = r#"
schema = 1
about = "what other libraries attacked too"
seed = 11
[dataset.folder]
path = "drawings"
image_size = 24
split.fraction.train = 0.0
[evaluation]
recall_at = [1]
metrics = []
batch_size = 32
gallery = 0
[[model]]
id = "mobilenet"
[[attack]]
name = "pgd"
side = "query"
goal.misrank = {}
method.pgd = { epsilon = "4/255", steps = 20 }
[[attack]]
name = "momentum"
side = "query"
goal.misrank = {}
method.momentum = { epsilon = "4/255", steps = 20 }
[[attack]]
name = "apgd"
side = "query"
goal.misrank = {}
method.apgd = { epsilon = "4/255", steps = 20 }
[[attack]]
name = "pgd-l2"
side = "query"
goal.misrank = {}
method.pgd = { epsilon = { l2 = 0.5 }, steps = 20 }
[[attack]]
name = "apgd-l2"
side = "query"
goal.misrank = {}
method.apgd = { epsilon = { l2 = 0.5 }, steps = 20 }
[[attack]]
name = "square"
side = "query"
goal.misrank = {}
method.square = { epsilon = "4/255", queries = 300 }
[[attack]]
name = "noise"
side = "query"
goal.misrank = {}
method.noise = { epsilon = "4/255" }
"#;

/// Percent of recall@1.
#[derive(Deserialize)]
struct Peers {
    clean: f64,
    linf: BTreeMap<String, f64>,
    l2: BTreeMap<String, f64>,
    #[serde(rename = "black box, 300 queries")]
    black: BTreeMap<String, f64>,
}

fn recall(run: &Run, attack: &str) -> f64 {
    let row = run.measurements.iter().find(|m| m.attack == attack).unwrap();
    100.0 * row.recall[0].estimate.value
}

/// Half a point is allowed: 288 queries, each 0.35 points.
#[test]
fn attacks_leave_no_more_than_those_of_other_libraries() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/attack/peers.json");
    let peers: Peers = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let run = attack_in_onnx_runtime(SUITE);
    let left = |attack: &str| recall(&run, attack);
    assert!((left("clean") - peers.clean).abs() < 0.4, "the same model and images: {}", left("clean"));
    let names = ["pgd", "momentum", "apgd", "pgd-l2", "apgd-l2", "square", "noise"];
    let found: Vec<(&str, f64)> = names.map(|name| (name, left(name))).to_vec();
    let strongest = |list: &BTreeMap<String, f64>| list.values().copied().fold(f64::INFINITY, f64::min);
    let (linf, l2) = (strongest(&peers.linf), strongest(&peers.l2));
    for attack in ["pgd", "apgd"] {
        assert!(left(attack) <= linf + 0.5, "{attack}; peers at best {linf}; ours {found:?}");
    }
    for attack in ["pgd-l2", "apgd-l2"] {
        assert!(left(attack) <= l2 + 0.5, "{attack}; peers at best {l2}; ours {found:?}");
    }
    assert!(left("momentum") <= peers.linf["torchattacks MIFGSM"] + 0.5, "ours {found:?}");
    assert!(left("square") <= peers.black["torchattacks Square"] + 0.5, "ours {found:?}");
    // The less is seen, the less is done.
    assert!(left("apgd") < left("square") && left("square") < left("noise"), "{found:?}");
}
