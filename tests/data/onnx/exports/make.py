"""Writes the PyTorch and the hand-made fixtures: `python make.py [NAME ...]`, with requirements.txt.

Every architecture goes through both exporters of PyTorch; both files share one reference, computed in float64 by
autograd. The Keras files come from make_keras.py."""

import gzip
import pathlib
import sys
import warnings

import numpy as np
import onnx
import torch
from safetensors.numpy import save_file

import handmade
from pictures import pictures, targets
from worlds import SIZE, WORLDS, randomise

HERE = pathlib.Path(__file__).parent
# Traced with a free batch axis, the TorchScript exporter writes half a megabyte of shape arithmetic for these.
STATIC_IN_TORCHSCRIPT = {"swin", "swin-v2"}
# The metadata of the other dynamo files (stack traces, module names) is three quarters of their size.
KEEPS_METADATA = {"resnext"}
# Bytes; larger files are stored compressed.
LARGE = 95_000


def reference(model, images, seed):
    """Embedding, and gradient of the per-sample loss `‖f(x) − t‖²`, in float64; pixels are bytes / 255 in float32."""
    x = torch.from_numpy(images.astype(np.float32) / np.float32(255)).double().requires_grad_()
    embedding = model(x)
    aims = targets(tuple(embedding.shape), seed)
    loss = ((embedding - torch.from_numpy(aims).double()) ** 2).sum()
    (gradient,) = torch.autograd.grad(loss, x)
    found = dict(embedding=embedding.detach().numpy(), gradient=gradient.numpy())
    found = {name: np.ascontiguousarray(value.astype(np.float32)) for name, value in found.items()}
    return dict(images=images, targets=aims, **found)


def strip(path):
    model = onnx.load(path)
    graph = model.graph
    for item in [*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer, graph, model]:
        del item.metadata_props[:]
        item.doc_string = ""
    onnx.save(model, path)


def export(model, path, dynamo, size=SIZE, static=False, spatial=False):
    free = {0: "batch", **({2: "height", 3: "width"} if spatial else {})}
    example = torch.rand(1 if static else 2, 3, size, size)
    names = dict(input_names=["image"], output_names=["embedding"])
    if dynamo:
        limits = dict(batch=dict(min=1, max=512), height=dict(min=16, max=512), width=dict(min=16, max=512))
        shapes = None if static else ({axis: torch.export.Dim(n, **limits[n]) for axis, n in free.items()},)
        torch.onnx.export(model, (example,), path, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False, **names)
    else:
        axes = None if static else {"image": free, "embedding": {0: "batch"}}
        torch.onnx.export(model, (example,), path, dynamo=False, opset_version=17, dynamic_axes=axes, **names)


def world(name, seed):
    torch.manual_seed(seed)
    images = pictures(2, SIZE, seed)
    many = torch.from_numpy(pictures(8, SIZE, 1000 + seed).astype(np.float32) / 255)
    model = randomise(WORLDS[name](), many)
    for dynamo, by in [(False, "torchscript"), (True, "dynamo")]:
        path = HERE / f"{name}.{by}.onnx"
        export(model, path, dynamo, static=not dynamo and name in STATIC_IN_TORCHSCRIPT)
        if dynamo and name not in KEEPS_METADATA:
            strip(path)
    if name == "vit":
        export(model, HERE / f"{name}.static.onnx", dynamo=True, static=True)
        strip(HERE / f"{name}.static.onnx")
    if name == "mobilenet-v2":
        export(model, HERE / f"{name}.any-size.onnx", dynamo=False, spatial=True)
    if name == "resnext":
        half = model.half()
        torch.onnx.export(
            HalfInside(half).eval(), (torch.rand(2, 3, SIZE, SIZE),), HERE / f"{name}.fp16.onnx", dynamo=False,
            opset_version=17, input_names=["image"], output_names=["embedding"],
            dynamic_axes={"image": {0: "batch"}, "embedding": {0: "batch"}},
        )
        # The truth about a half-precision file: its rounded weights, computed exactly.
        save_file(reference(half.double(), images, seed), HERE / f"{name}.fp16.safetensors")
        torch.manual_seed(seed)
        model = randomise(WORLDS[name](), many)
    save_file(reference(model.double(), images, seed), HERE / f"{name}.safetensors")


class HalfInside(torch.nn.Module):
    """float32 outside, float16 inside."""

    def __init__(self, half):
        super().__init__()
        self.half_model = half

    def forward(self, x):
        return self.half_model(x.half()).float()


def by_hand(name, make, seed):
    model, forward = make()
    path = HERE / f"{name}.onnx"
    if make is handmade.bfloat16_external:
        location = f"{name}.onnx.data"
        (HERE / location).unlink(missing_ok=True)
        onnx.save_model(model, path, save_as_external_data=True, location=location, size_threshold=0)
    else:
        onnx.save(model, path)
    count = 1 if make is handmade.opset7 else 2
    save_file(reference(forward, pictures(count, handmade.SIZE, seed), seed), HERE / f"{name}.safetensors")


BY_HAND = {
    "hand-opset9": handmade.opset9,
    "hand-opset7": handmade.opset7,
    "hand-functions": handmade.functions,
    "hand-bf16-external": handmade.bfloat16_external,
}


def compress_large():
    """The few files whose shape arithmetic outweighs their weights by far."""
    for path in HERE.glob("*.onnx"):
        if path.stat().st_size > LARGE:
            with gzip.GzipFile(f"{path}.gz", "wb", mtime=0) as out:
                out.write(path.read_bytes())
            path.unlink()


def main(wanted):
    warnings.filterwarnings("ignore")
    for seed, name in enumerate(WORLDS):
        if not wanted or name in wanted:
            world(name, seed)
    for seed, (name, make) in enumerate(BY_HAND.items(), 50):
        if not wanted or name in wanted:
            by_hand(name, make, seed)
    compress_large()
    for path in [*HERE.glob("*.safetensors"), *HERE.glob("*.data")]:
        path.chmod(0o644)


if __name__ == "__main__":
    main(sys.argv[1:])
