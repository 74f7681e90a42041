"""Times of a ResNet-50's convolutions of single pixels, forward and backward, as libtorch has them and as a matrix product.

    python pointwise.py

Two threads, channels last, medians. The last column is what src/train/model/product.rs decides by."""
import time

import torch
import torch.nn.functional as F

# Input and output channels, and by how much the map is smaller than the picture.
LAYERS = [
    (64, 64, 4), (64, 256, 4), (256, 64, 4), (256, 128, 4), (128, 512, 8), (512, 128, 8), (512, 256, 8),
    (256, 1024, 16), (1024, 256, 16), (1024, 512, 16), (512, 2048, 32), (2048, 512, 32),
]


def milliseconds(work, rounds):
    for _ in range(5):
        work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[rounds // 2] * 1e3


torch.set_num_threads(2)
print("px batch  in  out  side  convolution  product  times as fast  entries per pixel")
for pixels, batch in ((64, 16), (80, 64), (112, 16), (224, 8)):
    for channels, out, shrunk in LAYERS:
        side = -(-pixels // shrunk)
        weight = torch.randn(out, channels, 1, 1, requires_grad=True)
        maps = torch.randn(batch, channels, side, side).to(memory_format=torch.channels_last).requires_grad_(True)
        back = torch.randn(batch, out, side, side).to(memory_format=torch.channels_last)

        def convolution():
            return torch.autograd.grad(F.conv2d(maps, weight), [maps, weight], back)

        def product():
            rows = F.linear(maps.permute(0, 2, 3, 1), weight.view(out, channels))
            return torch.autograd.grad(rows.permute(0, 3, 1, 2), [maps, weight], back)

        a, b = milliseconds(convolution, 9), milliseconds(product, 9)
        entries = channels * out / (batch * side * side)
        print(f"{pixels} {batch} {channels} {out} {side} {a:.2f} {b:.2f} {a / b:.2f} {entries:.0f}")
