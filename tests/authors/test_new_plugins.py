"""Each project that `plugins new` writes: installed in a fresh environment, tested, type-checked, launched with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import uv
import yaml
from click.testing import CliRunner
from ringbinder.testing.gitserver import Repository
from ringbinder_server.cli import main
from ringbinder_server.scaffold import KINDS, Project

from .conftest import Environment, Wheels, run

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-plugin.md"
NAME = "tea-house"
HEAVY = {"click", "hypercorn", "jinja2", "jupyter-repo2docker", "py-rattler", "quart", "ringbinder", "uv"}
LAUNCHER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers()
    def log_message(self, *arguments): ...
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Web(SimpleHTTPRequestHandler):
    """Has one git repository, as plain files, and takes every event."""

    posted: list[Any]

    def do_POST(self) -> None:
        self.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None: ...


@contextmanager
def web(folder: Path) -> Iterator[tuple[str, list[Any]]]:
    """Address and what was posted."""
    repository = Repository.make(folder / "work")
    repository.commit({"README.md": "hello"})
    repository.git("clone", "-q", "--bare", ".", str(folder / "served/emma.git"))
    Repository(folder / "served/emma.git").git("update-server-info")
    posted: list[Any] = []
    handler = partial(type("Mine", (Web,), {"posted": posted}), directory=str(folder / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", posted
        server.shutdown()
        thread.join()


def options(kind: str, address: str) -> tuple[str, list[str]]:
    """A link to launch with the plugin, and its configuration."""
    kinds = ("builder", "registry", "launcher")
    sets = [f"Ringbinder.{one}={NAME if one == kind else 'fake'}" for one in kinds]
    sets.append("Ringbinder.extra_plugins=[fake]")
    if kind == "provider":
        return f"{NAME}/emma/HEAD", [*sets, f"TeaHouseProvider.base_url={address}"]
    if kind == "builder":
        sets.append(f"TeaHouseBuilder.command={json.dumps([sys.executable, '-c', 'print(42)'])}")
    if kind == "launcher":
        sets.append(f"TeaHouseLauncher.command={json.dumps([sys.executable, '-c', LAUNCHER, '{port}'])}")
    if kind == "sink":
        sets += [f"Ringbinder.sinks=[{NAME}]", f"TeaHouseSink.url={address}/events"]
    if kind == "policy":
        sets.append('TeaHousePolicy.repositories=["https://fake.invalid/*"]')
    if kind == "auth":
        sets.append("TeaHouseAuth.proof=a-proof-for-tests")
    return "fake/a/b/main", sets


@pytest.mark.real("uv", "jupyterlab", "git")
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_works_as_it_is(kind: str, author: Environment, wheels: Wheels, tmp_path: Path) -> None:
    project = tmp_path / Project(kind, NAME).distribution
    done = CliRunner().invoke(main, ["plugins", "new", kind, NAME, "--into", str(project)])
    assert done.exit_code == 0, done.output
    author.install("--editable", project)
    reported = author("pytest", "-q", "--basetemp", tmp_path / "pytest", cwd=project)
    assert "passed" in reported
    assert "failed" not in reported
    assert not set(author.distributions()) & HEAVY, "core alone is enough for a plugin"
    author.install(wheels.core, wheels.whole)
    with web(tmp_path) as (address, posted):
        link, sets = options(kind, address)
        events = author.launch(link, *[part for text in sets for part in ("--set", text)])
        assert events[-1]["phase"] == "ready", events[-1]
        assert bool(posted) == (kind == "sink")


@pytest.mark.real("uv", "jupyterlab")
def test_what_is_new_is_typed(fresh: Environment, tmp_path: Path) -> None:
    projects = [Project(kind, NAME) for kind in KINDS]
    for project in projects:
        project.write(tmp_path / project.distribution)
    fresh.install("mypy", "ruff", *(tmp_path / project.distribution for project in projects))
    for project in projects:
        folder = tmp_path / project.distribution
        fresh("mypy", "--cache-dir", tmp_path / "mypy", cwd=folder)
        fresh("ruff", "check", ".", cwd=folder)
        fresh("ruff", "format", "--check", ".", cwd=folder)
        # Installed once, for all: it brings a Node.js of its own.
        pyright = [sys.executable, "-m", "basedpyright", "--pythonpath", str(fresh.bin / "python")]
        done = subprocess.run(pyright, cwd=folder, capture_output=True, text=True, check=False)
        assert "0 errors, 0 warnings" in done.stdout, done.stdout
        # It takes the environment of the path, and not that of the option.
        package = project.distribution.replace("-", "_")
        public = [sys.executable, "-m", "basedpyright", "--verifytypes", package, "--ignoreexternal"]
        path = os.pathsep.join([str(fresh.bin), os.environ["PATH"]])
        there = {**os.environ, "PATH": path, "VIRTUAL_ENV": str(fresh.bin.parent)}
        done = subprocess.run(public, cwd=tmp_path, env=there, capture_output=True, text=True, check=False)
        assert "Type completeness score: 100%" in done.stdout, done.stdout


@pytest.mark.slow
@pytest.mark.real("uv")
def test_new_project_passes_its_own_ci(wheels: Wheels, tmp_path: Path) -> None:
    """The commands of the workflow, in environments of their own, with this Ringbinder as the one on PyPI."""
    project = tmp_path / "project"
    Project("sink", NAME).write(project)
    jobs = yaml.safe_load((project / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert [entry["ringbinder"] for entry in jobs["test"]["strategy"]["matrix"]["include"]] == [
        "oldest", "newest", "pre-release",
    ]  # fmt: skip
    for job, entry in [*(("test", one) for one in jobs["test"]["strategy"]["matrix"]["include"]), ("installed", {})]:
        environment = tmp_path / f"{job}-{entry.get('ringbinder', '')}"
        run([uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, environment], tmp_path)
        search = f"{environment / 'bin'}{os.pathsep}{Path(uv.find_uv_bin()).parent}{os.pathsep}{os.environ['PATH']}"
        variables = {
            "VIRTUAL_ENV": str(environment), "UV_FIND_LINKS": str(wheels.core.parent), "PATH": search,
            "OPTIONS": entry.get("options", ""),
        }  # fmt: skip
        for command in [step["run"] for step in jobs[job]["steps"] if "run" in step]:
            if command != "python -m pip install uv":
                run(["bash", "-ec", command], project, variables)


@pytest.mark.parametrize("name", ["", "Tea", "tea_house", "-tea", "tea-", "../tea", "tea house", "täe"])
def test_a_name_that_cannot_be_is_refused(name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["plugins", "new", "sink", "--into", str(tmp_path / "x"), "--", name])
    assert done.exit_code == 2
    assert "is no name of a plugin" in done.output
    assert not (tmp_path / "x").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["plugins", "new", "sink", "tea", "--into", str(tmp_path)])
    assert done.exit_code == 1
    assert "is there already" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "name"), [("provider", "gh"), ("auth", "quota"), ("policy", "ratelimit")])
def test_name_that_is_taken_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["plugins", "new", kind, name, "--into", str(tmp_path / "x")])
    assert done.exit_code == 2
    assert re.search(rf"ringbinder \S+ has a (provider|policy) '{name}' already", " ".join(done.output.split()))
    assert not (tmp_path / "x").exists()


def test_name_of_another_kind_is_free(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["plugins", "new", "sink", "gh", "--into", str(tmp_path / "x")])
    assert done.exit_code == 0, done.output


def test_older_project_takes_over_what_is_new(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    for folder in ("old", "new", "mine"):
        Project("sink", NAME).write(tmp_path / folder)
    ci = ".github/workflows/ci.yml"
    own = (mine / "README.md").read_text() + "\nOur own words.\n"
    (mine / "README.md").write_text(own)
    newer = (tmp_path / "new" / ci).read_text().replace("3.13", "3.14")
    (tmp_path / "new" / ci).write_text(newer)
    (tmp_path / "new" / "SECURITY.md").write_text("new\n")
    (commands,) = re.findall(r"^    git diff --no-index .*\n    git apply .*$", HOW_TO.read_text(), re.MULTILINE)
    subprocess.run(["sh", "-c", commands], cwd=mine, check=True)
    assert (mine / ci).read_text() == newer
    assert (mine / "SECURITY.md").read_text() == "new\n"
    assert (mine / "README.md").read_text() == own
