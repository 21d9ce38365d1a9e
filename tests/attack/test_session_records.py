"""A session whose record cannot be read is kept, listed as that, and in nobody's way."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from realparts.embedded import Embedded
from ringbinder.folder_image import FolderImage
from ringbinder.model import Work
from ringbinder_embedded.launcher import LocalLauncher
from ringbinder_embedded.sessions import Session, changed_files, summary
from ringbinder_embedded.store import Store

MINE = "a" * 16
NEIGHBOUR = "b" * 16
DAMAGE = [
    b"",
    b"{",
    b"[]",
    b"{}",
    b'{"image": "gone:1"}',
    b'{"started": null}',
    b"\xff",
    b'{"started": "x"}',
    b'{"started": 1.0, "ended": NaN}',
    b'{"started": 1.0, "ended": 1e300}',
    b'{"started": 1.0, "ended": true}',
    b'{"started": 1.0, "ended": 2.0, "changed": "abc"}',
    b'{"started": 1.0, "ended": 2.0, "changed": [1]}',
    b'{"started": 1.0, "image": 5}',
    b'{"started": 1.0, "reason": ["idle"]}',
    b"[" * 100_000,
]


def left_over(state: Path, id: str, record: bytes | None) -> Session:
    """A session as a killed Ringbinder leaves it, with a file that its person has made."""
    session = Session(id, state / "sessions" / id)
    (session.folder / "box" / "work").mkdir(parents=True)
    (session.folder / "box" / "home").mkdir()
    (session.folder / "box" / "work" / "mine.txt").write_text("mine")
    session.tell_stop(None)
    if record is not None:
        (session.folder / "session.json").write_bytes(record)
    return session


def damaged(embedded: Embedded) -> str:
    return f"its record {embedded.state / 'sessions' / MINE / 'session.json'} is damaged"


async def started(launcher: LocalLauncher) -> list[Work]:
    """What is listed after a start that has looked at all that was left."""
    async with launcher.lifespan():
        return list(await launcher.work())


def record(**facts: object) -> bytes:
    return json.dumps({"image": "gone:1", "repo_url": "https://example.org/", **facts}).encode()


@pytest.mark.parametrize("damage", DAMAGE)
async def test_damaged_record_loses_no_work(apart: Embedded, damage: bytes, tmp_path: Path) -> None:
    session = left_over(apart.state, MINE, damage)
    left_over(apart.state, NEIGHBOUR, record(started=5.0, ended=6.0, reason="idle", changed=["mine.txt"]))
    launcher = apart.launcher()

    works = {work.id: work for work in await started(launcher)}

    assert works[NEIGHBOUR].changed == ("mine.txt",)
    assert works[MINE].reason == damaged(apart)
    assert works[MINE].ended is not None
    assert (works[MINE].folder / "mine.txt").read_text() == "mine"
    assert (session.folder / "session.json").read_bytes() == damage
    assert await launcher.export_work(MINE, tmp_path / "work.zip")
    with zipfile.ZipFile(tmp_path / "work.zip") as archive:
        assert archive.namelist() == [f"{MINE}/work/mine.txt"]
    assert await launcher.discard_work(MINE)
    assert [work.id for work in await launcher.work()] == [NEIGHBOUR]


async def test_record_that_is_a_link_is_not_followed(apart: Embedded, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(record(started=1.0, ended=2.0, reason="planted"))
    session = left_over(apart.state, MINE, None)
    (session.folder / "session.json").symlink_to(canary)

    [work] = await started(apart.launcher())

    assert work.reason == damaged(apart)
    assert canary.read_bytes() == record(started=1.0, ended=2.0, reason="planted")


async def test_record_that_is_gone_loses_no_work(apart: Embedded) -> None:
    left_over(apart.state, MINE, None)

    [work] = await started(apart.launcher())

    assert (work.id, work.reason) == (MINE, damaged(apart))
    assert (work.folder / "mine.txt").read_text() == "mine"


async def test_session_killed_while_copied_is_removed(apart: Embedded) -> None:
    session = left_over(apart.state, MINE, None)
    shutil.rmtree(session.jupyter)

    assert await started(apart.launcher()) == []
    assert not session.folder.exists()


async def test_work_too_deep_to_compare_is_kept(apart: Embedded) -> None:
    session = left_over(apart.state, MINE, record(started=1.0))
    deep = session.work.place
    for _ in range(205):
        deep /= "d"
    os.makedirs(deep)  # noqa: PTH103 - Path.mkdir calls itself for each
    left_over(apart.state, NEIGHBOUR, record(started=1.0))

    works = {work.id: work for work in await started(apart.launcher())}

    assert works[MINE].reason == works[NEIGHBOUR].reason == "killed"
    assert (works[MINE].folder / "mine.txt").exists()
    assert works[NEIGHBOUR].changed == ("mine.txt",)


def whole_image(state: Path) -> FolderImage:
    image = Store(state / "images").entry("image:1")
    for tree in (image.repo, image.home):
        tree.place.mkdir(parents=True)
    return image


@pytest.mark.parametrize("name", [".config/a", ".jupyter/a", ".cache/a", ".local/a", "b/.config/a", ".npm/a"])
def test_settings_in_the_work_folder_count(apart: Embedded, name: str) -> None:
    session, image = left_over(apart.state, MINE, record(started=1.0)), whole_image(apart.state)
    for root in (session.work.place, session.home.place):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("changed")
    (session.work.place / "__pycache__").mkdir()
    (session.work.place / "__pycache__" / "a.pyc").touch()

    expected = {"mine.txt", name} | ({f"home/{name}"} if not name.startswith(".") else set())
    assert set(changed_files(session, image)) == expected
    assert session.end(image, "idle") == sorted(expected)
    assert summary(apart.state, MINE)["changed"] == sorted(expected)


def test_pipe_in_the_place_of_a_file_is_not_opened(apart: Embedded) -> None:
    session, image = left_over(apart.state, MINE, record(started=1.0)), whole_image(apart.state)
    (image.repo.place / "data").write_text("data")
    os.mkfifo(session.work.place / "data")
    os.mkfifo(session.work.place / "new")
    (session.work.place / "mine.txt").unlink()

    assert changed_files(session, image) == ["data"]


def test_sparse_files_are_not_read_through(apart: Embedded) -> None:
    session, image = left_over(apart.state, MINE, record(started=1.0)), whole_image(apart.state)
    for root in (image.repo.place, session.work.place):
        with (root / "huge").open("wb") as file:
            file.truncate(1 << 42)
    os.utime(session.work.place / "huge", (1.0, 1.0))

    assert "huge" in changed_files(session, image)
