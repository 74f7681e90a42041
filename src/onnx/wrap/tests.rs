//! Every key of a card, proven in the float64 interpreter against the same thing done by hand.

use super::*;
use crate::onnx::fixtures::{Net, uniform};
use crate::onnx::interpret::{self, Tensor};
use crate::onnx::opset;
use crate::onnx::proto::{AttributeProto, NodeProto, data_type};
use crate::resample::{Filter, taps};

/// A model whose embedding is its input, flattened: what goes in can be seen.
fn mirror(elem_type: i32, dims: &[Dim]) -> ModelProto {
    let mut b = GraphBuilder::new("mirror");
    b.input("image", elem_type, dims);
    let x = if elem_type == FLOAT {
        "image".to_string()
    } else {
        b.named_node("Cast", "floats", &["image"], vec![AttributeProto::int("to", i64::from(FLOAT))])
    };
    let flat = b.named_node("Flatten", "flat", &[&x], vec![AttributeProto::int("axis", 1)]);
    b.output(&flat, FLOAT, &[dims[0].clone(), Dim::Symbol("d".into())]);
    b.finish()
}

fn dims(text: &str) -> Vec<Dim> {
    text.split_whitespace().map(|d| d.parse().map_or_else(|_| Dim::Symbol(d.into()), Dim::Fixed)).collect()
}

/// The embedding of two images of 4 × 4.
fn seen(model: &ModelProto, pixels: &str, output: &str, size: usize) -> Vec<f64> {
    let model = opset::lift(model.clone()).unwrap();
    let x = Tensor::from_f32(&[2, 3, size, size], &uniform(3, 6 * size * size, 0.0, 1.0));
    interpret::run(&model, &[(pixels, x)]).unwrap()[output].data.clone()
}

fn pixel(size: usize, image: usize, channel: usize, y: usize, x: usize) -> f64 {
    f64::from(uniform(3, 6 * size * size, 0.0, 1.0)[((image * 3 + channel) * size + y) * size + x])
}

fn check(wrapping: &Wrapping, shape: &str, wanted: impl Fn(usize, usize) -> f64) {
    let adapted = adapt(mirror(FLOAT, &dims(shape)), wrapping, 4).unwrap();
    let got = seen(&adapted.model, &adapted.pixels, &adapted.embedding, 4);
    let each = got.len() / 2;
    for (at, value) in got.iter().enumerate() {
        let wanted = wanted(at / each, at % each);
        assert!((value - wanted).abs() < 1e-6 * wanted.abs().max(1.0), "{wrapping:?} {at}: {value} {wanted}");
    }
    // The nodes before the image by themselves give the same.
    if let Some(before) = &adapted.before {
        let input = before.graph.as_ref().unwrap().input[0].name.clone();
        assert_eq!(seen(before, &input, &adapted.file_input, 4), got);
    }
}

#[test]
fn pixels_go_in_as_they_are_unless_something_is_said() {
    let adapted = adapt(mirror(FLOAT, &dims("n 3 4 4")), &Wrapping::default(), 4).unwrap();
    assert!(adapted.before.is_none());
    assert_eq!(adapted.model.graph, mirror_with_output().graph);
    let text: Vec<String> = adapted.notes.iter().map(ToString::to_string).collect();
    assert_eq!(text[0], "input = \"image\" (file: the only input)");
    assert_eq!(text[1], "layout = \"nchw\" (detected: [n, 3, 4, 4] has its channels first)");
    assert_eq!(text[2], "colour = \"rgb\" (assumed: a file does not tell it from bgr)");
}

fn mirror_with_output() -> ModelProto {
    let mut model = mirror(FLOAT, &dims("n 3 4 4"));
    model.graph.as_mut().unwrap().output = vec![ValueInfoProto::tensor("flat", FLOAT, &dims("n 48"))];
    model
}

