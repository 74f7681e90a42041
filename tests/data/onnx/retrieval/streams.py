"""mdprop's named random streams, written again from their description (src/rng.rs, src/attack): ChaCha with 8 rounds
(Bernstein 2008), keyed by the SHA-256 of seed, purpose and counters."""

import hashlib
import struct

import numpy as np


class Stream:
    def __init__(self, seed, purpose, counters):
        text = purpose.encode()
        name = struct.pack("<QQ", seed, len(text)) + text + b"".join(struct.pack("<Q", c) for c in counters)
        self.key = np.frombuffer(hashlib.sha256(name).digest(), "<u4")
        self.words, self.at, self.block = np.zeros(0, np.uint32), 0, 0

    def more(self, blocks):
        """`blocks` blocks at once, one column each."""
        counter = np.arange(self.block, self.block + blocks, dtype=np.uint64)
        self.block += blocks
        state = np.zeros((16, blocks), np.uint32)
        state[:4] = np.frombuffer(b"expand 32-byte k", "<u4")[:, None]
        state[4:12] = self.key[:, None]
        state[12], state[13] = counter & np.uint64(0xFFFFFFFF), counter >> np.uint64(32)
        x = state.copy()

        def quarter(a, b, c, d):
            for p, q, r, turn in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)]:
                x[p] += x[q]
                y = x[r] ^ x[p]
                x[r] = (y << np.uint32(turn)) | (y >> np.uint32(32 - turn))

        for _ in range(4):
            for column in range(4):
                quarter(column, 4 + column, 8 + column, 12 + column)
            for column in range(4):
                quarter(column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4)
        return (x + state).T.reshape(-1)

    def u32(self, count):
        left = len(self.words) - self.at
        if left < count:
            fresh = self.more(-(-(count - left) // 16))
            self.words, self.at = np.concatenate([self.words[self.at :], fresh]), 0
        out = self.words[self.at : self.at + count]
        self.at += count
        return out

    def below(self, bound):
        """Uniform in `[0, bound)`: Lemire 2019."""
        threshold = (2**64 - bound) % bound
        while True:
            low, high = map(int, self.u32(2))
            product = (low | high << 32) * bound
            if product % 2**64 >= threshold:
                return product >> 64

    def unit(self, count):
        return (self.u32(count) >> np.uint32(8)).astype(np.float32) / np.float32(2**24)


def draw_targets(labels, image, count, seed, attack):
    """Images of `count` distinct other classes; every image of the set is in the gallery, sorted by class."""
    stream = Stream(seed, f"target/{attack}", [image])
    closed = {labels[image]}
    found = []
    for _ in range(count):
        open_ = [i for i in range(len(labels)) if labels[i] not in closed]
        found.append(open_[stream.below(len(open_))])
        closed.add(labels[found[-1]])
    return found


def start(clean, lower, upper, radius, image, seed, attack):
    """The uniform start of restart 0; arrays `[3, h, w]`."""
    unit = Stream(seed, f"start/{attack}", [image, 0]).unit(clean.size).reshape(clean.shape)
    one, two = np.float32(1), np.float32(2)
    return np.clip(clean + np.float32(radius) * (two * unit - one), lower, upper)
