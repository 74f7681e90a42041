"""Gets pinned wheels through pip, all at once, and lets nothing but the pinned bytes into the store."""

import os
import shutil
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from libraries import Library, SetupError, Wheel

# Older ones do not know several of the platform tags, or the dotted --python-version.
OLDEST_PIP = (20, 3)
# Space beyond the files themselves, for the file system's own needs.
HEADROOM_BYTES = 200_000_000
NO_NETWORK = ("Name or service not known", "name resolution", "NewConnectionError", "Network is unreachable", "timed out",
              "Connection refused", "ProxyError", "ConnectionError", "SSLError", "Connection broken")


def fetch(libraries: List[Library], store: Path, offline: Optional[Path], pip: str) -> None:
    """Leaves every wheel of `libraries` in `store`, verified."""
    store.mkdir(parents=True, exist_ok=True)
    for leftover in store.glob(".*.partial"):  # of a run that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    wheels = [wheel for library in libraries for wheel in library.wheels]
    missing = [wheel for wheel in wheels if not already_there(wheel, store, offline)]
    check_space(store, sum(wheel.bytes for wheel in missing) + sum(library.unpacked_bytes for library in libraries))
    if missing:
        command = shlex.split(pip) if pip else [sys.executable, "-m", "pip"]
        check_pip(command)
        download(missing, store, command)


def already_there(wheel: Wheel, store: Path, offline: Optional[Path]) -> bool:
    """Whether a verified copy is in the store; a damaged one is removed, one from the user's folder is copied in."""
    path = wheel.path_in(store)
    if path.exists():
        defect = wheel.defect(path)
        if defect is None:
            return True
        say(f"setup: {path} is fetched again: {defect}")
        path.unlink()
    if offline is not None and wheel.path_in(offline).exists():
        defect = wheel.defect(wheel.path_in(offline))
        if defect is not None:
            raise SetupError(f"{wheel.path_in(offline)}: {defect}; remove it or bring a fresh copy")
        shutil.copyfile(wheel.path_in(offline), path)
        return True
    return False


def check_space(store: Path, wanted: int) -> None:
    free = shutil.disk_usage(store).free
    if free < wanted + HEADROOM_BYTES:
        raise SetupError(f"{store.parent} needs {gigabytes(wanted + HEADROOM_BYTES)} of disk space, "
                         f"{gigabytes(free)} is free; free some and run the same command again")


def check_pip(command: List[str]) -> None:
    """Says in one line that pip is absent or too old, instead of pip's own page."""
    shown = " ".join(command)
    try:
        answer = subprocess.run(command + ["--version"], capture_output=True, text=True)
    except OSError as error:
        raise SetupError(f"`{shown}` cannot be run ({error.strerror}); install it: apt install python3-pip")
    words = answer.stdout.split()
    if answer.returncode != 0 or len(words) < 2:
        raise SetupError(f"`{shown}` does not work; install it: apt install python3-pip")
    version = tuple(int(part) for part in words[1].split(".")[:2] if part.isdigit())
    if version < OLDEST_PIP:
        raise SetupError(f"pip {words[1]} is too old, {OLDEST_PIP[0]}.{OLDEST_PIP[1]} is needed: "
                         f"run `{shown} install --upgrade pip`")


def download(wheels: List[Wheel], store: Path, command: List[str]) -> None:
    total = sum(wheel.bytes for wheel in wheels)
    names = ", ".join(f"{wheel.name} {wheel.version}" for wheel in wheels)
    say(f"setup: fetching {names} ({total / 1e6:.0f} MB)")
    running: List[Tuple[Wheel, Path, "subprocess.Popen[bytes]"]] = []
    try:
        for wheel in wheels:
            folder = store / f".{wheel.name}.partial"
            folder.mkdir()
            running.append((wheel, folder, start(wheel, folder, command)))
        problems = watch(running, store, total)
    finally:
        for _, folder, process in running:
            if process.poll() is None:
                process.terminate()
                process.wait()
            shutil.rmtree(folder, ignore_errors=True)
    if problems:
        raise SetupError("\nsetup: ".join(problems))


