"""Fills .deps/ with the native libraries that mdprop links and loads: see native-libraries.json beside this file.

Safe to run at any time: what is whole is left alone, what was cut short is done again. Standard library only.
"""

import argparse
import fcntl
import os
import sys
from pathlib import Path
from typing import List

sys.dont_write_bytecode = True

# After the line above, which keeps .ci/ free of compiled files.
from libraries import Library, SetupError, read_libraries  # noqa: E402

HERE = Path(__file__).resolve().parent


def parse(arguments: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="setup.py", description=__doc__)
    parser.add_argument("--without-train", action="store_true", help="only ONNX Runtime, for --no-default-features")
    parser.add_argument("--keep-wheels", action="store_true", help="keep what was downloaded (570 MB)")
    parser.add_argument("--wheels", type=Path, help="take finished wheels from this folder, for machines without network")
    parser.add_argument("--pip", default="", help="the pip to call; default: this Python's own")
    parser.add_argument("--deps", type=Path, default=HERE.parent / ".deps", help="the folder to fill")
    parser.add_argument("--libraries", type=Path, default=HERE / "native-libraries.json", help="what to fill it with")
    return parser.parse_args(arguments)


def missing(libraries: List[Library], deps: Path) -> List[Library]:
    """Libraries that neither the user nor an earlier run has provided."""
    return [library for library in libraries if not library.given_by_user() and not library.is_whole(deps)]


def install(options: argparse.Namespace) -> None:
    names = ["onnxruntime"] if options.without_train else ["libtorch", "onnxruntime"]
    libraries = read_libraries(options.libraries, names)
    if not missing(libraries, options.deps):
        return
    from download import fetch  # here, because a run that finds everything done should cost nothing

    options.deps.mkdir(parents=True, exist_ok=True)
    with open(options.deps / ".lock", "w") as lock:
        # A second set-up in the same folder waits for the first, then finds everything done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = missing(libraries, options.deps)
        store = options.deps / "wheels"
        fetch(wanted, store, options.wheels, options.pip)
        for library in wanted:
            library.unpack(options.deps, store)
            say(f"setup: {library.name} {library.version} is in {options.deps / library.name}")
        if not options.keep_wheels:
            for wheel in (wheel for library in wanted for wheel in library.wheels):
                wheel.path_in(store).unlink()
            if not os.listdir(store):
                store.rmdir()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    try:
        install(parse(sys.argv[1:]))
    except SetupError as error:
        say(f"setup: {error}")
        return 2
    except KeyboardInterrupt:
        say("setup: stopped; finished downloads are kept, the same command continues")
        return 130
    except OSError as error:
        hint = "; free some space and run the same command again" if error.errno == 28 else ""
        say(f"setup: {error}{hint}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
