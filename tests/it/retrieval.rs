//! Two encoders that PyTorch trained and exported, attacked here and there: the same images, targets, starts, steps and
//! radii, so every query should end the same. The stored outcomes are PyTorch's own (tests/data/onnx/retrieval/make.py
//! computes models, distances and random streams without this program).

use std::path::{Path, PathBuf};

use mdprop::record::{QueryOutcome, Run, folder};
use safetensors::SafeTensors;

use crate::program;

const CLASSES: u32 = 36;
const EACH: u32 = 8;
const SIZE: u32 = 24;

const SUITE: &str = r#"
schema = 1
about = "what PyTorch attacked too"
seed = 11
[dataset.folder]
path = "drawings"
image_size = 24
split.fraction.train = 0.0
[evaluation]
batch_size = 16
[[model]]
id = "mobilenet"
[[model]]
id = "transformer"
[[attack]]
name = "single-target"
side = "query"
goal.single-target = {}
method.pgd = { epsilon = ["4/255", "8/255"], steps = 10 }
[[attack]]
name = "multi-target"
side = "query"
goal.multi-target = { targets = 3 }
method.pgd = { epsilon = "8/255", steps = 10 }
"#;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx/retrieval")
}

/// Cuts the sheet (one class a row) into a folder of class folders.
fn unpack(to: &Path) {
    let sheet = image::open(data().join("drawings.png")).unwrap().to_rgb8();
    assert_eq!(sheet.dimensions(), (EACH * SIZE, CLASSES * SIZE));
    for class in 0..CLASSES {
        let folder = to.join(format!("{class:02}"));
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..EACH {
            let picture = image::imageops::crop_imm(&sheet, number * SIZE, class * SIZE, SIZE, SIZE).to_image();
            picture.save(folder.join(format!("{number}.png"))).unwrap();
        }
    }
}

/// Runs a suite on `"drawings"` and the two models, in a folder of its own.
pub(crate) fn attack_in_onnx_runtime(suite: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    unpack(&folder.path().join("drawings"));
    std::fs::create_dir_all(folder.path().join("models")).unwrap();
    for model in ["mobilenet", "transformer"] {
        let onnx = data().join(format!("{model}.onnx"));
        let card = format!(
            "schema = 1\nabout = \"by PyTorch\"\nonnx = {:?}\nmean = [0.5, 0.45, 0.55]\nstd = [0.25, 0.3, 0.28]\n",
            onnx.display().to_string()
        );
        std::fs::write(folder.path().join(format!("models/{model}.toml")), card).unwrap();
    }
    let suite = suite.replace("\"drawings\"", &format!("{:?}", folder.path().join("drawings").display().to_string()));
    std::fs::write(folder.path().join("suite.toml"), suite).unwrap();
    let mut command = program();
    command.arg("run").arg(folder.path().join("suite.toml")).arg("--quiet");
    for (flag, name) in [("--out", "run"), ("--artifacts", "artifacts"), ("--data", "data"), ("--models", "models")] {
        command.arg(flag).arg(folder.path().join(name));
    }
    command.assert().success();
    folder::read(&folder.path().join("run")).unwrap()
}

/// What PyTorch stored for one model.
struct Peer(Vec<u8>);

impl Peer {
    fn bytes(&self, name: &str) -> Vec<[u8; 4]> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        tensors.tensor(name).unwrap().data().as_chunks().0.to_vec()
    }

    fn integers(&self, name: &str) -> Vec<u32> {
        self.bytes(name).into_iter().map(|b| u32::try_from(i32::from_le_bytes(b)).unwrap()).collect()
    }

    fn numbers(&self, name: &str) -> Vec<f32> {
        self.bytes(name).into_iter().map(f32::from_le_bytes).collect()
    }
}

fn outcomes<'a>(run: &'a Run, model: &str, attack: &str, epsilon: &str) -> Vec<&'a QueryOutcome> {
    let row = run.measurements.iter().find(|m| m.model == model && m.attack == attack && m.epsilon == epsilon);
    let trial = &row.unwrap_or_else(|| panic!("no row {model} {attack} {epsilon}")).trial;
    let found: Vec<&QueryOutcome> = run.queries.iter().filter(|q| q.trial == *trial).collect();
    assert!(found.iter().map(|q| q.query).eq(0..CLASSES * EACH), "every image is a query, in order");
    found
}

fn recall(ranks: impl Iterator<Item = u32>) -> f64 {
    let hits: Vec<f64> = ranks.map(|rank| f64::from(u8::from(rank == 1))).collect();
    hits.iter().sum::<f64>() / hits.len() as f64
}

/// Share of queries whose outcome (hit or not) is PyTorch's.
fn agreement(ours: &[&QueryOutcome], theirs: &[u32]) -> f64 {
    let same = ours.iter().zip(theirs).filter(|(a, b)| (a.first_hit == 1) == (**b == 1)).count();
    same as f64 / theirs.len() as f64
}

#[test]
fn attacks_end_as_they_do_in_pytorch() {
    let run = attack_in_onnx_runtime(SUITE);
    for model in ["mobilenet", "transformer"] {
        let peer = Peer(std::fs::read(data().join(format!("{model}.safetensors"))).unwrap());
        let clean_ranks = peer.integers("clean.first_hit");
        let clean = outcomes(&run, model, "clean", "0");
        let ranks_differ = clean.iter().zip(&clean_ranks).filter(|(a, b)| a.first_hit != **b).count();
        assert_eq!(ranks_differ, 0, "{model}: clean ranks");
        let clean_recall = recall(clean_ranks.into_iter());
        assert!(clean_recall > 0.5, "{model}: a model worth attacking, {clean_recall}");

        let attacks = [("single-target", 4), ("single-target", 8), ("multi-target", 8)];
        for (attack, levels) in attacks {
            let place = format!("{model}, {attack} {levels}/255");
            let ours = outcomes(&run, model, attack, &format!("{levels}/255"));
            let theirs = peer.integers(&format!("{attack}-{levels}.first_hit"));
            let targets: Vec<u32> = ours.iter().flat_map(|q| q.targets.clone()).collect();
            assert_eq!(targets, peer.integers(&format!("{attack}-{levels}.targets")), "{place}: targets");

            let equal = agreement(&ours, &theirs);
            assert!(equal >= 0.99, "{place}: {equal} of the outcomes agree");
            let (here, there) = (recall(ours.iter().map(|q| q.first_hit)), recall(theirs.into_iter()));
            assert!((here - there).abs() <= 0.01, "{place}: recall@1 {here} here, {there} in PyTorch");
            assert!(here < clean_recall - 0.15, "{place}: recall@1 falls from {clean_recall} to {here} only");

            println!("{place}: recall@1 {here:.3} here, {there:.3} in PyTorch, {:.2} % agree", equal * 100.0);

            // Rounding decides a few signs, so single losses differ a little; they must not lean to either side.
            let losses = peer.numbers(&format!("{attack}-{levels}.loss"));
            let ratio = ours.iter().zip(&losses).map(|(q, l)| f64::from(q.loss) / f64::from(*l)).sum::<f64>();
            let ratio = ratio / losses.len() as f64;
            assert!((ratio - 1.0).abs() < 0.02, "{place}: the losses here are {ratio} of PyTorch's");
        }
    }
}
