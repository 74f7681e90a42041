"""Stands in for `pip download`: copies wheels from the folder FAKE_PIP, misbehaving as the file `mode` there says.

A mode is `what` (for every package) or `what package`. Each package asked for is written to `calls.txt`.
"""

import os
import shutil
import sys
import time
from pathlib import Path

store = Path(os.environ["FAKE_PIP"])
mode = (store / "mode").read_text().split() if (store / "mode").exists() else ["well"]
if sys.argv[1:] == ["--version"]:
    print("pip", "9.0.3" if mode == ["old"] else "23.2.1", "from /nowhere (python 3.9)")
    sys.exit(0)
arguments = sys.argv[1:]
assert arguments[0] == "download" and "--no-deps" in arguments and "--only-binary=:all:" in arguments, arguments
name = arguments[-1].split("==")[0]
target = Path(arguments[arguments.index("--dest") + 1])
assert os.environ["TMPDIR"] == str(target)
with open(store / "calls.txt", "a") as calls:
    calls.write(name + "\n")
what = mode[0] if len(mode) == 1 or mode[1] == name else "well"
if what == "offline":
    print("WARNING: Retrying after connection broken by 'NewConnectionError: [Errno -3] Temporary failure in name"
          " resolution'\nERROR: No matching distribution found for " + arguments[-1], file=sys.stderr)
    sys.exit(1)
if what == "unknown":
    print("ERROR: No matching distribution found for " + arguments[-1], file=sys.stderr)
    sys.exit(1)
if what == "unreachable":
    print("ERROR: Could not find a version that satisfies the requirement (from versions: none)\n"
          "ERROR: No matching distribution found for " + arguments[-1], file=sys.stderr)
    sys.exit(1)
if what == "full":
    print("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", file=sys.stderr)
    sys.exit(1)
(source,) = store.glob(name.replace("-", "_") + "-*.whl")
if what == "hang":
    (target / source.name).write_bytes(source.read_bytes()[:50])
    (store / "hanging").write_text("")
    time.sleep(20)
shutil.copyfile(source, target / source.name)
content = bytearray(source.read_bytes())
if what == "truncated":
    (target / source.name).write_bytes(content[: len(content) // 2])
if what == "replaced":
    content[60] ^= 1
    (target / source.name).write_bytes(content)
