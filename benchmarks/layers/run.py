"""Images from layers beside repo2docker's and beside commands by hand: wall time, bytes sent, bytes kept.

    python -m benchmarks.layers.run [--rounds 3] [--zipf 20] [--json FILE]

Each time is that of whole commands, until the image is in the registry: `ringbinder build FOLDER --to REGISTRY/NAME`
with a state and a cache of its own (a machine that knows nothing), beside `jupyter-repo2docker` and `docker push`. Both
have one registry, one engine and one package index, and the rounds alternate. repo2docker's download of conda is the
tests' stand-in, which makes a virtual environment with pip: its times are not those of the real one.

first      nothing known: an empty registry, and an empty cache of the engine's builds
known      another repository with the same requirements, from a machine that knows nothing
text       another text in the repository, from a machine that knows nothing
similar    a repository that adds seaborn: bytes sent, as a part of `first`
by hand    `first` for a pyproject.toml, beside `uv venv`, `uv pip install`, `tar`, gzip and an upload
zipf       repositories with packages drawn by Zipf's law: bytes in the registry and on a node, and the last one's pull

`known` and `text` are beside repo2docker's `first`: on a machine without its cache it builds all of it again. What it
takes with its cache is shown too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import uv
from attrs import define, field, frozen

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "real"))

from realparts import baseimage, layersbase  # noqa: E402 - found by the line above
from realparts.parts import RealEngine, RealRegistry, engine, registry  # noqa: E402

PACKAGES: Final = ("numpy", "pandas", "matplotlib")
PINNED: Final = ("numpy==2.2.6", "pandas==2.2.3", "matplotlib==3.10.3")
POPULAR: Final = Path(__file__).with_name("popular.txt").read_text().split()
"""Names of packages that notebooks use most, in about that order."""
ZIPF_SEED: Final = 20


@frozen
class Side:
    """What one command has cost."""

    seconds: float
    sent: int
    """Bytes by which the registry's storage has grown."""


