"""What native-libraries.json describes, and how a wheel becomes a folder of .deps/ that is either whole or absent."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

STAMP = ".whole"


class SetupError(Exception):
    """One line for the user: what is wrong and how to put it right."""


class Wheel(NamedTuple):
    """A pinned archive of the Python package index; `take` maps its members to places in the library's folder."""

    name: str
    version: str
    platform: str
    file: str
    bytes: int
    sha256: str
    take: Dict[str, str]

    def path_in(self, store: Path) -> Path:
        return store / self.file

    def defect(self, path: Path) -> Optional[str]:
        """What is wrong with this copy of the wheel, if anything is."""
        size = path.stat().st_size
        if size != self.bytes:
            return f"it has {size} bytes, expected {self.bytes}"
        found = sha256_of(path)
        return None if found == self.sha256 else f"its sha256 is {found}, expected {self.sha256}"


class Library(NamedTuple):
    """A folder of .deps/."""

    name: str
    version: str
    unless_set: List[str]
    unpacked_bytes: int
    links: Dict[str, str]
    texts: Dict[str, str]
    wheels: List[Wheel]

    def given_by_user(self) -> bool:
        """Whether the user's environment names a library of their own, which then is never second-guessed."""
        for variable in self.unless_set:
            value = os.environ.get(variable, "")
            if not value:
                continue
            if os.sep in value and not os.path.exists(value):
                raise SetupError(f"{variable}={value} does not exist; correct it, or unset it to have {self.name} fetched")
            return True
        return False

    def description(self) -> str:
        """Changes whenever the folder's content should."""
        return hashlib.sha256(json.dumps(self, sort_keys=True).encode()).hexdigest()

    def is_whole(self, deps: Path) -> bool:
        """Whether an earlier run finished this version and its libraries still have their sizes."""
        folder = deps / self.name
        try:
            stamp = json.loads((folder / STAMP).read_text())
            sizes = stamp["sizes"].items()
            return stamp["description"] == self.description() and all((folder / n).stat().st_size == s for n, s in sizes)
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return False

    def unpack(self, deps: Path, store: Path) -> None:
        """Fills `deps/<name>`. The stamp goes in last and the folder gets its name after that, so half is never whole."""
        partial = deps / f".{self.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for wheel in self.wheels:
            take(wheel, wheel.path_in(store), partial)
        for name, target in self.links.items():
            (partial / name).symlink_to(target)
        for name, text in self.texts.items():
            (partial / name).write_text(text + "\n")
        sizes = {str(p.relative_to(partial)): p.stat().st_size for p in sorted((partial / "lib").iterdir())}
        (partial / STAMP).write_text(json.dumps({"description": self.description(), "sizes": sizes}))
        final = deps / self.name
        if final.is_symlink():
            final.unlink()
        elif final.exists():
            shutil.rmtree(final)
        partial.rename(final)


def take(wheel: Wheel, archive: Path, folder: Path) -> None:
    import zipfile  # here, because a run that finds everything done should cost nothing

    with zipfile.ZipFile(archive) as members:
        for name in members.namelist():
            place = destination(wheel, name)
            if place is not None:
                path = folder / place
                path.parent.mkdir(parents=True, exist_ok=True)
                with members.open(name) as source, open(path, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                    if place.startswith("lib/"):
                        os.fsync(sink.fileno())  # the stamp must not reach the disk before what it vouches for
    for member, place in wheel.take.items():
        if not (folder / place).exists():
            raise SetupError(f"{archive.name} has no `{member}`; native-libraries.json and its pins disagree")


def destination(wheel: Wheel, member: str) -> Optional[str]:
    """Where a member goes: by its own name, or by the folder (a key ending in `/`) that it lies in."""
    if member.endswith("/"):
        return None
    for prefix, place in wheel.take.items():
        if member == prefix:
            return place
        if prefix.endswith("/") and member.startswith(prefix):
            return place + member[len(prefix) :]
    return None


def sha256_of(path: Path) -> str:
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while True:
            block = file.read(1 << 20)
            if not block:
                return hasher.hexdigest()
            hasher.update(block)


def read_libraries(path: Path, names: List[str]) -> List[Library]:
    described: Dict[str, Any] = json.loads(path.read_text())
    return [
        Library(name=name, **{**described[name], "wheels": [Wheel(**wheel) for wheel in described[name]["wheels"]]})
        for name in names
    ]
