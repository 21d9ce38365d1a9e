"""Locks that are used again: by commits, repositories and replicas, for as long as they may be."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from attrs import evolve
from realparts.package_index import PackageIndex
from ringbinder import Context, Declined
from ringbinder.testing import FakeClock, make_context
from ringbinder.testing.ociregistry import OciServer
from ringbinder_layers.locking import interpreter
from ringbinder_layers.records import Record, Records
from ringbinder_layers.wheels import Target

from .locking import DAY, TARGET, Locking, named, read, write

pytestmark = pytest.mark.real("uv")

REPOSITORY = "binder-layers"
Start = Callable[[], Locking]


@pytest.fixture
async def start(tmp_path: Path, context: Context, server: OciServer, clock: FakeClock) -> AsyncIterator[Start]:
    """Starts processes of one registry."""
    records = Records(context.registry, f"{server.host}/{REPOSITORY}", 90 * DAY, clock, context.log)
    contexts: list[Context] = []

    def start() -> Locking:
        contexts.append(make_context(tmp_path / f"process-{len(contexts)}", "layers", clock=clock))
        return Locking(contexts[-1], records)

    yield start
    for made in contexts:
        await made.services.close()


def newer_gamma(index: PackageIndex) -> None:
    """Adds a version, and forgets what the index was asked."""
    index.add("gamma", "2.0")
    index.requests.clear()


@pytest.mark.parametrize("again", [True, False])
async def test_lock_of_an_equal_request_is_known(
    index: PackageIndex, start: Start, tmp_path: Path, again: bool
) -> None:
    """By this process and by others; the index is not asked, whatever else of the repository has changed."""
    one = start()
    lock = await one.lock(write(tmp_path / "r", {"requirements.txt": "gamma"}))
    newer_gamma(index)
    repo = write(tmp_path / "s", {"binder/requirements.txt": "-r ../more\n", "more": "# why\ngamma\n", "a.txt": "b"})
    other = one if again else start()
    assert await other.lock(repo) == lock
    assert not index.requests
    assert "Known: 7 wheels for Python 3.12" in other.log.text


async def test_lock_is_of_one_interpreter_and_its_settings(
    index: PackageIndex, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another base with the same interpreter has the same locks."""
    one = start()
    asked = read(write(tmp_path / "r", {}))
    assert not isinstance(asked, Declined)
    targets = [
        TARGET,
        evolve(TARGET, pythons=("3.12.11", "3.14.0")),
        evolve(TARGET, libc=(2, 31)),
        evolve(TARGET, platform="linux/arm64"),
        evolve(TARGET, pythons=("3.11.9",)),
    ]

    def key(target: Target) -> str:
        one.target = target
        return one.locks.key(asked, interpreter(asked, target))

    first, second, *others = map(key, targets)
    assert first == second
    one.options = {"channels": ("other",)}
    others.append(key(TARGET))
    monkeypatch.setenv("UV_EXCLUDE_NEWER", "2020-01-02")
    others.append(key(TARGET))
    assert len({first, *others}) == 6


async def test_lock_without_the_base_is_not_kept(index: PackageIndex, start: Start, tmp_path: Path) -> None:
    """What repo2docker adds was left out since the index did not answer, not since it does not fit."""
    one = start()
    repo = write(tmp_path / "r", {"requirements.txt": "gamma"})
    index.broken = {"ipywidgets"}
    assert "ipywidgets" not in named(await one.lock(repo))
    index.broken = set()
    assert "ipywidgets" in named(await one.lock(repo))


async def test_open_versions_are_found_again_after_a_while(
    index: PackageIndex, start: Start, clock: FakeClock, tmp_path: Path
) -> None:
    repo = write(tmp_path / "r", {"requirements.txt": "gamma"})
    await start().lock(repo)
    newer_gamma(index)
    await clock.advance(7 * DAY - 1)
    assert named(await start().lock(repo))["gamma"] == "1.0"
    await clock.advance(1)
    assert named(await start().lock(repo))["gamma"] == "2.0"
    assert named(await start().lock(repo))["gamma"] == "2.0"


async def test_open_versions_are_found_each_time_for_0(index: PackageIndex, start: Start, tmp_path: Path) -> None:
    one = start()
    one.relock_after = 0
    repo = write(tmp_path / "r", {"requirements.txt": "gamma"})
    await one.lock(repo)
    newer_gamma(index)
    assert named(await one.lock(repo))["gamma"] == "2.0"


