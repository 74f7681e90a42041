"""Makes expected.json: corruptions without randomness, computed by other libraries from their definitions.

    python tests/data/corruptions/make.py

Written with numpy 2, scipy 1.16 (gaussian_filter, map_coordinates) and colorsys. The picture is 16 x 16,
below 32 px, so amounts are CIFAR-10-C's and lengths half of it.
"""

import colorsys
import json
import pathlib

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

SIDE, SEVERITY = 16, 5
x = (np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE)) // 3 + 40) / 255.0


def hsv(change):
    out = np.empty_like(x)
    for i in range(SIDE):
        for j in range(SIDE):
            out[:, i, j] = colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*x[:, i, j])))
    return out


def zoomed(plane, zoom):
    middle = (SIDE - 1) / 2
    at = middle + (np.arange(SIDE) - middle) / zoom
    return map_coordinates(plane, np.meshgrid(at, at, indexing="ij"), order=1, mode="nearest")


zooms = [1 + 0.01 * i for i in range(26)]
mean = x.mean(axis=(1, 2), keepdims=True)
results = {
    "gaussian-blur": np.stack([gaussian_filter(p, 0.5, mode="nearest", truncate=4) for p in x]),
    "zoom-blur": np.stack([(p + sum(zoomed(p, z) for z in zooms)) / 27 for p in x]),
    "brightness": hsv(lambda h, s, v: (h, s, min(v + 0.3, 1))),
    "saturate": hsv(lambda h, s, v: (h, min(s * 2.5 + 0.2, 1), v)),
    "contrast": (x - mean) * 0.15 + mean,
}
document = {
    "side": SIDE,
    "severity": SEVERITY,
    "picture": np.round(x * 255).astype(int).ravel().tolist(),
    "results": {name: [round(float(v), 6) for v in np.clip(r, 0, 1).ravel()] for name, r in results.items()},
}
path = pathlib.Path(__file__).with_name("expected.json")
path.write_text(json.dumps(document, separators=(",", ":")) + "\n")
