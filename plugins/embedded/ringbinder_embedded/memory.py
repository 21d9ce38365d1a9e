"""A limit of memory: for all processes of a session together where this machine lets us make a control group."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from attrs import frozen

_PREFIX: Final = "ringbinder-"
_GROUPS: Final = Path("/proc/self/cgroup")
_MOUNTS: Final = Path("/proc/self/mountinfo")
_EVENTS: Final = ("memory.events", "memory.oom_control")


@frozen
class Group:
    """A control group of one session."""

    folder: Path

    def wrapper(self) -> list[str]:
        """What comes before a command that is to be in it, with all that it starts."""
        return ["/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self.folder)]

    def kills(self) -> int:
        """How many of its processes the system has killed since they wanted more memory than there is."""
        for name in _EVENTS:
            with contextlib.suppress(OSError, ValueError):
                lines = (self.folder / name).read_text().splitlines()
                return int(dict(line.split() for line in lines)["oom_kill"])
        return 0

    def remove(self) -> None:
        """Once its processes have ended."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def made(session: str, limit: int) -> Group | None:
    """A new group for a session, whose processes may have `limit` bytes together; None: it cannot be had here."""
    for parent in _parents():
        group = Group(parent / f"{_PREFIX}{session}")
        with contextlib.suppress(OSError):
            group.folder.mkdir(exist_ok=True)
        if _limit(group.folder, limit):
            return group
        group.remove()
    return None


def remove(session: str) -> None:
    """What a Ringbinder that was killed has left of a session's group."""
    for parent in _parents():
        Group(parent / f"{_PREFIX}{session}").remove()


def each(limit: int) -> list[str]:
    """What comes before a command each of whose processes may have so many bytes of address space."""
    return ["/bin/sh", "-c", 'ulimit -v "$0" && exec "$@"', str(max(limit // 1024, 1))]


def _limit(folder: Path, limit: int) -> bool:
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            # Opened for writing only where it exists: nothing of the kind may be made in an ordinary folder.
            with (folder / name).open("r+") as file:
                file.write(str(limit))
        except OSError:
            continue
        for swap, value in (("memory.swap.max", 0), ("memory.memsw.limit_in_bytes", limit)):
            with contextlib.suppress(OSError), (folder / swap).open("r+") as file:
                file.write(str(value))
        return True
    return False


def _parents() -> Iterator[Path]:
    """Where a group could be made, the nearest first: version 2 where memory is counted by it, else version 1."""
    try:
        own = [line.split(":", 2) for line in _GROUPS.read_text().splitlines()]
        mounts = [line.split() for line in _MOUNTS.read_text().splitlines()]
    except OSError:
        return  # not Linux
    for mount in mounts:
        root, point = mount[3], Path(mount[4])
        kind, _, options = mount[mount.index("-") + 1 :][:3]
        for _, controllers, path in own:
            inside = path.removeprefix(root).strip("/") if root != "/" else path.strip("/")
            if kind == "cgroup2" and not controllers:
                for folder in (point / inside, (point / inside).parent):
                    with contextlib.suppress(OSError):
                        if "memory" in (folder / "cgroup.subtree_control").read_text().split():
                            yield folder
            elif kind == "cgroup" and "memory" in controllers.split(",") and "memory" in options.split(","):
                yield point / inside
