"""The key-value store of a plugin: whole after a kill, bounded, for several processes."""

from __future__ import annotations

import asyncio
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ringbinder import KeyValueStore, StoreError

COUNT = """
import asyncio, sys
from pathlib import Path
from ringbinder import KeyValueStore

async def main():
    store = KeyValueStore(Path(sys.argv[1]))
    for _ in range(int(sys.argv[2])):
        await store.update("count", lambda known: (known or 0) + 1)
        print("x", flush=True)

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "plugins" / "provider-shelf" / "store.sqlite"


def counting(path: Path, times: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", COUNT, str(path), str(times)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("value", [None, 0, "text \ud800 \0", [1, {"a": 2.5}], {"b": None}])
async def test_value_is_what_was_put(path: Path, value: Any) -> None:
    await KeyValueStore(path).put("key", value)
    assert await KeyValueStore(path).get("key", "default") == value


async def test_missing_key_gives_the_default(path: Path) -> None:
    store = KeyValueStore(path)
    assert await store.get("key") is None
    assert await store.get("key", 5) == 5
    await store.delete("key")


async def test_items_begin_with_the_prefix(path: Path) -> None:
    store = KeyValueStore(path)
    for key in ("b%2", "a_1", "b%1", "bx", "a%"):
        await store.put(key, key.upper())
    await store.delete("a%")
    assert list((await store.items("b%")).items()) == [("b%1", "B%1"), ("b%2", "B%2")]
    assert list(await store.items()) == ["a_1", "b%1", "b%2", "bx"]


async def test_failed_update_writes_nothing(path: Path) -> None:
    store = KeyValueStore(path)
    await store.put("key", 1)
    for change in (lambda _: 1 / 0, lambda _: object()):
        with pytest.raises((ZeroDivisionError, TypeError)):
            await store.update("key", change)
    assert await store.update("key", lambda known: known + 1) == 2


async def test_file_is_for_this_user_only(path: Path) -> None:
    await KeyValueStore(path).put("key", 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_updates_of_several_processes_all_count(path: Path) -> None:
    children = [counting(path, 40) for _ in range(2)]
    store = KeyValueStore(path)
    await asyncio.gather(*(store.update("count", lambda known: (known or 0) + 1) for _ in range(40)))
    for child in children:
        await asyncio.to_thread(child.communicate)
    assert await store.get("count") == 120


async def test_killed_writer_loses_no_reported_write(path: Path) -> None:
    reported = 0
    for _ in range(3):
        child = counting(path, 1_000_000)
        assert child.stdout is not None
        for _ in range(20):
            assert await asyncio.to_thread(child.stdout.readline)
        child.send_signal(signal.SIGKILL)
        rest, _ = await asyncio.to_thread(child.communicate)
        reported += 20 + rest.count("x\n")
    # Of each one that was killed, one more may have been written than it came to report.
    assert reported <= await KeyValueStore(path).get("count") <= reported + 3


@pytest.mark.parametrize(("key", "value"), [("k" * 513, 1), ("key", "v" * 64 * 1024), ("key", float("nan"))])
async def test_what_is_too_large_is_refused(path: Path, key: str, value: Any) -> None:
    store = KeyValueStore(path)
    with pytest.raises(ValueError, match=r"at most|more than|Out of range"):
        await store.put(key, value)
    assert await store.items() == {}


async def test_full_store_refuses_and_gives_room_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringbinder.runtime.kvstore._STORE_BYTES", 2**20)
    store = KeyValueStore(path)

    async def fill(numbers: range) -> None:
        for number in numbers:
            await store.put(f"key {number}", "v" * 60_000)

    await fill(range(15))
    with pytest.raises(StoreError, match=r"store.sqlite cannot be used: it has 1 MiB, or the disk is full"):
        await fill(range(15, 20))
    assert path.stat().st_size <= 2**20
    assert len(await store.items()) >= 15
    await store.delete("key 0")
    await fill(range(1))


async def test_damaged_file_is_named_and_kept(path: Path) -> None:
    store = KeyValueStore(path)
    await store.put("key", 1)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match=r"store.sqlite cannot be used: file is not a database"):
        await store.get("key")
    assert path.read_bytes().startswith(b"no database")