@define
class Bench:
    """Folders, engine and registry of one run; nothing of the person's own is touched."""

    folder: Path
    engine: RealEngine
    docker_config: Path
    base_files: Path
    """Of builder `layers`' base image, for `layersbase.push`."""
    base_archive: Path
    """Of repo2docker's, for `baseimage.load`."""
    _count: int = field(default=0, init=False)

    def new_folder(self, name: str) -> Path:
        """An empty folder."""
        self._count += 1
        made = self.folder / f"{self._count}-{name}"
        made.mkdir()
        return made

    def repository(self, files: dict[str, str]) -> Path:
        """A repository of git with these files."""
        folder = self.new_folder("repository")
        for name, text in files.items():
            (folder / name).write_text(text)
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder)]
        for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=1"]):
            subprocess.run([*git, *words], check=True)
        return folder

    @contextmanager
    def registry(self) -> Iterator[RealRegistry]:
        """An empty registry."""
        with registry(self.new_folder("registry") / "r") as running:
            yield running

    def layers(self, repository: Path, on: RealRegistry, base: str) -> Side:
        """Builder `layers`, as a machine that has never built anything runs it."""
        home = self.new_folder("home")
        env = {**os.environ, "RINGBINDER_STATE": str(home / "state"), "RINGBINDER_CACHE": str(home / "cache")}
        command = [
            str(Path(sys.executable).with_name("ringbinder")), "build", str(repository),
            "--to", f"{on.host}/layers/{repository.name}", "--set", f"LayersBuilder.base_image={base}",
        ]  # fmt: skip
        # All images of the benchmark share one repository of layers, as those of one Ringbinder do.
        command += ["--set", f"LayersBuilder.image_prefix={on.host}/layers/"]
        side = self._timed(command, env, on)
        shutil.rmtree(home)
        return side

    def repo2docker(self, repository: Path, on: RealRegistry) -> Side:
        """repo2docker, then a push."""
        name = f"{on.host}/r2d/{repository.name}:1"
        program = Path(sys.executable).with_name("jupyter-repo2docker")
        config = baseimage.STAND_INS / "repo2docker_config.py"
        build = [str(program), "--config", str(config), "--no-run", "--image-name", name]
        build += ["--user-id", "1000", "--user-name", "jovyan", str(repository)]
        script = 'set -e; image=$1; shift; "$@"; docker push --quiet "$image"'
        return self._timed(["sh", "-c", script, "sh", name, *build], self._docker_env, on)

    def by_hand(self, lines: Sequence[str], on: RealRegistry) -> Side:
        """An environment by uv, packed and uploaded as one blob."""
        home = self.new_folder("hand")
        env = {**os.environ, "UV_CACHE_DIR": str(home / "cache"), "HOST": on.url, "UV": uv.find_uv_bin()}
        script = """
            set -e; cd "$1"; shift
            "$UV" venv --quiet --python "$PYTHON" env
            "$UV" pip install --quiet --python env/bin/python "$@"
            tar -c env | gzip -6 > layer.tar.gz
            digest=$(sha256sum layer.tar.gz | cut -d' ' -f1)
            where=$(curl -sS -X POST -D - "$HOST/v2/hand/blobs/uploads/" | tr -d '\\r' | sed -n 's/^[Ll]ocation: //p')
            curl -sS -f -X PUT --data-binary @layer.tar.gz -H 'Content-Type: application/octet-stream' \
              "$where&digest=sha256:$digest"
        """
        env["PYTHON"] = layersbase.PYTHON if Path(layersbase.PYTHON).exists() else sys.executable
        side = self._timed(["sh", "-c", script, "sh", str(home), *lines], env, on)
        shutil.rmtree(home)
        return side

    def forget_builds(self) -> None:
        """Empties the engine of repo2docker's images and of what it knows of builds."""
        self.engine.ask("/images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%7D", "POST")
        self.engine.ask("/build/prune?all=1", "POST")
        baseimage.load(self.engine, self.base_archive)

    def pull(self, name: str, env: dict[str, str]) -> float:
        """Seconds for a pull by the node with this environment."""
        began = time.perf_counter()
        subprocess.run(["docker", "pull", "--quiet", name], env=env, check=True, capture_output=True)
        return time.perf_counter() - began

    @property
    def _docker_env(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": self.engine.address, "DOCKER_CONFIG": str(self.docker_config)}

    def docker(self, *words: str) -> str:
        """Output of a command of docker's."""
        done = subprocess.run(["docker", *words], env=self._docker_env, check=True, capture_output=True, text=True)
        return done.stdout

    def _timed(self, command: Sequence[str], env: dict[str, str], on: RealRegistry) -> Side:
        before, began = stored(on), time.perf_counter()
        done = subprocess.run(command, env=env, cwd=self.folder, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return Side(seconds, stored(on) - before)


def stored(on: RealRegistry) -> int:
    """Bytes of all blobs in the registry."""
    return sum(path.stat().st_size for path in on.data.rglob("*") if path.is_file() and path.name == "data")


def first_and_after(bench: Bench, packages: Sequence[str]) -> dict[str, Any]:
    """One round with a requirements.txt: `first`, `known`, `text` and `similar` of both."""
    requirements = "".join(f"{name}\n" for name in packages)
    files = {"requirements.txt": requirements, "README.md": "one\n"}
    repositories = {
        "first": files,
        "known": {**files, "README.md": "another repository\n"},
        "text": {**files, "README.md": "two\n"},
        "similar": {**files, "requirements.txt": f"{requirements}seaborn\n"},
    }
    made: dict[str, dict[str, Side]] = {"layers": {}, "repo2docker": {}}
    with bench.registry() as on:
        base = layersbase.push(bench.base_files, on.host)
        for name, content in repositories.items():
            made["layers"][name] = bench.layers(bench.repository(content), on, base)
    bench.forget_builds()
    with bench.registry() as on:
        for name, content in repositories.items():
            made["repo2docker"][name] = bench.repo2docker(bench.repository(content), on)
    return {
        "times": {side: {name: cost.seconds for name, cost in costs.items()} for side, costs in made.items()},
        "sent": {side: {name: cost.sent for name, cost in costs.items()} for side, costs in made.items()},
        "first / repo2docker": made["layers"]["first"].seconds / made["repo2docker"]["first"].seconds,
        "known / repo2docker": made["layers"]["known"].seconds / made["repo2docker"]["first"].seconds,
        "text / repo2docker": made["layers"]["text"].seconds / made["repo2docker"]["first"].seconds,
        "similar sent / first sent": made["layers"]["similar"].sent / made["layers"]["first"].sent,
    }


def beside_hand(bench: Bench) -> dict[str, Any]:
    """One round with a pyproject.toml, beside the same packages by hand."""
    project = f'[project]\nname = "a"\nversion = "1"\ndependencies = {json.dumps(list(PACKAGES))}\n'
    repository = bench.repository({"pyproject.toml": project})
    with bench.registry() as on:
        base = layersbase.push(bench.base_files, on.host)
        ours = bench.layers(repository, on, base)
        extra = ("ipykernel", "pip", "ipywidgets>=8,<9", "nbconvert", "nbformat")
        hand = bench.by_hand([*PACKAGES, *extra], on)
    return {"layers": ours.seconds, "by hand": hand.seconds, "layers / by hand": ours.seconds / hand.seconds}


def zipf(bench: Bench, count: int) -> dict[str, Any]:
    """Bytes of `count` repositories in a registry and on a node, and the pull of the last one."""
    chance = random.Random(ZIPF_SEED)
    weights = [1 / rank for rank in range(1, len(POPULAR) + 1)]
    found: dict[str, Any] = {}
    drawn = [sorted(set(chance.choices(POPULAR, weights, k=6))) for _ in range(count)]
    repositories = [bench.repository({"requirements.txt": "".join(f"{n}\n" for n in names)}) for names in drawn]
    bench.forget_builds()
    for side in ("layers", "repo2docker"):
        with bench.registry() as on, engine(bench.new_folder("node") / "n") as node:
            base = layersbase.push(bench.base_files, on.host)
            before = stored(on)
            names = []
            for repository in repositories:
                if side == "layers":
                    bench.layers(repository, on, base)
                    names.append(f"{on.host}/layers/{repository.name}:latest")
                else:
                    bench.repo2docker(repository, on)
                    names.append(f"{on.host}/r2d/{repository.name}:1")
            env = {**os.environ, "DOCKER_HOST": node.address}
            seconds = [bench.pull(name, env) for name in names]
            used = subprocess.run(["du", "-sxb", str(node.folder)], capture_output=True, text=True, check=True).stdout
            found[side] = {
                "in the registry": stored(on) - (before if side == "repo2docker" else 0),
                "on the node": int(used.split()[0]),
                "last pull": seconds[-1],
            }
    for figure in found["layers"]:
        found[f"{figure}, layers / repo2docker"] = found["layers"][figure] / found["repo2docker"][figure]
    return found


def medians(rounds: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Of each ratio: its median, and the smallest and largest round."""
    names = [name for name, value in rounds[0].items() if isinstance(value, float)]
    lines = {}
    for name in names:
        values = [each[name] for each in rounds]
        lines[name] = f"{statistics.median(values):.3f} [{min(values):.3f}, {max(values):.3f}]"
    return lines


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--zipf", type=int, default=20, help="repositories; 0: left out")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cache = ROOT / ".pytest_cache" / "d" / "real-parts"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, engine(Path(scratch) / "engine") as running:
        folder = Path(scratch) / "bench"
        docker_config = folder / "docker"
        (docker_config / "plugins").mkdir(parents=True)
        (docker_config / "plugins" / "docker-buildx").symlink_to(baseimage.STAND_INS / "docker-buildx")
        (docker_config / "config.json").write_text(
            json.dumps({"cliPluginsExtraDirs": [str(docker_config / "plugins")]})
        )

        def docker(*words: str, timeout: float = 900) -> str:
            return bench.docker(*words)

        bench = Bench(folder, running, docker_config, Path(), baseimage.archive(cache))
        bench.base_files = layersbase.made(cache, running, docker)
        results: dict[str, Any] = {"requirements": [], "pinned": [], "by hand": []}
        for _ in range(options.rounds):
            results["requirements"].append(first_and_after(bench, PACKAGES))
            results["pinned"].append(first_and_after(bench, PINNED))
            results["by hand"].append(beside_hand(bench))
        for name, rounds in results.items():
            print(name)
            for figure, line in medians(rounds).items():
                print(f"  {figure:32} {line}")
            print(f"  last round: {json.dumps(rounds[-1].get('times', rounds[-1]))}")
            print(f"  sent: {json.dumps(rounds[-1].get('sent', {}))}")
        if options.zipf:
            results["zipf"] = zipf(bench, options.zipf)
            print(json.dumps(results["zipf"], indent=2))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
