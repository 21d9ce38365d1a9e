from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder import folder_image
from ringbinder.errors import UserError
from ringbinder.folder_image import FolderImage
from ringbinder.model import Image, Plan
from ringbinder.runtime.untrusted import UntrustedTree
from ringbinder.testing import RecordingLog, folder_plan, make_context
from ringbinder_embedded.registry import LocalRegistry, LocalRegistryOptions
from ringbinder_embedded.store import Store, remove_tree

LOCKER = """
import asyncio, sys
from pathlib import Path
from ringbinder.folder_image import FolderImage
async def main():
    async with FolderImage(Path(sys.argv[1])).locked():
        print("locked", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def whole(entry: FolderImage, name: str = "image") -> FolderImage:
    """An entry that has what `read` looks for."""
    entry.python.parent.mkdir(parents=True)
    entry.python.symlink_to(sys.executable)
    entry.note_interpreter()
    entry.finish({"name": name})
    return entry


def test_an_entry_exists_once_it_is_published(tmp_path: Path) -> None:
    entry = Store(tmp_path).entry("image")
    assert (entry.read(), entry.finished()) == (None, None)
    whole(entry)
    assert (entry.read(), entry.finished()) == (None, {"name": "image"})
    entry.publish()
    assert (entry.read(), entry.finished()) == ({"name": "image"}, None)
    entry.publish()
    assert Store(tmp_path).whole() == [(entry, {"name": "image"})]


def test_an_entry_that_lost_its_interpreter_is_not_there(tmp_path: Path) -> None:
    entry = whole(Store(tmp_path).entry("image"))
    entry.publish()
    uninstalled = tmp_path / "uninstalled" / "python"
    entry.python.unlink()
    entry.python.symlink_to(uninstalled)
    entry.note_interpreter()
    assert entry.read() is None
    uninstalled.parent.mkdir()
    uninstalled.touch()
    assert entry.read() == {"name": "image"}
    entry.python.unlink()
    assert entry.read() is None


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_damaged_marker_is_no_marker(tmp_path: Path, damage: bytes) -> None:
    entry = whole(Store(tmp_path).entry("image"))
    entry.publish()
    (entry.folder / "image.json").write_bytes(damage)
    assert entry.read() is None


def test_unsynced_files_are_not_trusted_after_a_machine_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_image, "_boot_id", lambda: "first")
    store = Store(tmp_path)
    settled, lost, drafted = (store.entry(name) for name in ("settled", "lost", "drafted"))
    for entry in (settled, lost):
        whole(entry).publish()
    whole(drafted)
    settled.settle()
    settled.settle()
    assert [entry.read() for entry in (settled, lost)] == [{"name": "image"}] * 2
    monkeypatch.setattr(folder_image, "_boot_id", lambda: "second")
    lost.settle()
    assert store.whole() == [(settled, {"name": "image"})]
    assert (lost.read(), drafted.finished()) == (None, None)


async def test_next_start_syncs_what_a_killed_process_did_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = whole(store.entry("published"))
    entry.publish()
    await store.sweep()
    assert (entry.folder / "image.json").read_bytes().endswith(b"}\n")


def test_without_a_boot_id_all_is_synced_before_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_image, "_boot_id", lambda: "")
    synced: list[Path] = []
    monkeypatch.setattr(folder_image, "_sync_file_system", synced.append)
    entry = whole(Store(tmp_path).entry("image"))
    entry.publish()
    assert (synced, entry.read()) == ([entry.folder], {"name": "image"})


def test_clearing_removes_even_read_only_folders(tmp_path: Path) -> None:
    entry = whole(Store(tmp_path).entry("image"))
    (entry.folder / "closed" / "deep").mkdir(parents=True)
    (entry.folder / "closed" / "deep" / "file").touch()
    for folder in ("closed/deep", "closed"):
        (entry.folder / folder).chmod(0o500)
    assert entry.clear()
    assert not entry.clear()
    assert list(tmp_path.iterdir()) == []


async def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / ".trash-0" / "x").mkdir(parents=True)
    store.entry("half").repo.place.mkdir(parents=True)
    (tmp_path / "removed-0123.lock").touch()
    kept = [whole(store.entry("published")), whole(store.entry("about to be published"))]
    kept[0].publish()
    kept[0].python.unlink()  # its interpreter may come back
    old = whole(store.entry("never published"))
    os.utime(old.folder / "image.json.new", (0, 0))
    async with store.entry("being made").locked():
        store.entry("being made").repo.place.mkdir(parents=True)
        await store.sweep()
        left = {path.name for path in tmp_path.iterdir()}
    making = store.entry("being made").folder.name
    folders = {making, f"{making}.lock", *(entry.folder.name for entry in kept)}
    assert left == folders | {f"{entry.folder.name}.lock" for entry in kept}
    remove_tree(tmp_path / "absent")


@given(st.lists(st.text(min_size=1, max_size=80), min_size=2, max_size=5, unique=True))
def test_names_are_folders_of_their_own(names: list[str]) -> None:
    store = Store(Path("/store"))
    folders = [store.entry(name).folder for name in names]
    assert len(set(folders)) == len(names)
    for folder in folders:
        assert folder.parent == store.root
        assert not folder.name.startswith(".")
        assert len(folder.name.encode()) < 100


def test_the_size_counts_a_file_with_two_names_once(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.write(b"x" * 1_000_000)
        os.fsync(file.fileno())
    before = UntrustedTree(tmp_path).size()
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").symlink_to(tmp_path)
    assert before >= 1_000_000
    assert before <= UntrustedTree(tmp_path).size() < before + 100_000


async def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    entry = FolderImage(tmp_path / "image")
    waited = asyncio.Event()
    with subprocess.Popen([sys.executable, "-c", LOCKER, str(entry.folder)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == b"locked\n"
        with pytest.raises(BlockingIOError):
            async with entry.locked():
                pass

        async def wait_for_it() -> None:
            async with entry.locked(on_wait=waited.set):
                pass

        waiting = asyncio.create_task(wait_for_it())
        await waited.wait()
        assert not waiting.done()
        holder.kill()
        await asyncio.wait_for(waiting, 30)


async def test_users_share_a_lock_and_keep_out_who_would_remove(tmp_path: Path) -> None:
    entry = FolderImage(tmp_path / "image")
    async with entry.locked(shared=True), entry.locked(shared=True):
        with pytest.raises(BlockingIOError):
            async with entry.locked():
                pass


class TestRegistry:
    def plan(self, tmp_path: Path) -> Plan:
        return folder_plan(tmp_path / "repo", {"a": "1"})

    async def test_from_nothing_to_published_to_deleted(self, tmp_path: Path) -> None:
        context = make_context(tmp_path, "local")
        registry = LocalRegistry(LocalRegistryOptions(), context)
        plan = self.plan(tmp_path)
        log = RecordingLog()
        assert await registry.check(plan, fresh=True) is None
        target = await registry.target(plan)
        assert (target.kind, target.reference) == ("folder", plan.image)
        assert target.folder is not None
        before = time.time()
        entry = whole(FolderImage(target.folder), plan.image)
        entry.finish({"name": plan.image, "size": 5, "built_at": before})
        assert await registry.check(plan, fresh=True) is None
        pushed = await registry.push(Image(plan.image, "folder"), target, log)
        assert pushed == Image(plan.image, "folder", path=target.folder, size=5, built_at=before)
        assert await registry.check(plan, fresh=False) == pushed
        assert await registry.images() == [pushed]
        assert await registry.delete(Image(plan.image, "folder"))
        assert not await registry.delete(Image(plan.image, "folder"))
        assert await registry.check(plan, fresh=False) is None
        await context.services.close()

    async def test_another_images_folder_is_not_taken_for_it(self, tmp_path: Path) -> None:
        context = make_context(tmp_path, "local")
        registry = LocalRegistry(LocalRegistryOptions(), context)
        plan = self.plan(tmp_path)
        target = await registry.target(plan)
        assert target.folder is not None
        whole(FolderImage(target.folder), "another").publish()
        assert await registry.check(plan, fresh=True) is None
        await context.services.close()

    async def test_an_image_in_use_is_not_deleted(self, tmp_path: Path) -> None:
        context = make_context(tmp_path, "local")
        registry = LocalRegistry(LocalRegistryOptions(), context)
        plan = self.plan(tmp_path)
        target = await registry.target(plan)
        assert target.folder is not None
        entry = whole(FolderImage(target.folder), plan.image)
        entry.publish()
        async with entry.locked(shared=True):
            with pytest.raises(UserError, match="in use"):
                await registry.delete(Image(plan.image, "folder"))
        assert await registry.check(plan, fresh=True) is not None
        await context.services.close()
