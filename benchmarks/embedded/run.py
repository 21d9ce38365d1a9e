"""Launches in the embedded mode beside their floors, as ratios of wall time within one run.

    python benchmarks/embedded/run.py [--rounds 5] [--json FILE]

warm   `ringbinder launch` of an image that exists, beside `jupyter lab` by hand
text   `ringbinder launch` of a commit that changes only a text, beside a warm one by Ringbinder: what a new image takes
       whose environment another one has made
own    a warm launch, beside `jupyter lab` by hand from the environment that Ringbinder made for it, which leaves out a
       package that is slow to import: what Ringbinder itself takes
cold   the image absent and uv's cache empty (JupyterLab's own environment present), beside the same two `uv`
       commands and `jupyter lab` by hand, with an empty cache too
first  the very first launch on a machine: JupyterLab's environment is made as well; reported without a floor

Every time runs from the start of the first process until the server answers `GET api/status` with its token.
Rounds alternate; the figure of a row is the median of its rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uv

REPO = Path(__file__).parent / "repo"
UV = uv.find_uv_bin()
LONGEST = 600.0
"""Seconds that one launch may take."""


class Bench:
    """Folders of one run of this program; nothing of the person's own caches is touched."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.cache = folder / "cache"
        self.hand = folder / "hand"
        self.env = {
            **os.environ,
            "RINGBINDER_STATE": str(self.state),
            "RINGBINDER_CACHE": str(self.cache),
        }
        # pip compiles what it installs, uv and an editable install when it is first imported.
        self.env.pop("PYTHONDONTWRITEBYTECODE", None)

    def change_text(self, number: int) -> Path:
        """A folder with the repository, whose text no launch before had."""
        repo = self.state.parent / "changed"
        shutil.copytree(REPO, repo, dirs_exist_ok=True)
        (repo / "README.md").write_text(f"Round {number}\n")
        return repo

    def ringbinder(self, repo: Path = REPO) -> float:
        """Seconds until `ready`; the launch is ended after it."""
        command = [
            str(Path(sys.executable).with_name("ringbinder")),
            "launch",
            str(repo),
            "--json",
            "--no-browser",
        ]
        started = time.perf_counter()
        process = subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                if event["phase"] == "failed":
                    raise SystemExit(f"the launch failed: {event['message']}")
                if event["phase"] == "ready":
                    wait_for(event["url"], event["token"])
                    return time.perf_counter() - started
            raise SystemExit("the launch ended without `ready`")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)

    def forget_image(self) -> None:
        for folder in ("images", "environments"):
            shutil.rmtree(self.state / folder, ignore_errors=True)
        shutil.rmtree(self.cache, ignore_errors=True)

    def prepare_hand(self) -> None:
        """A JupyterLab of its own for the floor, used once so that its bytecode is there."""
        lab = self.hand / "lab"
        self._uv("venv", str(lab))
        self._uv("pip", "install", "--python", str(lab), "--compile-bytecode", "jupyterlab>=4.4,<5")
        self.install_by_hand()
        self.lab_by_hand()

    def install_by_hand(self) -> float:
        """Seconds of the same two uv commands that the builder runs, with an empty cache."""
        env = self.hand / "env"
        shutil.rmtree(env, ignore_errors=True)
        shutil.rmtree(self.hand / "cache", ignore_errors=True)
        started = time.perf_counter()
        self._uv("venv", str(env))
        self._uv("pip", "install", "--python", str(env), "-r", str(REPO / "requirements.txt"), "ipykernel", "pip")
        return time.perf_counter() - started

    def own_lab(self) -> Path:
        """The environment of Ringbinder's JupyterLab, once it has launched something."""
        (env,) = (self.state / "server").glob("*/box/env")
        return env

    def lab_by_hand(self, env_folder: Path | None = None) -> float:
        """Seconds until a JupyterLab that was started by hand answers; None: the one installed by hand."""
        token = secrets.token_hex(16)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [
            str((env_folder or self.hand / "lab") / "bin" / "jupyter"),
            "lab",
            "--no-browser",
            f"--port={port}",
            "--allow-root",
        ]
        env = {**self.env, "JUPYTER_TOKEN": token}
        started = time.perf_counter()
        process = subprocess.Popen(command, env=env, cwd=REPO, stderr=subprocess.DEVNULL)
        try:
            wait_for(f"http://localhost:{port}/", token)
            return time.perf_counter() - started
        finally:
            process.terminate()
            process.wait(60)

    def _uv(self, *arguments: str) -> None:
        env = {**self.env, "UV_CACHE_DIR": str(self.hand / "cache")}
        subprocess.run([UV, *arguments], env=env, check=True, capture_output=True)


def wait_for(url: str, token: str) -> None:
    """Returns when the server at `url` answers with its token."""
    request = urllib.request.Request(f"{url}api/status", headers={"Authorization": f"token {token}"})
    deadline = time.monotonic() + LONGEST
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10):
                return
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise SystemExit(f"{url} did not answer within {LONGEST:.0f} s") from None
            time.sleep(0.02)


@contextmanager
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="ringbinder-bench-") as folder:
        yield Bench(Path(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures of every round here")
    arguments = parser.parse_args()
    figures: dict[str, list[tuple[float, float]]] = {"warm": [], "own": [], "text": [], "cold": []}
    with bench() as parts:
        parts.prepare_hand()
        first = parts.ringbinder()
        for _ in range(arguments.rounds):
            ours = parts.ringbinder()
            figures["warm"].append((ours, parts.lab_by_hand()))
            figures["own"].append((ours, parts.lab_by_hand(parts.own_lab())))
        for number in range(arguments.rounds):
            changed = parts.change_text(number)
            figures["text"].append((parts.ringbinder(changed), parts.ringbinder(changed)))
        for _ in range(arguments.rounds):
            parts.forget_image()
            ours = parts.ringbinder()
            figures["cold"].append((ours, parts.install_by_hand() + parts.lab_by_hand()))
    print(f"first launch of all: {first:.1f} s")
    for name, rounds in figures.items():
        ours, floor = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(a / b for a, b in rounds)
        beside = "warm" if name == "text" else "by hand"
        print(f"{name}: {ours:.2f} s, {beside} {floor:.2f} s; median of {len(rounds)} ratios {ratio:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"first": first, **figures}, indent=2))


if __name__ == "__main__":
    main()
