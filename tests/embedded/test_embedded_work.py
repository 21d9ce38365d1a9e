"""Files that were changed in a session are not lost."""

from __future__ import annotations

import asyncio
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from realparts.turned import TurnedClock
from ringbinder.errors import UserError
from ringbinder.model import Image, Server
from ringbinder_embedded.launcher import LocalLauncher

from .conftest import PLAN, Embedded, place_of, request

pytestmark = pytest.mark.real("git", "uv", "jupyterlab")

PATIENCE = 90.0
IDLE = 7200.0
FILES: dict[str, str | bytes] = {
    "data.txt": "data\n",
    "remove.txt": "gone\n",
    "bytes.bin": bytes(range(256)),
    "latin.txt": "caf\xe9\n".encode("latin-1"),
    "postBuild": "touch ~/notes.txt\n",
}


async def launched(apart: Embedded, launcher: LocalLauncher) -> tuple[Image, Server, Path]:
    image = await apart.build(apart.plan(FILES))
    server = await launcher.launch(image, request(), PLAN, apart.log)
    return image, server, Path(server.extra["work_folder"])


def change(work: Path) -> None:
    (work / "data.txt").write_text("data\nmore\n")
    (work / "remove.txt").unlink()
    (work / "bytes.bin").write_bytes(bytes(range(255, -1, -1)))
    (work / "latin.txt").write_bytes("caf\xe9s\n".encode("latin-1"))
    (work / "new folder").mkdir()
    (work / "new folder" / "\u00fcber.txt").write_text("new\n")
    (work / "link").symlink_to("data.txt")
    (work / ".ipynb_checkpoints").mkdir()
    (work / ".ipynb_checkpoints" / "noise").touch()
    (work.parent / "home" / "found.txt").write_text("home\n")


def content(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if (path.is_symlink() or path.is_file()) and ".ipynb_checkpoints" not in path.parts
    }


async def test_listed_taken_away_and_discarded(apart: Embedded, tmp_path: Path) -> None:
    launcher = apart.launcher()
    async with launcher.lifespan():
        image, server, work = await launched(apart, launcher)
        [running] = await launcher.work()
        assert (running.id, running.folder, running.ended) == (server.id, work, None)
        with pytest.raises(UserError, match="No file of the repository was changed"):
            await launcher.export_work(server.id, tmp_path / "none.patch")
        with pytest.raises(UserError, match="stop its notebook first"):
            await launcher.discard_work(server.id)
        change(work)
        assert await launcher.export_work(server.id, tmp_path / "running.patch")
        await launcher.stop(server)
        [kept] = await launcher.work()
        assert kept.reason == "stopped"
        assert kept.ended is not None
        assert "new folder/\u00fcber.txt" in kept.changed
        assert not await launcher.keep_work(server.id)

        for name in ("ended.patch", "all.zip", "all.tar.gz"):
            assert await launcher.export_work(server.id, tmp_path / name)
            assert (tmp_path / name).stat().st_mode & 0o077 == 0
        assert (tmp_path / "ended.patch").read_bytes() == (tmp_path / "running.patch").read_bytes()
        assert image.path is not None
        subprocess.run(["cp", "-a", str(place_of(image, "repo")), str(tmp_path / "fresh")], check=True)
        subprocess.run(["git", "apply", str(tmp_path / "ended.patch")], cwd=tmp_path / "fresh", check=True)
        assert content(tmp_path / "fresh") == content(work)

        expected = {f"{server.id}/work/{name}" for name in kept.changed if name not in ("remove.txt", "home/found.txt")}
        expected.add(f"{server.id}/home/found.txt")
        with tarfile.open(tmp_path / "all.tar.gz") as tar, zipfile.ZipFile(tmp_path / "all.zip") as archive:
            assert set(tar.getnames()) == set(archive.namelist()) == expected
            assert tar.getmember(f"{server.id}/work/link").linkname == "data.txt"
            assert archive.read(f"{server.id}/work/bytes.bin") == (work / "bytes.bin").read_bytes()

        for name, reported in (
            ("all.zip", "exists already"),
            ("x.rar", "ends in"),
            ("no/folder.zip", "cannot be written"),
        ):
            with pytest.raises(UserError, match=reported):
                await launcher.export_work(server.id, tmp_path / name)
        assert not list(tmp_path.glob(".*-*")), "nothing half written is left"

        assert await apart.registry.delete(image)
        with pytest.raises(UserError, match="take an archive"):
            await launcher.export_work(server.id, tmp_path / "late.patch")
        assert await launcher.export_work(server.id, tmp_path / "late.zip")
        with zipfile.ZipFile(tmp_path / "late.zip") as archive:
            assert f"{server.id}/work/bytes.bin" in archive.namelist()

        assert await launcher.discard_work(server.id)
        assert not work.exists()
        assert await launcher.work() == []
        for unknown in (server.id, "../images", "0" * 16, ""):
            assert not await launcher.discard_work(unknown)
            assert not await launcher.export_work(unknown, tmp_path / "unknown.zip")


async def test_an_idle_server_shows_when_it_stops_and_can_be_kept(embedded: Embedded, clock: TurnedClock) -> None:
    launcher = embedded.launcher(idle_timeout=IDLE)
    async with launcher.lifespan():
        _, server, _ = await launched(embedded, launcher)
        assert "stops_at" not in (await launcher.servers())[0].extra
        clock.turn(IDLE - 300)
        first = await stops_at(launcher)
        assert 0 < first - clock.time() <= 300
        assert await launcher.keep_work(server.id)
        assert "stops_at" not in (await launcher.servers())[0].extra
        clock.turn(IDLE - 300)
        second = await stops_at(launcher)
        assert second > first + IDLE - 600
        clock.turn(300)
        async with asyncio.timeout(PATIENCE):
            while await launcher.servers():
                await asyncio.sleep(0.02)
        assert clock.time() >= second


async def stops_at(launcher: LocalLauncher) -> float:
    """When the one server ends, as soon as that is known."""
    async with asyncio.timeout(PATIENCE):
        while True:
            [server] = await launcher.servers()
            if found := server.extra.get("stops_at"):
                return float(found)
            await asyncio.sleep(0.02)
