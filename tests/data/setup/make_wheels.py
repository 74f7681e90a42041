"""Makes small stand-ins for the wheels, and the native-libraries.json that pins them: make_wheels.py FOLDER

Two libraries as in the real one: `libtorch` from two wheels, with a folder, a link and a text, and `onnxruntime` from one.
"""

import hashlib
import json
import sys
import zipfile
from pathlib import Path


def wheel(folder, name, platform, members, take):
    file = f"{name.replace('-', '_')}-1.0-py3-none-{platform}.whl"
    with zipfile.ZipFile(folder / file, "w") as archive:
        for member, text in members.items():
            archive.writestr(zipfile.ZipInfo(member), text)
    content = (folder / file).read_bytes()
    return {"name": name, "version": "1.0", "platform": platform, "file": file, "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(), "take": take}


folder = Path(sys.argv[1])
folder.mkdir(parents=True)
torch = wheel(folder, "torch", "linux", {"torch/include/a/b.h": "int b;", "torch/lib/libtorch_cpu.so": "cpu" * 400,
                                         "torch/lib/libunwanted.so": "no"},
              {"torch/include/": "include/", "torch/lib/libtorch_cpu.so": "lib/libtorch_cpu.so"})
cuda = wheel(folder, "nvidia-cuda-runtime", "linux", {"nvidia/libcudart.so": "rt" * 300},
             {"nvidia/libcudart.so": "lib/libcudart.so"})
runtime = wheel(folder, "onnxruntime", "linux", {"onnxruntime/capi/libonnxruntime.so.1.0": "ort" * 500},
                {"onnxruntime/capi/libonnxruntime.so.1.0": "lib/libonnxruntime.so.1.0"})
libraries = {
    "libtorch": {"version": "1.0", "unless_set": ["LIBTORCH"], "unpacked_bytes": 10000,
                 "links": {"lib/libtorch.so": "libtorch_cpu.so"}, "texts": {"build-version": "1.0"},
                 "wheels": [torch, cuda]},
    "onnxruntime": {"version": "1.0", "unless_set": ["ORT_DYLIB_PATH"], "unpacked_bytes": 10000, "links": {}, "texts": {},
                    "wheels": [runtime]},
}
(folder / "libraries.json").write_text(json.dumps(libraries))
