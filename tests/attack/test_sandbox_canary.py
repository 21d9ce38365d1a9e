"""What a notebook or a build leaves in any place that it can write is never followed, opened, listed or shown.

Every such path is replaced in turn by links to a canary, a pipe, a socket and a device: by a program in the sandbox of
the notebook or the build, but for the device, which cannot be made there. Then all that Ringbinder does afterwards is
done; the kernel says (inotify) whether anybody has opened the canary meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import socket
import tarfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest
from realparts.embedded import PLAN, Embedded, entry_of, request
from ringbinder import process
from ringbinder.errors import RingbinderError, UserError
from ringbinder.folder_image import FolderImage
from ringbinder.model import Image, Server
from ringbinder.testing.kernel import open_kernel
from ringbinder_embedded.installed import has_package
from ringbinder_embedded.launcher import LocalLauncher
from ringbinder_embedded.registry import LocalRegistry
from ringbinder_embedded.sandbox import interpreters
from ringbinder_embedded.sessions import Session
from ringbinder_recipe import scripts

pytestmark = [pytest.mark.real("uv", "jupyterlab", "bwrap"), pytest.mark.timeout(1200)]

_IN_OPEN, _IN_MODIFY, _IN_ATTRIB, _IN_CREATE, _IN_DELETE = 0x20, 0x2, 0x4, 0x100, 0x200
_EVENTS: Final = _IN_OPEN | _IN_MODIFY | _IN_ATTRIB | _IN_CREATE | _IN_DELETE
_PATIENCE: Final = 60.0
SECRET: Final = "canary-4711"
MINE: Final = "c" * 16
FILES: Final[dict[str, str | bytes]] = {
    "requirements.txt": "six==1.16.0\n",
    "data.txt": "data\n",
    "folder/deep.txt": "deep\n",
    "start": '#!/bin/sh\nexec "$@"\n',
    "postBuild": "python -m ipykernel install --user --name other\ntouch ~/notes.txt\n",
}
KINDS: Final = ["file", "folder", "pipe", "socket", *(["device"] if os.geteuid() == 0 else [])]
SESSION_PATHS: Final = [
    "work", "work/data.txt", "work/folder", "work/folder/deep.txt", "work/start", "work/new", "work/.git",
    "home", "home/notes.txt", "home/.local", "home/.local/share/jupyter/kernels/other", "runtime", "runtime/s",
    "runtime/jpserver-1.json", "overlay", "overlay/bin", "overlay/bin/python", "overlay/pyvenv.cfg", "overlay/lib",
    "new", "session.json", "session.new", "kept-awake", "jupyter",
]  # fmt: skip
IMAGE_PATHS: Final = [
    "repo", "repo/data.txt", "repo/folder", "repo/start", "home", "home/notes.txt", "home/.local",
    "home/.local/share/jupyter/kernels/other", "home/.local/share/jupyter/kernels/other/kernel.json",
    "home/.local/share/jupyter/kernels/other/new", "env", "env/bin", "env/bin/python", "env/bin/python3",
    "env/bin/pip", "env/pyvenv.cfg", "env/lib", "env/conda-meta", "env/share", "env/share/jupyter/kernels/python3",
    "tmp", "new", "image.json", "image.json.new", "interpreter.json",
]  # fmt: skip


class Canary:
    """A file in a folder, outside of what is strangers'; `events` are what the kernel has seen of the two."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "secrets"
        self.folder.mkdir()
        self.file = self.folder / "id_rsa"
        self.file.write_text(SECRET)
        (self.folder / "bin").mkdir()
        (self.folder / "bin" / "python").write_text(SECRET)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(self.folder / "socket"))
        self.socket.listen()
        self.socket.setblocking(False)
        libc = ctypes.CDLL(None)
        self._inotify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for path in (self.folder, *self.folder.iterdir(), self.folder / "bin" / "python"):
            assert libc.inotify_add_watch(self._inotify, os.fsencode(path), _EVENTS) >= 0
        self._facts = self._seen()

    def script(self, place: Path, kind: str) -> str:
        """Shell commands that put a link or a special file into the place of whatever is at `place`."""
        targets = {"file": self.file, "folder": self.folder, "socket": self.folder / "socket"}
        made = {"pipe": "mkfifo", "device": "mknod -m 666"}.get(kind, f"ln -s {targets.get(kind)}")
        after = " c 1 5" if kind == "device" else ""  # as /dev/zero: reading it never ends
        return f"rm -rf {place} && mkdir -p {place.parent} && {made} {place}{after}"

    async def plant(self, sandbox: list[str], place: Path, kind: str) -> None:
        """Runs that script behind `sandbox`."""
        command = ["sh", "-c", self.script(place, kind)]
        done = await process.run([*sandbox, *command], timeout=_PATIENCE)
        if kind == "device":
            assert "Operation not permitted" in done.errors
            done = await process.run(command, timeout=_PATIENCE)
        assert (done.returncode, done.errors) == (0, "")
        assert place.is_symlink() or not place.is_file()

    def assert_untouched(self, outputs: list[Path], path: str = "") -> None:
        with contextlib.suppress(BlockingIOError):
            events = os.read(self._inotify, 4096)
            raise AssertionError(f"the canary was opened or changed: {path} {events!r}")
        with contextlib.suppress(BlockingIOError):
            self.socket.accept()
            raise AssertionError("somebody connected to the canary's socket")
        assert self._seen() == self._facts
        for output in outputs:
            assert SECRET.encode() not in output.read_bytes(), output

    def _seen(self) -> list[object]:
        paths = (self.folder, self.file, self.folder / "socket")
        return [
            (facts.st_mode, facts.st_mtime_ns, facts.st_nlink, facts.st_size)
            for facts in (path.lstat() for path in paths)
        ]

    def close(self) -> None:
        self.socket.close()
        os.close(self._inotify)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    canary = Canary(tmp_path)
    yield canary
    canary.close()