async def test_versions_of_a_lock_file_stay(
    index: PackageIndex, start: Start, clock: FakeClock, tmp_path: Path
) -> None:
    repo = write(tmp_path / "r", {"Pipfile.lock": json.dumps({"_meta": {}, "default": {"gamma": {"version": "*"}}})})
    lock = await start().lock(repo)
    newer_gamma(index)
    await clock.advance(1000 * DAY)
    assert await start().lock(repo) == lock
    assert not index.requests


@pytest.mark.parametrize("private_index", [True, False])
async def test_private_lock_is_for_its_process_alone(
    index: PackageIndex, start: Start, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    private_index: bool,
) -> None:  # fmt: skip
    """Of a private repository, or with a package of an index with a password."""
    one, other = start(), start()
    repo = write(tmp_path / "r", {"requirements.txt": "gamma"})
    if private_index:
        index.login = "user:s3cret"
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.with_login())
    lock = await one.lock(repo, private=not private_index)
    newer_gamma(index)
    assert await one.lock(repo) == lock
    assert one.records is not None
    assert not await one.records.registry.list_tags(one.records.name)
    assert named(await other.lock(repo, private=True))["gamma"] == "2.0"
    [file] = (one.context.state_folder / "locks").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert b"s3cret" not in file.read_bytes()


async def test_private_lock_that_is_not_used_is_removed(
    index: PackageIndex, start: Start, clock: FakeClock, tmp_path: Path
) -> None:
    one = start()
    for name in ("gamma", "delta", "alpha"):
        await one.lock(write(tmp_path / "r", {"requirements.txt": name}), private=True)
        await clock.advance(60 * DAY)
    assert len(list((one.context.state_folder / "locks").iterdir())) == 2


async def test_lock_is_read_once_in_a_while(
    index: PackageIndex, start: Start, clock: FakeClock, tmp_path: Path
) -> None:
    one, other = start(), start().locks
    repo = write(tmp_path / "r", {"requirements.txt": "gamma"})
    asked = read(repo)
    assert not isinstance(asked, Declined)
    lock = await one.lock(repo)
    assert one.records is not None
    assert await other.lock(asked, one.log) == lock
    [tag] = await one.records.registry.list_tags(one.records.name)
    await one.records.registry.delete_manifest(one.records.name, tag)
    index.requests.clear()
    assert await other.lock(asked, one.log) == lock
    assert not index.requests
    await clock.advance(600)
    assert await other.lock(asked, one.log) == lock
    assert index.requests


async def test_record_of_another_lock_is_not_taken(index: PackageIndex, start: Start, tmp_path: Path) -> None:
    """Someone has put one lock under the key of another, or what is no lock."""
    one = start()
    assert one.records is not None
    await one.lock(write(tmp_path / "r", {"requirements.txt": "gamma"}))
    [tag] = await one.records.registry.list_tags(one.records.name)
    record = await one.records.read(tag)
    assert record is not None
    content = await one.records.read_content(record)
    repo = write(tmp_path / "s", {"requirements.txt": "delta"})
    asked = read(repo)
    assert not isinstance(asked, Declined)
    for wrong in (content, b"no lock", b"{}", b'{"key": 1}'):
        await one.records.write(Record(f"lock-{one.locks.key(asked, '3.12.11')}"), wrong)
        assert "delta" in named(await start().lock(repo))


async def test_lock_is_made_without_the_registry(
    index: PackageIndex, start: Start, server: OciServer, tmp_path: Path
) -> None:
    one = start()
    assert one.records is not None
    one.records = evolve(one.records, name="127.0.0.1:1/binder-layers")
    assert "gamma" in named(await one.lock(write(tmp_path / "r", {"requirements.txt": "gamma"})))


async def test_lock_in_a_file_that_is_broken_is_made_again(index: PackageIndex, start: Start, tmp_path: Path) -> None:
    one = start()
    repo = write(tmp_path / "r", {"requirements.txt": "gamma"})
    lock = await one.lock(repo, private=True)
    [file] = (one.context.state_folder / "locks").iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    assert await one.lock(repo, private=True) == lock
