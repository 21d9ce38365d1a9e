"""The journal of launches at the hub: a file that cannot be read is kept, and breaks no other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ringbinder.testing import make_context
from ringbinder_launchers._journal import Journal
from ringbinder_launchers._places import Place
from structlog.testing import capture_logs


def journal(folder: Path) -> Journal:
    return Journal(folder, make_context(folder, "jupyterhub").log)


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b'{"user": 5}', b'{"user": "a", "server": "", "temporary": true, "x": [', b"[" * 9999],
)
def test_damaged_launch_is_kept_and_the_others_taken(tmp_path: Path, damage: bytes) -> None:
    killed = journal(tmp_path / "hub")
    assert killed.open() == []
    places = [Place("a"), Place("b", "named", temporary=False), Place("c")]
    for place in places:
        killed.write(place)
    files = sorted((tmp_path / "hub").glob("*/*.json"))
    files[1].write_bytes(damage)
    killed._held.close()  # as the system does when the process is killed

    with capture_logs() as logs:
        found = journal(tmp_path / "hub").open()

    assert len(found) == 2
    assert set(found) < set(places)
    assert files[1].read_bytes() == damage
    assert not files[0].exists()
    assert "cannot be read" in logs[0]["event"]


def test_pipe_in_the_journal_is_not_opened(tmp_path: Path) -> None:
    killed = journal(tmp_path / "hub")
    killed.open()
    killed.write(Place("a"))
    [file] = (tmp_path / "hub").glob("*/*.json")
    os.mkfifo(file.with_name("pipe.json"))
    killed._held.close()

    assert journal(tmp_path / "hub").open() == [Place("a")]