@pytest.fixture
async def image(embedded: Embedded) -> Image:
    return await embedded.build(embedded.plan(FILES), sandbox="required")


@pytest.fixture
async def launcher(embedded: Embedded) -> AsyncIterator[LocalLauncher]:
    launcher = embedded.launcher(sandbox="required")
    async with launcher.lifespan():
        await launcher.work()  # which waits until what an earlier run has left is ended
        yield launcher


async def begun(image: FolderImage, session: Session) -> None:
    """What is done for a session before its notebook runs, but for the shared JupyterLab."""
    await session.copy(image)
    await asyncio.to_thread(session.overlay.make, image, session.work, session.home)
    session.tell_stop(None)
    session.write(image="image", repo_url="https://example.org/", started=1.0)
    scripts.command(session.work, "start")


async def all_done(
    launcher: LocalLauncher, image: FolderImage, session: Session, into: Path, *, ended: bool
) -> list[Path]:
    """All that is done with a session once its notebook has run. Returns what was written for its person."""
    with contextlib.suppress(RingbinderError):
        session.box.size()
    session.tell_stop(1.0)
    assert await launcher.keep_work(session.id) != ended
    outputs: list[Path] = []
    for name in ("work.zip", "work.tar.gz", "work.patch"):
        with contextlib.suppress(UserError):
            assert await launcher.export_work(session.id, into / name)
            outputs.append(into / name)
    [listed] = [work for work in await launcher.work() if work.id == session.id]
    assert listed.folder == session.work.place
    if not ended:
        await asyncio.to_thread(session.end, image, "idle")
        if session.folder.exists():
            outputs += await all_done(launcher, image, session, into / "ended", ended=True)
            assert await launcher.discard_work(session.id)
    return outputs


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_notebook_plants_is_left_alone(
    embedded: Embedded, image: Image, launcher: LocalLauncher, canary: Canary, tmp_path: Path, kind: str
) -> None:
    entry = entry_of(image)
    session = Session(MINE, embedded.state / "sessions" / MINE)
    for path in SESSION_PATHS:
        await begun(entry, session)
        (session.work.place / "mine.txt").write_text("mine")
        sandbox = await launcher._confined(session, (entry,), None, [], {}, embedded.log)
        await canary.plant(sandbox, session.box.place / path, kind)
        into = tmp_path / path.replace("/", "-")
        (into / "ended").mkdir(parents=True)
        async with asyncio.timeout(_PATIENCE):
            outputs = await all_done(launcher, entry, session, into, ended=False)
        canary.assert_untouched(outputs, path)
        assert not session.folder.exists(), path
        if path != "work":
            for name in {"work.zip", "work.tar.gz"} & {output.name for output in outputs}:
                assert f"{MINE}/work/mine.txt" in members(into / name), path


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "device"])
async def test_what_a_kernel_plants_is_left_alone(
    embedded: Embedded, image: Image, launcher: LocalLauncher, canary: Canary, tmp_path: Path, kind: str
) -> None:
    server = await launcher.launch(image, request(), PLAN, embedded.log)
    box = Path(server.extra["work_folder"]).parent
    kernel = await open_kernel(server)
    # Those that can be there at once, the longer ones first, and that leave the kernel alive.
    paths = [path for path in reversed(SESSION_PATHS) if path not in ("work", "home", "overlay", "runtime")]
    script = " && ".join(canary.script(box / path, kind) for path in paths if path != "work/folder")
    code = f"import subprocess; print(subprocess.run({script!r}, shell=True, capture_output=True, text=True))"
    assert "returncode=0" in await kernel.run(code)
    await kernel.close()
    (tmp_path / "ended").mkdir()
    outputs: list[Path] = []
    async with asyncio.timeout(_PATIENCE):
        for folder in (tmp_path, tmp_path / "ended"):
            assert await launcher.keep_work(server.id) == (folder == tmp_path)
            for name in ("work.zip", "work.tar.gz", "work.patch"):
                with contextlib.suppress(UserError):
                    assert await launcher.export_work(server.id, folder / name)
                    outputs.append(folder / name)
            [work] = [work for work in await launcher.work() if work.id == server.id]
            assert (work.ended is None) == (folder == tmp_path)
            await launcher.stop(server)
        assert len(outputs) >= 4
        assert await launcher.discard_work(server.id)
    canary.assert_untouched(outputs)


