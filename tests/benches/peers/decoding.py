"""Peer of decoding.rs: torchvision's transforms on Pillow images, one core.

Needs torchvision and Pillow. Started by the bench as: decoding.py FOLDER SIZE. Answers "squares" and "crops" with the
processor seconds of an image: decoded, Resize(SIZE) and CenterCrop to bytes; decoded, RandomResizedCrop, flip, ToTensor.
"""
import glob
import sys
import time

import PIL
import torch
import torchvision
from PIL import Image
from torchvision import transforms

torch.set_num_threads(1)
folder, size = sys.argv[1], int(sys.argv[2])
files = sorted(glob.glob(f"{folder}/*/*"))
square = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])
crop = transforms.Compose(
    [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.ToTensor()])
print(f"torchvision {torchvision.__version__}, Pillow {PIL.__version__}", flush=True)
for line in sys.stdin:
    before = time.process_time()
    for name in files:
        image = Image.open(name).convert("RGB")
        square(image).tobytes() if line.strip() == "squares" else crop(image)
    print((time.process_time() - before) / len(files), flush=True)