def start(wheel: Wheel, folder: Path, command: List[str]) -> "subprocess.Popen[bytes]":
    # pip downloads into TMPDIR and moves at the end: kept beside the store, /tmp may be small, and progress can be seen.
    environment: Dict[str, str] = {**os.environ, "TMPDIR": str(folder), "PIP_NO_INPUT": "1"}
    arguments = ["download", "--quiet", "--no-deps", "--no-cache-dir", "--disable-pip-version-check",
                 "--progress-bar", "off", "--only-binary=:all:", "--implementation", "cp", "--python-version", "3.12",
                 "--platform", wheel.platform, "--dest", str(folder), f"{wheel.name}=={wheel.version}"]
    with open(folder / "messages.txt", "wb") as messages:
        return subprocess.Popen(command + arguments, stdout=messages, stderr=messages, env=environment)


def watch(running: List[Tuple[Wheel, Path, "subprocess.Popen[bytes]"]], store: Path, total: int) -> List[str]:
    """Settles each download as it ends, so that an interruption loses only what is not finished; returns the problems."""
    began = time.monotonic()
    terminal = sys.stderr.isatty()
    shown = 0.0
    open_ones, problems, settled = list(running), [], 0
    while open_ones:
        time.sleep(0.05)
        for entry in [entry for entry in open_ones if entry[2].poll() is not None]:
            open_ones.remove(entry)
            problem = settle(*entry, store=store)
            settled += entry[0].bytes
            if problem is not None:
                problems.append(problem)
        elapsed = time.monotonic() - began
        if open_ones and elapsed - shown >= (1.0 if terminal else 15.0):
            shown = elapsed
            got = settled + sum(size_of(folder) for _, folder, _ in open_ones)
            rate = got / elapsed
            line = f"setup: {got / 1e6:.0f} of {total / 1e6:.0f} MB, {rate / 1e6:.1f} MB/s"
            if got:
                line += f", {max(total - got, 0) / rate:.0f} s left"
            print("\r\033[K" + line if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
    if terminal and shown:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return problems


def size_of(folder: Path) -> int:
    total = 0
    for where, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except OSError:
                pass  # pip moved it between the listing and the look
    return total


def settle(wheel: Wheel, folder: Path, process: "subprocess.Popen[bytes]", store: Path) -> Optional[str]:
    """Moves a verified wheel into the store, or says in one line why there is none."""
    pinned = f"{wheel.name}=={wheel.version} ({wheel.platform})"
    if process.returncode != 0:
        return f"{pinned}: {reason((folder / 'messages.txt').read_text(errors='replace'))}"
    found = sorted(folder.glob("*.whl"))
    if [path.name for path in found] != [wheel.file]:
        return f"{pinned}: pip brought {[path.name for path in found]}, expected {wheel.file}"
    defect = wheel.defect(found[0])
    if defect is not None:
        return f"{pinned}: the download was damaged or replaced: {defect}; run the same command again"
    os.replace(found[0], wheel.path_in(store))
    return None


def reason(messages: str) -> str:
    """Pip's page of messages in one line."""
    if "No space left" in messages:
        return "the disk is full; free some space and run the same command again"
    if any(sign in messages for sign in NO_NETWORK):
        return "no network, or the package index cannot be reached; finished downloads are kept, run the same command again"
    if "from versions: none" in messages:  # pip says no more than this when its retries are switched off
        return "the package index that pip uses cannot be reached or does not have it; look at the network and `pip config list`"
    if "No matching distribution" in messages:
        return "the package index that pip uses does not have it; see `pip config list`"
    lines = [line for line in messages.splitlines() if line.strip()]
    return f"pip failed: {lines[-1].strip()}" if lines else "pip failed without a word"


def gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
