"""Files of Ringbinder's own are replaced whole, and never deleted for being unreadable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ringbinder.runtime.statefile import read_state, write_state


def test_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_state(tmp_path / "state.json") is None
    write_state(tmp_path / "state.json", b'{"a": 1}')
    write_state(tmp_path / "state.json", b'{"a": 2}', sync=False)

    assert read_state(tmp_path / "state.json") == {"a": 2}
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b"null", b'{"a": NaN'])
def test_damaged_state_is_an_error(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "state.json").write_bytes(damage)

    with pytest.raises(ValueError, match=r"state\.json"):
        read_state(tmp_path / "state.json")


def test_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_state(tmp_path / "state.json", b'{"a": 1}')

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_state(tmp_path / "state.json", b'{"a": 2}')

    assert read_state(tmp_path / "state.json") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("make", ["link", "pipe", "folder"])
def test_state_of_another_kind_is_an_error(tmp_path: Path, make: str) -> None:
    (tmp_path / "canary").write_text('{"canary": true}')
    path = tmp_path / "state.json"
    if make == "link":
        path.symlink_to("canary")
    elif make == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()

    with pytest.raises(ValueError, match=r"state\.json"):
        read_state(path)