#[test]
fn channels_last_and_blue_first_and_bytes_and_normalisation() {
    let wrapping = Wrapping {
        colour: Some(Colour::Bgr),
        range: Some([0.0, 255.0]),
        mean: Some(PerChannel(vec![103.0, 116.0, 123.0])),
        std: Some(PerChannel(vec![57.0, 58.0, 59.0])),
        ..Wrapping::default()
    };
    check(&wrapping, "n 4 4 3", |image, at| {
        let (place, channel) = (at / 3, at % 3);
        let value = 255.0 * pixel(4, image, 2 - channel, place / 4, place % 4);
        (value - [103.0, 116.0, 123.0][channel]) / [57.0, 58.0, 59.0][channel]
    });
    let adapted = adapt(mirror(FLOAT, &dims("n 4 4 3")), &wrapping, 4).unwrap();
    let told: Vec<f64> = adapted.model.metadata("mdprop.std").unwrap().split(',').map(|v| v.parse().unwrap()).collect();
    for (told, wanted) in told.iter().zip([59.0, 58.0, 57.0]) {
        assert!((told - wanted / 255.0).abs() < 1e-7, "one normalised unit in pixels, red first");
    }
}

#[test]
fn one_channel_is_grey_and_a_range_may_be_symmetric() {
    let wrapping = Wrapping { range: Some([-1.0, 1.0]), ..Wrapping::default() };
    check(&wrapping, "n 1 4 4", |image, at| {
        let grey = |weights: [f64; 3]| (0..3).map(|c| weights[c] * pixel(4, image, c, at / 4, at % 4)).sum::<f64>();
        2.0 * grey([0.299, 0.587, 0.114]) - 1.0
    });
}

#[test]
fn a_picture_is_stretched_and_its_centre_cut_out() {
    for (filter, antialias) in [(Filter::Bilinear, true), (Filter::Bicubic, true), (Filter::Nearest, false)] {
        let resize = Resize { to: Extent([6, 5]), filter, antialias };
        let wrapping = Wrapping { resize: Some(resize), crop: Some(Extent([3, 2])), ..Wrapping::default() };
        let (rows, columns) = (taps(4, 6, filter, antialias), taps(4, 5, filter, antialias));
        check(&wrapping, "n 3 h w", |image, at| {
            let (channel, y, x) = (at / 6, at % 6 / 2, at % 2);
            // round_half_even((6 − 3) / 2) = 2, round_half_even((5 − 2) / 2) = 2.
            let (down, across) = (&rows[y + 2], &columns[x + 2]);
            let mut sum = 0.0;
            for (i, a) in down.weights.iter().enumerate() {
                for (j, b) in across.weights.iter().enumerate() {
                    sum += a * b * pixel(4, image, channel, down.first + i, across.first + j);
                }
            }
            if filter == Filter::Bicubic { sum.clamp(0.0, 1.0) } else { sum }
        });
    }
}

#[test]
fn an_old_operator_set_gets_old_forms() {
    let mut old = mirror(FLOAT, &dims("n 3 h w"));
    old.opset_import[0].version = 9;
    let wrapping = Wrapping {
        resize: Some(Resize { to: Extent([6, 6]), filter: Filter::Bicubic, antialias: true }),
        normalize: true,
        ..Wrapping::default()
    };
    let new = adapt(mirror(FLOAT, &dims("n 3 h w")), &wrapping, 4).unwrap();
    let adapted = adapt(old, &wrapping, 4).unwrap();
    let nodes = &adapted.model.graph.as_ref().unwrap().node;
    assert!(nodes.iter().filter(|n| n.op_type == "Clip").all(|n| n.input.len() == 1));
    assert!(nodes.iter().find(|n| n.op_type == "ReduceL2").unwrap().attribute("axes").is_some());
    let (a, b) = (
        seen(&adapted.model, &adapted.pixels, &adapted.embedding, 4),
        seen(&new.model, &new.pixels, &new.embedding, 4),
    );
    assert_eq!(a, b);
    assert!((a[..108].iter().map(|v| v * v).sum::<f64>() - 1.0).abs() < 1e-6);
}

#[test]
fn bytes_are_fed_as_floats_that_are_not_rounded() {
    let adapted = adapt(mirror(data_type::UINT8, &dims("n 4 4 3")), &Wrapping::default(), 4).unwrap();
    let got = seen(&adapted.model, &adapted.pixels, &adapted.embedding, 4);
    assert!((got[1] - 255.0 * pixel(4, 0, 1, 0, 0)).abs() < 1e-4);
    assert!(adapted.notes.iter().any(|n| n.to_string() == "range = [0, 255] (detected: the input is uint8)"));
    let mut b = GraphBuilder::new("shifts");
    b.input("image", data_type::UINT8, &dims("n 3 4 4"));
    let shifted = b.node("BitShift", &["image", "image"], vec![AttributeProto::string("direction", "LEFT")]);
    b.output(&shifted, FLOAT, &dims("n 48"));
    let error = adapt(b.finish(), &Wrapping::default(), 4).unwrap_err().to_string();
    assert!(error.contains("BitShift") && error.contains("float32 input"), "{error}");
}

