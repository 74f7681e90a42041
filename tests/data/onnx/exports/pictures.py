"""Inputs and targets of the fixtures; numpy alone."""

import numpy as np

CHANNELS = 3


def pictures(count, size, seed):
    """Smooth coloured waves with noise, bytes `[n, 3, size, size]`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    images = []
    for _ in range(count):
        planes = []
        for _ in range(CHANNELS):
            a, b, phase = rng.uniform(-9, 9), rng.uniform(-9, 9), rng.uniform(0, 6)
            planes.append(0.5 + 0.3 * np.sin(a * x + b * y + phase) + rng.uniform(-0.2, 0.2, (size, size)))
        images.append(planes)
    return (np.clip(images, 0, 1) * 255).round().astype(np.uint8)


def targets(shape, seed):
    """One random target for each sample, float32 `[n, d]`."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) / np.float32(np.sqrt(shape[1]))
