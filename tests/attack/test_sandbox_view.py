"""What code in the sandbox can change of the kernel, and read of what Ringbinder was configured with."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from ringbinder import process
from ringbinder.config.loading import load
from ringbinder.runtime.paths import Paths
from ringbinder_embedded import sandbox
from ringbinder_embedded.sandbox import Sandbox

pytestmark = pytest.mark.real("bwrap")

_SECRET = "access-token-4711"
# Nothing is written: opening them for it is what the kernel judges.
_WRITABLE = """
import os
for top in ("/proc", "/sys"):
    for folder, folders, files in os.walk(top):
        if folder == "/proc":
            folders[:] = [name for name in folders if not name.isdigit() and not name.endswith("self")]
            folders[:] = [name for name in folders if name != "pressure"]  # who writes there asks to be notified
        for path in (os.path.join(folder, name) for name in files):
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW))
                print(path)
            except OSError:
                pass
"""

_CONNECT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as client:
    try:
        client.connect(sys.argv[1].replace("@", chr(0)))
        print("connected")
    except OSError as error:
        print(error.strerror)
"""


async def inside(view: Sandbox, tmp_path: Path, *argv: str) -> str:
    assert not await view.lack()
    box = tmp_path / "box"
    box.mkdir(exist_ok=True)
    done = await process.run([*view.wrapper(box, [], box, {}), *argv], timeout=120)
    return done.output + done.errors


async def test_settings_of_the_kernel_cannot_be_written(tmp_path: Path) -> None:
    view = Sandbox("required", Paths(tmp_path / "state", tmp_path / "cache"), "Test.sandbox")
    assert await inside(view, tmp_path, "/usr/bin/env", "python3", "-c", _WRITABLE) == ""


@pytest.mark.parametrize("kind", ["file", "link"])
async def test_configuration_file_is_not_shown(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_HIDDEN", ())  # where temporary files are hidden anyway
    file = tmp_path / "ringbinder.yaml"
    file.write_text(f"Ringbinder: {{access_token: {_SECRET}}}\n")
    given = file
    if kind == "link":
        given = tmp_path / "link.yaml"
        given.symlink_to(file)
    paths = Paths(tmp_path / "state", tmp_path / "cache")
    seen = await inside(Sandbox("required", paths, "Test.sandbox"), tmp_path, "cat", str(given))
    assert _SECRET in seen  # else this shows nothing
    files = load([given], environ={}).files
    assert files == (given,)
    view = Sandbox("required", Paths(paths.state, paths.cache, files), "Test.sandbox")
    assert _SECRET not in await inside(view, tmp_path, "cat", str(given), str(file))


async def test_rest_of_the_machine_is_read_and_connected_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_HIDDEN", ())
    paths = Paths(tmp_path / "state", tmp_path / "cache")
    (tmp_path / "readable.txt").write_text("of this machine")
    abstract = f"@ringbinder-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as with_path, socket.socket(socket.AF_UNIX) as without:
        with_path.bind(str(tmp_path / "socket"))
        without.bind(abstract.replace("@", "\0"))
        with_path.listen()
        without.listen()
        for network, seen in ((True, "connected\n"), (False, "Connection refused\n")):
            view = Sandbox("required", paths, "Test.sandbox", network)
            connect = ("/usr/bin/env", "python3", "-c", _CONNECT)
            assert await inside(view, tmp_path, "cat", str(tmp_path / "readable.txt")) == "of this machine"
            assert await inside(view, tmp_path, *connect, str(tmp_path / "socket")) == "connected\n"
            assert await inside(view, tmp_path, *connect, abstract) == seen
