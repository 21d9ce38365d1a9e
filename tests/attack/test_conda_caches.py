"""Builds share conda packages: what one repository brings is never installed for another."""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import ringbinder_embedded
from attrs import define, field
from realparts.conda_channel import CondaChannel
from ringbinder_recipe.conda import Solution, SolverJob

INSTALLER = Path(ringbinder_embedded.__path__[0], "_conda.py")
PACKAGE = "noarch/alpha-1.0-0.tar.bz2"


@define
class Channels:
    """Channels on a server of this machine."""

    folder: Path
    address: str
    requests: list[str] = field(factory=list)

    async def make(self, name: str, content: str) -> str:
        """Return the address of a new channel, whose package `alpha` has `content`."""
        channel = CondaChannel(self.folder / name)
        channel.add_files("alpha", "1.0", {"alpha": content})
        await channel.index()
        return f"{self.address}/{name}"

    def digest(self, name: str) -> str:
        return hashlib.sha256((self.folder / name / PACKAGE).read_bytes()).hexdigest()


@pytest.fixture
def channels(tmp_path: Path) -> Iterator[Channels]:
    class Handler(SimpleHTTPRequestHandler):
        def send_head(self) -> Any:
            del self.headers["If-Modified-Since"]  # py-rattler 0.28 takes the answer 304 for an error
            return super().send_head()

        def log_message(self, *_: object) -> None:
            made.requests.append(self.path)

    folder = tmp_path / "channels"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        made = Channels(folder, f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@define
class Installer:
    """Runs the programs that find and install conda packages, over one shared cache."""

    folder: Path
    number: int = 0

    def run(self, wanted: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        """Return how the first program ended that failed, else how the last one did."""
        self.number += 1
        place = self.folder / str(self.number)
        place.mkdir()
        facts = {"alias": "https://conda.example/", "root": place, "option": "LocalBuilder.conda_channels"}
        job = SolverJob(output=place / "solution.json", cache=self.folder / "cache", **facts, **wanted)  # type: ignore[arg-type]
        (place / "job.json").write_text(job.to_json())
        done = self._run(job.command(place / "job.json"))
        if done.returncode:
            return done
        solution = Solution.from_json((place / "solution.json").read_bytes())
        settings = {
            "records": [package.record for package in solution.packages],
            "prefix": str(place / "env"),
            "cache": str(self.folder / "cache"),
            "own": str(place / "own"),
            "folders": [str(folder) for folder in job.folders],
        }
        (place / "job.json").write_text(json.dumps(settings))
        return self._run([sys.executable, "-I", str(INSTALLER), str(place / "job.json")])

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        env = {"HOME": str(self.folder), "PATH": "/usr/bin:/bin"}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=env)

    def alpha(self, job: Mapping[str, Any]) -> str:
        """Return what the package alpha of an environment made by `job` holds."""
        done = self.run(job)
        assert done.returncode == 0, done.stdout + done.stderr
        return (self.folder / str(self.number) / "env" / "alpha").read_text()

    def lock(self, address: str, digest: str = "", kind: str = "sha256") -> dict[str, Any]:
        """Return the job of a pixi.lock with one package."""
        from rattler import Subdir

        text = (
            f"version: 6\nenvironments:\n  default:\n    channels:\n    - url: https://conda.example/x/\n"
            f"    packages:\n      {Subdir.current()}:\n      - conda: {address}\n"
            f"packages:\n- conda: {address}\n  subdir: noarch\n"
        )
        file = self.folder / f"pixi-{self.number}.lock"
        file.write_text(text + (f"  {kind}: {digest}\n" if digest else ""))
        return {"lock": str(file)}

    @property
    def shared(self) -> list[Path]:
        return list((self.folder / "cache").glob("pkgs/*/alpha*"))


@pytest.fixture
def installer(tmp_path: Path) -> Installer:
    folder = tmp_path / "installer"
    folder.mkdir()
    return Installer(folder)


def wish(*addresses: str) -> dict[str, Any]:
    return {"channels": addresses, "specs": ["alpha"]}


@pytest.mark.parametrize("kind", ["none", "md5"])
async def test_package_without_sha256_is_not_shared(channels: Channels, installer: Installer, kind: str) -> None:
    good, evil = await channels.make("good", "good"), await channels.make("evil", "evil")
    md5 = hashlib.md5((channels.folder / "evil" / PACKAGE).read_bytes(), usedforsecurity=False).hexdigest()

    lock = installer.lock(f"{evil}/{PACKAGE}", md5 if kind == "md5" else "", "md5")
    assert installer.alpha(lock) == "evil"
    assert installer.shared == []

    assert installer.alpha(wish(good)) == "good"
    assert installer.alpha(installer.lock(f"{good}/{PACKAGE}")) == "good"
    assert len(installer.shared) > 0


async def test_package_of_the_same_name_in_another_channel_is_another(channels: Channels, installer: Installer) -> None:
    good, evil = await channels.make("good", "good"), await channels.make("evil", "evil")
    for _ in range(2):
        assert installer.alpha(wish(evil)) == "evil"
        assert installer.alpha(wish(good)) == "good"
    assert installer.alpha(installer.lock(f"{evil}/{PACKAGE}", channels.digest("evil"))) == "evil"
    assert installer.alpha(installer.lock(f"{good}/{PACKAGE}", channels.digest("good"))) == "good"
    assert len({path.parent for path in installer.shared}) == 2


async def test_package_that_is_shared_is_fetched_once(channels: Channels, installer: Installer) -> None:
    good = await channels.make("good", "good")
    for _ in range(2):
        assert installer.alpha(wish(good)) == "good"
        assert installer.alpha(installer.lock(f"{good}/{PACKAGE}", channels.digest("good"))) == "good"
    assert channels.requests.count(f"/good/{PACKAGE}") == 1


async def test_package_with_a_wrong_hash_is_refused(channels: Channels, installer: Installer) -> None:
    good = await channels.make("good", "good")
    assert installer.alpha(wish(good)) == "good"
    for digest in ("0" * 64, hashlib.sha256(b"other").hexdigest()):
        done = installer.run(installer.lock(f"{good}/{PACKAGE}", digest))
        assert done.returncode == 1
        assert "hash mismatch" in done.stdout
    assert installer.alpha(wish(good)) == "good"


async def test_channel_that_is_a_folder_of_this_machine_is_refused(channels: Channels, installer: Installer) -> None:
    await channels.make("good", "good")
    folder = channels.folder / "good"
    locks = [installer.lock(f"file://{folder}/{PACKAGE}"), installer.lock(f"{folder}/{PACKAGE}")]
    for job in (wish(folder.as_uri()), wish(str(folder)), wish("../../channels/good"), *locks):
        done = installer.run(job)
        assert done.returncode == 1
        assert "outside of the repository" in done.stdout
    assert installer.alpha(wish(folder.as_uri()) | {"folders": [str(folder)]}) == "good"
    assert installer.shared == []


async def test_link_in_a_repositorys_channel_is_not_followed(
    channels: Channels, installer: Installer, tmp_path: Path
) -> None:
    await channels.make("good", "good")
    canary = tmp_path / "canary"
    canary.write_text('{"info": "canary-7f3a"}')
    folder = channels.folder / "good"
    for path in ("noarch/repodata.json", PACKAGE):
        before = (folder / path).read_bytes()
        (folder / path).unlink()
        (folder / path).symlink_to(canary)
        done = installer.run(wish(str(folder)) | {"folders": [str(folder)]})
        assert done.returncode == 1
        assert "outside of the repository" in done.stdout
        assert "canary-7f3a" not in done.stdout
        (folder / path).unlink()
        (folder / path).write_bytes(before)


def test_bomb_in_a_lock_is_refused(installer: Installer) -> None:
    bomb = ["version: 6", "a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    bomb += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    file = installer.folder / "pixi.lock"
    file.write_text("\n".join(bomb))
    done = installer.run({"lock": str(file)})
    assert done.returncode == 1
    assert len(done.stdout) < 1100
