"""The one way to lock a file."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ringbinder.runtime.filelock import file_locked, lock_file, locked


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """One file, opened twice, as two processes would."""
    files = tuple(os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR) for _ in range(2))
    yield files[0], files[1]
    for file in files:
        os.close(file)


def test_lock_while_held_is_refused(pair: tuple[int, int]) -> None:
    one, other = pair
    with locked(one):
        assert not lock_file(other, wait=False)
        assert not lock_file(other, wait=False, shared=True, needed=False)
    assert lock_file(other, wait=False)


def test_lock_shared_keeps_out_exclusive_only(pair: tuple[int, int]) -> None:
    one, other = pair
    assert lock_file(one, shared=True)
    assert lock_file(other, shared=True, wait=False)
    assert not lock_file(other, wait=False)


def test_file_locked_while_held_raises(tmp_path: Path) -> None:
    with (
        file_locked(tmp_path / "x"),
        pytest.raises(BlockingIOError, match="x is locked"),
        file_locked(tmp_path / "x", wait=False),
    ):
        pass
    with file_locked(tmp_path / "x", wait=False):
        pass


def test_lock_without_support_is_skipped_unless_needed(pair: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert lock_file(pair[0], needed=False)
    with locked(pair[0]):
        pass
    with pytest.raises(OSError, match="No locks"):
        lock_file(pair[0])