def members(file: Path) -> list[str]:
    if file.suffix == ".zip":
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    with tarfile.open(file) as tar:
        return tar.getnames()


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_build_plants_is_left_alone(
    embedded: Embedded, image: Image, launcher: LocalLauncher, canary: Canary, tmp_path: Path, kind: str
) -> None:
    registry: LocalRegistry = embedded.registry
    builder = embedded.builder(sandbox="required")
    for path in IMAGE_PATHS:
        entry = FolderImage(tmp_path / "images" / path.replace("/", "-"))
        copied(entry_of(image), entry)
        sandbox = await builder._sandbox_for(entry, embedded.log)
        assert sandbox is not None
        await canary.plant(sandbox(entry.repo.place, {}, ()), entry.box.place / path, kind)
        session = Session(MINE, embedded.state / "sessions" / MINE)
        async with asyncio.timeout(_PATIENCE):
            entry.scratch.remove_tree()
            with contextlib.suppress(RingbinderError):
                entry.box.size()
            entry.read()
            entry.finished()
            has_package(entry.env, "jupyter_server")
            shown = [*interpreters(entry)]
            assert shown == [*interpreters(entry_of(image))], path
            with contextlib.suppress(RingbinderError, FileNotFoundError):
                await begun(entry, session)
            if session.folder.exists():
                await asyncio.to_thread(session.end, entry, "idle")
                for file in session.folder.rglob("*"):
                    if file.is_file() and not file.is_symlink():
                        assert SECRET not in file.read_text(errors="replace"), file
                session.remove()
            await registry.images()
            assert entry.clear()
        canary.assert_untouched([], path)


def copied(image: FolderImage, into: FolderImage) -> None:
    """Copies an image, but for the content of its packages."""

    def left_out(folder: str, names: list[str]) -> list[str]:
        return names if Path(folder).name == "site-packages" else []

    shutil.copytree(image.folder, into.folder, symlinks=True, ignore=left_out)


PLANTED: Final = {
    "env/bin/python": 'ln -sfn {file} "$VIRTUAL_ENV/bin/python"',
    "kernelspec": "mkdir -p ~/.local/share/jupyter/kernels && ln -s {folder} ~/.local/share/jupyter/kernels/evil",
    "link in kernelspec": "python -m ipykernel install --user --name other && "
    "ln -s {folder} ~/.local/share/jupyter/kernels/other/evil",
    "start": 'ln -sfn {file} "$REPO_DIR/start"',
    "home": "cd .. && mv home gone && ln -s {folder} home",
    "pyvenv.cfg": 'rm "$VIRTUAL_ENV/pyvenv.cfg" && mkfifo "$VIRTUAL_ENV/pyvenv.cfg"',
    "tmp": "cd .. && rm -rf tmp && ln -s {folder} tmp",
}
LOOK: Final = """
import os, subprocess
for place in ({file!r}, {folder!r}):
    print(os.path.exists(place))
print(subprocess.run(["grep", "-rs", {secret!r}, os.environ["HOME"], os.environ["JUPYTER_PATH"].split(":")[0]],
                     capture_output=True).stdout)
"""


@pytest.mark.parametrize("name", PLANTED)
async def test_notebook_of_a_planted_image_sees_no_canary(
    apart: Embedded, canary: Canary, tmp_path: Path, name: str
) -> None:
    script = PLANTED[name].format(file=canary.file, folder=canary.folder)
    plan = apart.plan({**FILES, "postBuild": f"#!/bin/sh\n{script}\n"})
    launcher = apart.launcher(sandbox="required", start_timeout=60.0)
    async with launcher.lifespan():
        try:
            server = await launcher.launch(await apart.build(plan, sandbox="required"), request(), PLAN, apart.log)
        except UserError:
            canary.assert_untouched([])
            return
        assert [line for line in commands() if str(canary.folder) in line] == []
        if name not in ("env/bin/python", "pyvenv.cfg"):  # else no kernel starts, for want of its Python
            assert await looked(server, canary) == "False\nFalse\nb''\n"
        await launcher.stop(server)
    canary.assert_untouched([])


def commands() -> list[str]:
    """Command lines of what runs: what the sandbox shows stands in them."""
    lines = [" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)]
    assert any("--ro-bind-try" in line for line in lines)
    return lines


async def looked(server: Server, canary: Canary) -> str:
    kernel = await open_kernel(server)
    try:
        code = LOOK.format(file=str(canary.file), folder=str(canary.folder), secret=SECRET[:-1] + "[1]")
        return await kernel.run(code)
    finally:
        await kernel.close()
