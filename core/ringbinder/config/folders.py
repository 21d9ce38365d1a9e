"""State and cache folder: made private at the start, and judged whether they can be used."""

from __future__ import annotations

import errno
import os
import pwd
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..runtime.log import Logger
from ..runtime.paths import Paths
from ..runtime.private import make_private, private, remove_access_of_others
from .loading import Config

_PROBE_BYTES: Final = 64 * 1024
_LEVELS: Final = 2
"""How deep files are made private in folders of an earlier version; what lies below is out of reach by then."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def tighten(paths: Paths, log: Logger) -> None:
    """Makes state and cache folder private, with what an earlier version has left open in them."""
    for folder in (paths.state, paths.cache):
        with suppress(OSError):  # `folder_problems` finds it where it matters
            make_private(folder)
        try:
            if not folder.is_dir():
                continue
            if warning := sharing(folder):
                log.warning("others may read what Ringbinder keeps", reason=warning)
                continue
            remove_access_of_others(str(folder.resolve()))
            _tighten_below(folder, _LEVELS)
        except OSError as error:
            log.warning("a folder could not be made private", folder=str(folder), reason=error.strerror)


def sharing(folder: Path) -> str:
    """Why this existing folder is not made private, and what to do; empty if it is this user's own."""
    facts, home, place = folder.stat(), Path.home(), folder.resolve()
    own, advice = os.geteuid(), "name a folder of Ringbinder's own"
    if facts.st_uid != own:
        return f"{folder} belongs to the user {_user(facts.st_uid)}, who can change it: chown it, or {advice}"
    # Of root are also /srv and /var/lib, which others need.
    needed = facts.st_mode & stat.S_ISVTX or place in (home, *home.parents) or (own == 0 and len(place.parts) <= 3)
    return f"other programs need {folder} as well: {advice}" if needed else ""


def _tighten_below(folder: Path, levels: int) -> None:
    for entry in list(os.scandir(folder)):
        with suppress(OSError):  # gone meanwhile, or another user's
            remove_access_of_others(entry.path)
            if levels > 1 and entry.is_dir(follow_symlinks=False):
                _tighten_below(Path(entry.path), levels - 1)


def folder_problems(config: Config) -> list[str]:
    """What keeps Ringbinder from working in the folders of `config`, each with what to do; makes none of them."""
    settings = config.settings
    paths = Paths.of(settings.state_folder, settings.cache_folder)
    looked = [("state_folder", "RINGBINDER_STATE", paths.state)]
    if "local" in (*settings.builders, settings.launcher):  # nothing else has a cache
        looked.append(("cache_folder", "RINGBINDER_CACHE", paths.cache))
    return [
        f"Ringbinder.{option}: {problem} (or name another folder, in this option or in the variable {variable})."
        for option, variable, folder in looked
        for problem in _problems(folder)
    ]


def _problems(folder: Path) -> Iterator[str]:
    there = folder
    while not there.exists() and not there.is_symlink() and there != there.parent:
        there = there.parent
    problem = _problem(there, folder)
    if not problem:
        problem = _write_problem(there, folder)
    if problem:
        yield problem
    elif there == folder:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False) and (problem := _problem(Path(entry.path), Path(entry.path))):
                yield problem


def _problem(there: Path, folder: Path) -> str:
    """Why `folder` cannot be used; `there` is what exists of its path. Empty if it can."""
    what = str(folder) if there == folder else f"{folder} cannot be made: {there}"
    try:
        if not there.is_dir():
            kind = "is a link that leads nowhere" if there.is_symlink() and not there.exists() else "is no folder"
            return f"{what} {kind}: move it away"
        if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
            owner, own = _user(there.stat().st_uid), _user(os.geteuid())
            if os.statvfs(there).f_flag & os.ST_RDONLY:
                return f"{what} is on a file system that is read-only: mount it so that it can be written"
            if owner != own:
                return f"{what} belongs to the user {owner}, and this is {own}, who may not write there: chown it"
            return f"{what} may not be written by its own user {own}: chmod u+rwx it"
    except OSError as error:
        return f"{what} cannot be used ({error.strerror})"
    return ""


def _write_problem(there: Path, folder: Path) -> str:
    try:
        _write(there)
    except OSError as error:
        if error.errno in _NO_ROOM:
            return f"there is no room left for {folder}: make some, as with `ringbinder images prune`"
        return f"{folder} cannot be used: nothing can be written in {there} ({error.strerror})"
    return ""


def _write(folder: Path) -> None:
    probe = folder / f".ringbinder-{secrets.token_hex(8)}"
    try:
        with open(probe, "xb", opener=private) as file:
            file.write(b"\0" * _PROBE_BYTES)
            file.flush()
            os.fsync(file.fileno())
    finally:
        probe.unlink(missing_ok=True)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
