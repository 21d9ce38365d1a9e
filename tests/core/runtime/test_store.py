"""The store: bounded, shared, and never a reason for a launch to fail."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ringbinder.runtime.store import KeptLog, Outcome, Store
from structlog.testing import capture_logs


def kept(
    id: str, lines: bytes = b"{}\n", image: str = "img:1", outcome: Outcome = "success", seconds: float = 1.0
) -> KeptLog:
    return KeptLog(id, image, outcome, 1_700_000_000.5, seconds, lines)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ringbinder.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path)
    yield store
    store.close()


def test_first_use_makes_a_private_file_and_not_construction(path: Path) -> None:
    store = Store(path)
    assert not path.parent.exists()
    store.keep_log(kept("a"))
    assert store.log("a") == kept("a")
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.close()


def test_who_asked_for_a_build_is_kept_with_its_log(path: Path) -> None:
    store = Store(path)
    store.keep_log(evolve(kept("a"), users=frozenset({"user:ada", "service:ada", "user:Zo\u00eb"})))
    assert store.log("a") == evolve(kept("a"), users=frozenset({"user:ada", "service:ada", "user:Zo\u00eb"}))
    store.close()


def test_a_file_of_an_earlier_version_is_taken_on(path: Path) -> None:
    store = Store(path)
    store.keep_log(kept("a"))
    store.close()
    db = sqlite3.connect(path)
    db.executescript("ALTER TABLE logs DROP COLUMN users; PRAGMA user_version = 3;")
    db.close()
    store = Store(path)
    assert store.log("a") == kept("a")
    store.close()


def test_kept_logs_survive_a_restart(path: Path) -> None:
    for id in "ab":
        store = Store(path)
        store.keep_log(kept(id, lines=id.encode()))
        store.close()
        store.close()
    store = Store(path)
    assert [store.log(id) for id in "abc"] == [kept("a", b"a"), kept("b", b"b"), None]
    store.close()


def test_wal_and_schema_version(store: Store, path: Path) -> None:
    store.keep_log(kept("a"))
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("PRAGMA user_version").fetchone() == (4,)
    db.close()


@given(
    max_logs=st.integers(0, 5),
    max_bytes=st.integers(0, 60),
    writes=st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")))),
        max_size=20,
    ),
)
@settings(deadline=None, max_examples=150)
def test_bounds_hold_and_the_oldest_go_first(
    max_logs: int, max_bytes: int, writes: list[tuple[str, list[bytes]]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "s.sqlite", max_logs, max_bytes)
        model: dict[str, bytes] = {}
        for id, lines in writes:
            store.keep_log(kept(id, b"".join(line + b"\n" for line in lines)))
            while sum(len(line) + 1 for line in lines) > max_bytes:
                lines = lines[1:]
            model.pop(id, None)
            model[id] = b"".join(line + b"\n" for line in lines)
            while len(model) > max_logs or sum(map(len, model.values())) > max_bytes:
                del model[next(iter(model))]
            there = {id: log.lines for id in "abcdefgh" if (log := store.log(id))}
            assert there == model
        store.close()


def test_build_time_of_the_image_else_of_its_newest_other_tag(store: Store) -> None:
    assert store.last_build_seconds("host:5000/img:1") is None
    for number, (image, seconds) in enumerate(
        [("host:5000/img:1", 10.0), ("host:5000/img:2", 20.0), ("host:5000/other:1", 30.0), ("img:1", 40.0)]
    ):
        store.keep_log(kept(str(number), image=image, seconds=seconds))
    store.keep_log(kept("failed", image="host:5000/img:1", outcome="failure", seconds=1.0))
    store.keep_log(kept("cancelled", image="host:5000/img:9", outcome="cancelled", seconds=1.0))
    assert store.last_build_seconds("host:5000/img:1") == 10.0
    assert store.last_build_seconds("host:5000/img:2") == 20.0
    assert store.last_build_seconds("host:5000/img:9") == 20.0
    assert store.last_build_seconds("host:5000/img") == 20.0
    store.keep_log(kept("again", image="host:5000/img:1", seconds=11.0))
    assert store.last_build_seconds("host:5000/img:1") == 11.0
    assert store.last_build_seconds("host:5000/img:9") == 11.0


def test_build_times_outlive_their_logs(path: Path) -> None:
    store = Store(path, max_logs=1)
    store.keep_log(kept("a", image="a:1", seconds=5.0))
    store.keep_log(kept("b", image="b:1", seconds=6.0))
    assert store.log("a") is None
    assert store.last_build_seconds("a:1") == 5.0
    store.close()


def test_build_times_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringbinder.runtime.store._MAX_DURATIONS", 3)
    store = Store(path)
    for number in range(5):
        store.keep_log(kept(str(number), image=f"img-{number}:1", seconds=number))
    assert [store.last_build_seconds(f"img-{n}:1") for n in range(5)] == [None, None, 2.0, 3.0, 4.0]
    store.close()


def test_rubbish_is_moved_aside(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is not a database, " * 1000)
    store = Store(path)
    with capture_logs() as logs:
        store.keep_log(kept("a"))
    assert store.log("a") == kept("a")
    store.close()
    assert [entry["log_level"] for entry in logs] == ["error"]
    aside = [file for file in path.parent.iterdir() if ".damaged-" in file.name]
    assert [file.read_bytes()[:4] for file in aside] == [b"this"]
    assert str(aside[0]) == logs[0]["moved_to"]


@pytest.mark.slow
@given(
    damages=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=300)), max_size=4),
    keep=st.floats(0.0, 1.0),
)
@settings(deadline=None, max_examples=200)
def test_any_damage_is_survived(damages: list[tuple[float, bytes]], keep: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.sqlite"
        store = Store(path)
        for number in range(6):
            store.keep_log(kept(str(number), b"x" * 3000 * number, image=f"img-{number}:1"))
        store.close()
        content = bytearray(path.read_bytes())
        del content[round(len(content) * keep) :]
        for place, rubbish in damages:
            start = int(len(content) * place)
            content[start : start + len(rubbish)] = rubbish
        assume(content[60:64] in (b"", bytes([0, 0, 0, 0]), bytes([0, 0, 0, 1])))  # else it is a later version's
        path.write_bytes(content)
        store = Store(path)
        for number in range(6):
            store.log(str(number))
            store.last_build_seconds(f"img-{number}:1")
        store.keep_log(kept("new", b"new\n" * 5000, image="new:1"))
        assert store.log("new") == kept("new", b"new\n" * 5000, image="new:1")
        store.close()


def test_damage_while_open_is_survived(path: Path) -> None:
    store = Store(path)
    store.keep_log(kept("a", b"a" * 100_000))
    other = Store(path)
    assert other.log("a")
    store.close()
    other.close()
    other.log("a")
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
    store.keep_log(kept("b"))
    other.keep_log(kept("c"))
    assert [bool(s.log(id)) for s in (store, other) for id in "bc"] == [True, True, True, True]
    store.close()
    other.close()


def test_a_file_of_a_later_version_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE precious (x)")
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    store = Store(path)
    with capture_logs() as logs:
        store.keep_log(kept("a"))
        assert store.log("a") is None
        assert store.last_build_seconds("img:1") is None
    store.close()
    assert len(logs) == 3
    assert all("later version" in entry["error"] for entry in logs)
    assert path.read_bytes() == before


@pytest.mark.parametrize("id", ["", "x" * 100_000, "\udcff", "a\x00b", "' OR 1=1 --"])
def test_an_id_from_outside_is_just_not_found(store: Store, id: str) -> None:
    store.keep_log(kept("a"))
    assert store.log(id) is None


def test_a_folder_that_cannot_be_made_is_logged(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "s.sqlite")
    with capture_logs() as logs:
        store.keep_log(kept("a"))
        assert store.log("a") is None
    assert [entry["log_level"] for entry in logs] == ["warning", "warning"]


def _fill_a_small_disk(path: Path, answers: multiprocessing.Queue[object]) -> None:
    store = Store(path)
    store.keep_log(kept("small"))
    # The process may write no file beyond this size, as on a disk that is full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
    with capture_logs() as logs:
        store.keep_log(kept("large", b"x" * 5_000_000))
    answers.put([entry["event"] for entry in logs])
    answers.put((store.log("small"), store.log("large")))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.keep_log(kept("later"))
    answers.put(store.log("later"))
    store.close()


def test_a_full_disk_loses_the_log_and_nothing_else(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    process = spawn.Process(target=_fill_a_small_disk, args=(path, answers))
    process.start()
    try:
        assert answers.get(timeout=60) == ["the log of a build is not kept"]
        assert answers.get(timeout=60) == (kept("small"), None)
        assert answers.get(timeout=60) == kept("later")
    finally:
        process.join(60)
        process.kill()
    assert process.exitcode == 0


def _write_many(path: Path, name: str, count: int, start: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    store = Store(path)
    with capture_logs() as logs:
        for number in range(count):
            store.keep_log(kept(f"{name}-{number}", image=f"{name}:{number}"))
    store.close()
    assert logs == []


@pytest.mark.slow
def test_processes_share_one_file(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Event()
    processes = [spawn.Process(target=_write_many, args=(path, name, 25, start)) for name in "abcdef"]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * 6
    store = Store(path)
    assert all(store.log(f"{name}-{number}") for name in "abcdef" for number in range(25))
    store.close()


def test_threads_share_one_store(store: Store) -> None:
    def write(name: str) -> None:
        for number in range(50):
            store.keep_log(kept(f"{name}-{number}"))
            assert store.log(f"{name}-{number}") is not None

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write, name) for name in "abcd"]:
            done.result(60)


def test_fault_that_a_new_file_cannot_cure_moves_one_file(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringbinder.runtime.store._DROP_OLD_LOGS", "DELETE FROM nothing WHERE ? OR ?")
    for id in "abc":
        store.keep_log(kept(id))
    assert len([file for file in path.parent.iterdir() if ".damaged-" in file.name]) == 1


def test_the_last_launches_of_each_launcher_are_remembered(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = Store(path)
    assert store.launches("hub") == []
    store.keep_launches("hub", [1.0, 2.0])
    store.keep_launches("other", [9.0])
    store.keep_launches("hub", [float(second) for second in range(3, 60)])
    store.close()
    again = Store(path)
    assert again.launches("hub") == [float(second) for second in range(10, 60)]
    assert again.launches("other") == [9.0]
    again.close()