#[test]
fn one_image_without_batch_axis_is_looped_over() {
    let mut b = GraphBuilder::new("one");
    b.input("image", FLOAT, &dims("4 4 3"));
    let flat = b.node(
        "ReduceMean",
        &["image"],
        vec![AttributeProto::int("keepdims", 0), AttributeProto::ints("axes", &[0, 1])],
    );
    b.output(&flat, FLOAT, &dims("3"));
    let mut model = b.finish();
    model.opset_import[0].version = 13;
    let adapted = adapt(model, &Wrapping::default(), 4).unwrap();
    assert_eq!(adapted.batch, BatchAxis::Absent);
    let x = Tensor::from_f32(&[1, 3, 4, 4], &uniform(3, 48, 0.0, 1.0));
    let lifted = opset::lift(adapted.model.clone()).unwrap();
    let embedding = interpret::run(&lifted, &[(adapted.pixels.as_str(), x)]).unwrap()[&adapted.embedding].clone();
    assert_eq!(embedding.shape, [1, 3]);
    let red = (0..16).map(|i| pixel(4, 0, 0, i / 4, i % 4)).sum::<f64>() / 16.0;
    assert!((embedding.data[0] - red).abs() < 1e-6);
}

/// A model with these outputs, each `Identity` of its shape's sort.
fn with_outputs(outputs: &[(&str, i32, &str)]) -> ModelProto {
    let mut b = GraphBuilder::new("many");
    b.input("image", FLOAT, &dims("n 3 4 4"));
    for (name, elem_type, shape) in outputs {
        b.push("Unknown", &["image"], &[name], vec![]);
        b.output(name, *elem_type, &dims(shape));
    }
    b.finish()
}

#[test]
fn the_embedding_is_the_named_output_or_the_only_flat_one() {
    let three = [("map", FLOAT, "n 8 2 2"), ("class", data_type::INT64, "n 1"), ("vector", FLOAT, "n 8")];
    let adapted = adapt(with_outputs(&three), &Wrapping::default(), 4).unwrap();
    assert_eq!(adapted.file_output, "vector");
    assert_eq!(adapted.model.graph.as_ref().unwrap().output.len(), 1);
    let pick = |name: &str| Wrapping { output: Some(name.into()), ..Wrapping::default() };
    let refused = |outputs: &[(&str, i32, &str)], wrapping: &Wrapping| {
        adapt(with_outputs(outputs), wrapping, 4).unwrap_err().to_string()
    };
    assert!(refused(&three, &pick("vektor")).contains("`vector` float32 [n, 8]"));
    assert!(refused(&three, &pick("map")).contains("[n, 8, 2, 2], wanted one embedding for each image"));
    assert!(refused(&three, &pick("class")).contains("int64"));
    let two = [("a", FLOAT, "n 8"), ("b", FLOAT, "n 9")];
    let error = refused(&two, &Wrapping::default());
    assert!(error.contains("`a` float32 [n, 8], `b` float32 [n, 9]") && error.contains("say output"), "{error}");
    let pooled = adapt(with_outputs(&[("map", FLOAT, "n 8 1 1")]), &Wrapping::default(), 4).unwrap();
    assert_eq!(pooled.model.graph.unwrap().output[0].dims().unwrap(), dims("n 8"));
}

