"""Crops and test transforms of a small picture by torchvision on PIL images, for src/dataset/augment.rs.

Made with Python 3.12+, torch==2.11.0, torchvision==0.26.0, pillow. Run in this folder: python make_transforms.py
The picture is a PNG, so that no decoder of JPEG is compared; planes are [3, height, width] bytes.
"""
import json
import random

import PIL.Image
from torchvision.transforms import functional as F
from torchvision.transforms import InterpolationMode

random.seed(4)
WIDTH, HEIGHT = 45, 33
picture = PIL.Image.new("RGB", (WIDTH, HEIGHT))
picture.putdata([tuple((x * 5 + y * 3 * c + random.randrange(90)) % 256 for c in (1, 2, 3))
                 for y in range(HEIGHT) for x in range(WIDTH)])
picture.save("transforms.png")


def planes(image):
    data = list(image.getdata())
    return [pixel[c] for c in range(3) for pixel in data]


def crop(top, left, height, width, size):
    out = F.resized_crop(picture, top, left, height, width, [size, size], InterpolationMode.BILINEAR, antialias=True)
    return {"window": [top, left, height, width], "size": size, "planes": planes(out)}


def test(size, short):
    out = F.center_crop(F.resize(picture, short, InterpolationMode.BILINEAR, antialias=True), [size, size])
    return {"size": size, "short": short, "planes": planes(out)}


# Differences of side and crop of every remainder by four, where halves are rounded to even.
cases = {"crops": [crop(0, 0, 33, 45, 16), crop(3, 7, 20, 15, 16), crop(10, 30, 9, 12, 16), crop(32, 44, 1, 1, 8)],
         "tests": [test(28, 32), test(14, 16), test(16, 16), test(21, 24), test(7, 8)]}
with open("transforms.json", "w") as file:
    json.dump(cases, file, separators=(",", ":"))
    file.write("\n")
