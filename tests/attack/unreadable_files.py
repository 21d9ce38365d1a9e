"""Program that does one thing of `test_unreadable_files.py`: ``unreadable_files.py NAME FOLDER``."""

from __future__ import annotations

import asyncio
import os
import sys
import zipfile
from pathlib import Path

from ringbinder.folder_image import FolderImage
from ringbinder_embedded.sessions import Session
from ringbinder_embedded.store import Store
from ringbinder_embedded.work import all_work, export

ID = "a" * 16


def lock(folder: Path) -> None:
    """Leaves in `folder` a file and a folder that their owner may not even read."""
    (folder / "inner").mkdir(parents=True)
    for file in (folder / "file", folder / "inner" / "file"):
        file.write_text("content")
        file.chmod(0o000)
    (folder / "link").symlink_to("file")
    (folder / "inner").chmod(0o000)
    try:
        (folder / "file").read_text()
    except PermissionError:
        return
    raise AssertionError("permissions mean nothing to this process")


async def begun(state: Path, image: FolderImage) -> Session:
    """A session as it is when its notebook starts."""
    session = Session(ID, state / "sessions" / ID)
    await session.copy(image)
    session.write(image="image:1", repo_url="https://example.org/", started=1.0)
    return session


async def image(state: Path) -> None:
    """A notebook is launched from an image in which a build has left such files."""
    entry = Store(state / "images").entry("image:1")
    lock(entry.repo.place)
    lock(entry.home.place / "folder")
    (entry.home.place / "folder").chmod(0o000)
    session = await begun(state, entry)
    for folder in (session.work.place, session.home.place / "folder"):
        assert (folder / "file").read_text() == (folder / "inner" / "file").read_text() == "content"
        assert (folder / "link").readlink() == Path("file")
    assert session.end(entry, "idle") == []
    assert not session.folder.exists()


async def session(state: Path) -> None:
    """A notebook has left such files: they are kept and saved, and removed in the end."""
    entry = Store(state / "images").entry("image:1")
    for tree in (entry.repo, entry.home, entry.env.subtree("bin")):
        tree.place.mkdir(parents=True)
    entry.python.touch()
    entry.finish({})
    entry.publish()
    session = await begun(state, entry)
    lock(session.work.place / "mine")
    names = {"mine/file", "mine/inner/file", "mine/link"}
    await saved(state, session, state / "running.zip", names)
    lock(session.work.place / "more")
    names |= {name.replace("mine", "more") for name in names}
    assert set(session.end(entry, "idle")) == names
    [work] = all_work(state)
    assert set(work.changed) == names
    await saved(state, session, state / "ended.zip", names)
    await export(state, session, state / "ended.patch")
    assert (state / "ended.patch").read_text().count("+content") == 4
    session.remove()
    assert not session.folder.exists()


async def saved(state: Path, session: Session, file: Path, names: set[str]) -> None:
    await export(state, session, file)
    with zipfile.ZipFile(file) as archive:
        assert set(archive.namelist()) == {f"{ID}/work/{name}" for name in names}


if __name__ == "__main__":
    os.umask(0o077)
    asyncio.run({"image": image, "session": session}[sys.argv[1]](Path(sys.argv[2])))