#[test]
fn an_inner_value_is_cut_out_with_all_that_lies_behind_it() {
    let mut net = Net::new([3, 8, 8]);
    let x = net.conv("image", [4, 3, 3, 3], 2, 1);
    let e = net.head(&x, 4, 5);
    let whole = net.finish(&e, 5);
    let graph = whole.graph.as_ref().unwrap();
    let pooled = graph.node.iter().find(|n| n.op_type == "GlobalAveragePool").unwrap().output[0].clone();
    let pick = Wrapping { output: Some(pooled.clone()), ..Wrapping::default() };
    let adapted = adapt(whole.clone(), &pick, 8).unwrap();
    assert_eq!((adapted.file_output.as_str(), adapted.embedding.as_str()), (pooled.as_str(), "embedding_flat"));
    let cut = adapted.model.graph.as_ref().unwrap();
    assert!(cut.node.len() < graph.node.len() && cut.initializer.len() < graph.initializer.len());
    assert_eq!(cut.output[0].dims().unwrap()[1..], dims("4"));
    // The same numbers as in the whole file.
    let wanted = seen(&whole, "image", &pooled, 8);
    assert_eq!(seen(&adapted.model, &adapted.pixels, &adapted.embedding, 8), wanted);
    let mut idle = whole.clone();
    let inner = idle.graph.as_mut().unwrap();
    let constant = inner.initializer.iter().find(|tensor| tensor.dims.len() == 2).unwrap().name.clone();
    let node = NodeProto {
        op_type: "Identity".into(),
        input: vec![constant],
        output: vec!["idle".into()],
        ..Default::default()
    };
    inner.node.insert(0, node);
    let error =
        adapt(idle, &Wrapping { output: Some("idle".into()), ..Wrapping::default() }, 8).unwrap_err().to_string();
    assert!(error.contains("output = \"idle\" does not depend on the image"), "{error}");
    let maps = Wrapping { output: Some(x), ..Wrapping::default() };
    let error = adapt(whole, &maps, 8).unwrap_err().to_string();
    assert!(error.contains("a value inside it, such as") && error.contains(&format!("`{pooled}` [")), "{error}");
}

#[test]
fn what_does_not_fit_is_said_with_the_key_that_helps() {
    let refused =
        |shape: &str, wrapping: Wrapping| adapt(mirror(FLOAT, &dims(shape)), &wrapping, 4).unwrap_err().to_string();
    let none = Wrapping::default;
    for (shape, wrapping, parts) in [
        ("n 3 8 8", none(), ["image_size = 4", "resize = { to = 8 }"]),
        ("n 4 8 8", none(), ["[n, 4, 8, 8]", "1 or 3 channels"]),
        ("20000000 3 4 4", none(), ["too large", "smaller batch"]),
        ("n 3", none(), ["[n, 3]", "[n, c, h, w]"]),
        ("0 3 4 4", none(), ["[0, 3, 4, 4]", "no image"]),
        ("n 3 4 4", Wrapping { crop: Some(Extent([5, 5])), ..none() }, ["takes 4 × 4", "crop = 5"]),
        ("n 3 h w", Wrapping { crop: Some(Extent([5, 5])), ..none() }, ["crop = 5 is larger", "4 × 4"]),
        ("n 1 4 4", Wrapping { colour: Some(Colour::Bgr), ..none() }, ["bgr", "1 channel"]),
        ("n 3 4 4", Wrapping { mean: Some(PerChannel(vec![0.5, 0.5])), ..none() }, ["mean", "3 channels"]),
        ("n 3 4 4", Wrapping { input: Some("pixels".into()), ..none() }, ["pixels", "`image` float32"]),
    ] {
        let error = refused(shape, wrapping);
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    let mut b = GraphBuilder::new("two");
    b.input("a", FLOAT, &dims("n 3 4 4"));
    b.input("b", FLOAT, &dims("n 1"));
    let error = adapt(b.finish(), &none(), 4).unwrap_err().to_string();
    assert!(error.contains("2 inputs (`a` float32 [n, 3, 4, 4], `b` float32 [n, 1])"), "{error}");
}

#[test]
fn the_size_of_the_images_follows_from_file_and_card() {
    let size = |shape: &str, wrapping: &Wrapping| {
        natural_size(mirror(FLOAT, &dims(shape)).graph.as_ref().unwrap(), wrapping).map_err(|e| e.to_string())
    };
    assert_eq!(size("n 3 8 8", &Wrapping::default()), Ok(8));
    assert_eq!(size("n 8 8 3", &Wrapping::default()), Ok(8));
    let crop = Wrapping { crop: Some(Extent([5, 5])), ..Wrapping::default() };
    assert_eq!(size("n 3 h w", &crop), Ok(5));
    assert!(size("n 3 h w", &Wrapping::default()).unwrap_err().contains("open; say --image-size"));
    assert!(size("n 3 64 w", &Wrapping::default()).unwrap_err().contains("open; say resize = { to = [64, WIDTH] }"));
    assert!(size("n 3 8 4", &Wrapping::default()).unwrap_err().contains("resize = { to = [8, 4] }"));
}
