"""Makes cars_annos.mat and cars_annos_plain.mat: the layout of Stanford Cars' annotations with four made-up pictures.

scipy 1.16 or newer: python make_cars_annos.py
"""
import pathlib

import numpy as np
from scipy.io import savemat

rows = [("car_ims/000001.jpg", 2, 1, 8, 6, 1, 0), ("car_ims/000002.jpg", 1, 1, 12, 8, 1, 1),
        ("car_ims/000003.jpg", 1, 2, 5, 8, 99, 0), ("car_ims/000004.jpg", 3, 3, 12, 9, 99, 1)]
fields = ["relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test"]
annotations = np.zeros((1, len(rows)), dtype=[(name, object) for name in fields])
for i, (path, *numbers) in enumerate(rows):
    annotations[0, i]["relative_im_path"] = path
    for name, number in zip(fields[1:], numbers):
        # As MATLAB stores them: the smallest integer type that holds the number.
        annotations[0, i][name] = np.array([[number]], dtype=np.uint8)
names = np.empty((1, 99), dtype=object)
for i in range(99):
    names[0, i] = f"Maker Model {i + 1}"
here = pathlib.Path(__file__).parent
values = {"annotations": annotations, "class_names": names}
savemat(here / "cars_annos.mat", values, do_compression=True)
savemat(here / "cars_annos_plain.mat", values, do_compression=False)
