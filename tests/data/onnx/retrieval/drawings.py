"""Line drawings: a class is a few strokes, a picture is the class drawn with another hand and other colours."""

import math

import numpy as np
from PIL import Image, ImageDraw

SIZE, FINE = 24, 96


def shape(rng):
    """Strokes of a class: polylines and arcs in the unit square."""
    strokes = []
    for _ in range(rng.integers(3, 5)):
        if rng.random() < 0.6:
            strokes.append(("line", rng.uniform(0.12, 0.88, (rng.integers(2, 4), 2))))
        else:
            low = rng.uniform(0.1, 0.5, 2)
            box = np.concatenate([low, low + rng.uniform(0.25, 0.45, 2)])
            begin = rng.uniform(0, 360)
            strokes.append(("arc", box, begin, begin + rng.uniform(120, 340)))
    return strokes


def colours(rng):
    while True:
        ground, ink = rng.integers(0, 256, 3), rng.integers(0, 256, 3)
        if abs(int(ground.sum()) - int(ink.sum())) > 220:
            return tuple(map(int, ground)), tuple(map(int, ink))


def draw(strokes, rng):
    """One picture, bytes `[SIZE, SIZE, 3]`."""
    ground, ink = colours(rng)
    image = Image.new("RGB", (FINE, FINE), ground)
    pen = ImageDraw.Draw(image)
    width = int(rng.integers(7, 12))
    angle, scale = rng.normal(0, 0.16), rng.uniform(0.8, 1.05)
    shift, shear = rng.normal(0, 0.04, 2), rng.normal(0, 0.1)
    turn = np.array([[math.cos(angle), -math.sin(angle) + shear], [math.sin(angle), math.cos(angle)]]) * scale

    def place(points):
        jittered = points + rng.normal(0, 0.02, points.shape)
        return [tuple(p) for p in ((jittered - 0.5) @ turn.T + 0.5 + shift) * FINE]

    for stroke in strokes:
        if stroke[0] == "line":
            pen.line(place(stroke[1]), fill=ink, width=width, joint="curve")
        else:
            _, box, begin, end = stroke
            centre, radii = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
            around = np.radians(np.linspace(begin, end, 24))
            points = centre + radii * np.stack([np.cos(around), np.sin(around)], 1)
            pen.line([tuple(p) for p in ((points - 0.5) @ turn.T + 0.5 + shift) * FINE], fill=ink, width=width, joint="curve")
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX))


def classes(count, each, seed):
    """Bytes `[count · each, 3, SIZE, SIZE]` and labels."""
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for label in range(count):
        strokes = shape(rng)
        images += [draw(strokes, rng) for _ in range(each)]
        labels += [label] * each
    return np.stack(images).transpose(0, 3, 1, 2).copy(), np.array(labels)
