"""The hub's side over the real spawner classes: what a cluster, an engine and this machine are asked to start."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from ringbinder.testing.kubeapi import KubeApi
from ringbinder.testing.kubescript import Exit, Hold, Line, Object, Stuck, Wait

from .conftest import VERSIONS
from .real_hub import SPAWNER, Installed

TOKEN: Final = "token-of-a-launch-4721"
OPTIONS: Final = {
    "image": "registry.example/binder-course:1",
    "token": TOKEN,
    "repo_url": "https://host.example/some/course",
    "binder_ref_url": "https://host.example/some/course/tree/1",
    "binder_launch_host": "https://binder.example/",
    "binder_request": "v2/gh/some/course/HEAD",
    "binder_persistent_request": "v2/gh/some/course/1",
    "binder_client_ip": "192.0.2.7",
}
VARIABLES: Final = {
    "JUPYTER_TOKEN": TOKEN,
    "BINDER_REPO_URL": "https://host.example/some/course",
    "BINDER_REF_URL": "https://host.example/some/course/tree/1",
    "BINDER_LAUNCH_HOST": "https://binder.example/",
    "BINDER_REQUEST": "v2/gh/some/course/HEAD",
    "BINDER_PERSISTENT_REQUEST": "v2/gh/some/course/1",
    "BINDER_CLIENT_IP": "192.0.2.7",
}
PATH: Final = "/user/some-course-k2v5r7x3m4q6/"
LOGIN: Final = {"auth_enabled": True}
PAGES: Final = {"token_in_arguments": True, "cors_allow_origin": "*", "default_url": "/lab"}
KUBE: Final = {"KubeSpawner": {"image": "registry.example/everybody:1"}}
NOBODY_LISTENS: Final = {"KubeSpawner": {"port": 9}}
ENDS, HUNGRY, MISNAMED, EVICTED = (
    {**OPTIONS, "image": f"registry.example/{kind}:1"} for kind in ("ends", "hungry", "misnamed", "evicted")
)
DOCKER: Final = {
    "DockerSpawner": {
        "image": "registry.example/everybody:1",
        "allowed_images": "*",
        "remove": True,
        "mem_limit": "1G",
        "extra_host_config": {"pids_limit": 99},
    }
}


def case(kind: str, options: Mapping[str, str], *configs: Mapping[str, Any], **mixin: Any) -> dict[str, Any]:
    config: dict[str, dict[str, Any]] = {"BinderSpawner": mixin}
    for more in configs:
        config |= more
    return {"class": kind, "options": options, "config": config}


def cases(installed: Installed, folder: Path) -> dict[str, dict[str, Any]]:
    light = {
        "Spawner": {"cmd": [str(installed.bin / "python"), str(folder / "light_server.py")]},
        "SimpleLocalProcessSpawner": {"home_dir_template": str(folder / "homes" / "{username}")},
    }
    few = {"DockerSpawner": {"allowed_images": ["registry.example/ours:1"]}}
    return {
        "pod": case("kube", OPTIONS, KUBE),
        "pod that ends": case("kube", ENDS, NOBODY_LISTENS),
        "pod that is hungry": case("kube", HUNGRY, NOBODY_LISTENS),
        "pod with a wrong name": case("kube", MISNAMED, NOBODY_LISTENS),
        "pod that is evicted": case("kube", EVICTED, NOBODY_LISTENS),
        "pod for pages": case("kube", OPTIONS, KUBE, **PAGES),
        "pod of who is logged in": case("kube", OPTIONS, KUBE, **LOGIN),
        "pod of who pressed Start": case("kube", {}, KUBE, **LOGIN),
        "pod that nobody asked for": case("kube", {}, KUBE),
        "pod without a token": case("kube", {"image": OPTIONS["image"]}, KUBE),
        "container": case("docker", OPTIONS, DOCKER),
        "container for pages": case("docker", OPTIONS, DOCKER, **PAGES),
        "container of who pressed Start": case("docker", {}, DOCKER, **LOGIN),
        "container that nobody asked for": case("docker", {}, DOCKER),
        "container of a stranger's image": case("docker", OPTIONS, few),
        "process": case("simple", OPTIONS, light),
        "process of a user of this machine": case("local", OPTIONS, light),
        "process that nobody asked for": case("simple", {}, light),
    }


def life(pod: Object) -> list[Any]:
    """Longer than it takes until the spawner is asked whether a pod runs that does not listen."""
    words = [Line(f"line {number}") for number in range(500)]
    ends: dict[str, list[Any]] = {
        ENDS["image"]: [*words, Line(f"No module named \x1b[31mjupyter\x1b[0m {TOKEN}"), Wait(1.5), Exit(3)],
        HUNGRY["image"]: [Line("loading"), Wait(0.1), Exit(137, "OOMKilled")],
        MISNAMED["image"]: [Stuck("InvalidImageName", 'couldn\'t parse image name "a b"')],
        EVICTED["image"]: [Wait(0.1), Exit(137, "", "Evicted", "The node was low on resource: memory.")],
    }
    return ends.get(pod["spec"]["containers"][0]["image"], [Hold(asyncio.Event())])


async def run(installed: Installed, folder: Path) -> dict[str, Any]:
    async with KubeApi.running(folder, script=life) as api:
        process = await asyncio.create_subprocess_exec(
            installed.bin / "python", folder / "spawners.py", folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "KUBECONFIG": str(api.kubeconfig)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(200):
            given = json.dumps(cases(installed, folder)).encode()
            reason, trouble = await process.communicate(given)
        assert process.returncode == 0, trouble.decode()
        return {**json.loads(reason), "created": api.created}


@pytest.fixture(scope="module", params=VERSIONS)
def started(
    request: pytest.FixtureRequest,
    installed: Callable[[str], Installed],
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, Any]:
    """What became of each case, with the spawners of a version of the hub."""
    folder = tmp_path_factory.mktemp("spawners")
    for file in (SPAWNER, *(Path(__file__).with_name(name) for name in ("spawners.py", "light_server.py"))):
        shutil.copy(file, folder)
    return asyncio.run(run(installed(request.param), folder))


def notebook(started: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, str]]:
    """The one container of a pod, and its variables."""
    (container,) = started["pod"]["spec"]["containers"]
    return container, {each["name"]: each["value"] for each in container["env"]}


def jupyter(words: list[str], port: int, ip: str = "0.0.0.0", path: str = PATH) -> dict[str, str]:
    """The arguments for any Jupyter, under both of its names; those that every server has are taken out."""
    given = [word.removeprefix("--").partition("=") for word in words if word.startswith("--")]
    named = {name: value for name, _, value in given}
    assert len(given) == len(named)
    old, new = (
        {name.partition(".")[2]: value for name, value in named.items() if name.startswith(f"{section}.")}
        for section in ("NotebookApp", "ServerApp")
    )
    assert old == new
    always = {
        "ip": ip, "port": str(port), "base_url": path, "trust_xheaders": "True", "allow_remote_access": "True",
    }  # fmt: skip
    assert {name: new.pop(name) for name in always} == always
    return new


def newest_jupyter(words: list[str]) -> bool:
    return words[:2] == ["python3", "-c"] and "jupyter-lab" in words[2] and "os.execvp" in words[2]


def test_a_pod_runs_what_a_launch_asks_for(started: Mapping[str, Any]) -> None:
    container, variables = notebook(started["pod"])
    assert container["image"] == OPTIONS["image"]
    assert newest_jupyter(container["args"])
    (port,) = container["ports"]
    assert jupyter(container["args"], port["containerPort"]) == {}
    assert started["pod"]["address"] == f"http://127.0.0.1:{port['containerPort']}"
    assert VARIABLES.items() <= variables.items()
    assert json.dumps(started["pod"]).count(TOKEN) == 1, "in that variable alone"


@pytest.mark.parametrize("old_python", [False, True])
@pytest.mark.parametrize(
    ("version", "program"),
    [("4.4.9", "jupyter-lab"), ("2.3.2", "jupyter-notebook"), ("", "jupyter-notebook")],
)
def test_an_image_has_the_newest_jupyter_started(
    started: Mapping[str, Any], tmp_path: Path, version: str, program: str, old_python: bool
) -> None:
    """Without an import of JupyterLab, which takes as long as its start; before Python 3.8 it needs one."""
    if version:
        (tmp_path / f"jupyterlab-{version}.dist-info").mkdir()
        metadata = tmp_path / f"jupyterlab-{version}.dist-info" / "METADATA"
        metadata.write_text(f"Metadata-Version: 2.1\nName: jupyterlab\nVersion: {version}\n")
        (tmp_path / "jupyterlab.py").write_text(f"__version__ = {version!r}\n" if old_python else "slow = 1 / 0\n")
    for name in ("jupyter-lab", "jupyter-notebook"):
        (tmp_path / name).write_text('#!/bin/sh\necho "${0##*/}" "$@"\n')
        (tmp_path / name).chmod(0o755)
    work = tmp_path / "work"
    for module in ("email", "jupyterlab", "random"):  # of the repository, which is the current folder
        (work / module).mkdir(parents=True)
        (work / module / "__init__.py").write_text("slow = 1 / 0\n")
    script = notebook(started["pod"])[0]["args"][2]
    if old_python:
        script = f"import sys\nsys.modules['importlib.metadata'] = None\n{script}"
    # Without the packages of this environment (-S): there may be a JupyterLab.
    command = [sys.executable, "-S", "-c", script, "--ServerApp.port=1"]
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{program} --ServerApp.port=1\n"


def test_a_container_is_made_of_what_a_launch_asks_for(started: Mapping[str, Any]) -> None:
    made = started["container"]["container"]
    variables = dict(each.split("=", 1) for each in made["Env"])
    assert made["Image"] == OPTIONS["image"]
    assert newest_jupyter(made["Cmd"])
    assert jupyter(made["Cmd"], 8888) == {}
    assert VARIABLES.items() <= variables.items()
    assert TOKEN not in json.dumps([made["Cmd"], made["HostConfig"]])
    host = made["HostConfig"]
    assert not host.get("AutoRemove"), "the engine would take its last words away"
    assert (host["Memory"], host["PidsLimit"]) == (2**30, 99), "the hub's own settings count"
    assert list(host["PortBindings"]) == ["8888/tcp"]
    assert started["container"]["address"][0] == "127.0.0.1"


def test_pages_and_old_notebooks_have_their_arguments(started: Mapping[str, Any]) -> None:
    asked = {
        "token": TOKEN, "default_url": "/lab", "allow_origin": "*", "allow_origin_pat": ".*",
    }  # fmt: skip
    container, _ = notebook(started["pod for pages"])
    assert jupyter(container["args"], container["ports"][0]["containerPort"]) == asked
    assert jupyter(started["container for pages"]["container"]["Cmd"], 8888) == asked


def test_who_is_logged_in_gets_the_hubs_own_server(started: Mapping[str, Any]) -> None:
    for name, image in (
        ("pod of who is logged in", OPTIONS["image"]),
        ("pod of who pressed Start", "registry.example/everybody:1"),
    ):
        container, variables = notebook(started[name])
        assert (container["image"], container["args"]) == (image, ["jupyterhub-singleuser"])
        assert "JUPYTER_TOKEN" not in variables, "the hub opens it, and no token of a launch"
        assert TOKEN not in json.dumps(started[name])
    made = started["container of who pressed Start"]["container"]
    assert (made["Image"], made["Cmd"]) == ("registry.example/everybody:1", ["jupyterhub-singleuser"])
    assert not any(each.startswith("JUPYTER_TOKEN=") for each in made["Env"])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("pod that nobody asked for", "an image and a token are needed"),
        ("pod without a token", "an image and a token are needed"),
        ("container that nobody asked for", "an image and a token are needed"),
        ("container of a stranger's image", "not in allowed list"),
        ("process that nobody asked for", "an image and a token are needed"),
    ],
)
def test_what_is_refused_has_asked_for_nothing(started: Mapping[str, Any], name: str, why: str) -> None:
    refused = started[name]
    assert (refused["refused"], refused["asked"]) == (400, None)
    assert why in refused["why"]
    pods = [case for case in started if "pod" in case and "refused" not in started[case]]
    ended = [case for case in started if isinstance(started[case], dict) and started[case].get("refused") == 422]
    assert len(started["created"]) == len(pods) + len(ended)


def test_pod_that_ends_shows_how_with_its_last_lines(started: Mapping[str, Any]) -> None:
    ended = started["pod that ends"]
    what, *lines = ended["why"].split("\n")
    assert (ended["refused"], what) == (422, "The server ended with exit code 3 before it answered")
    assert lines[-2:] == ["line 499", "No module named \ufffd[31mjupyter\ufffd[0m ***"]
    assert len(ended["why"]) < 2200
    assert "line 0\n" not in ended["why"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("pod that is hungry", "The server needed more memory than it may have (exit code 137, OOMKilled)\nloading"),
        ("pod with a wrong name",
         'The cluster cannot start the server (InvalidImageName): couldn\'t parse image name "a b"'),
        ("pod that is evicted", "The cluster has ended the server (Evicted): The node was low on resource: memory."),
    ],
)  # fmt: skip
def test_pod_that_does_not_run_shows_why(started: Mapping[str, Any], name: str, why: str) -> None:
    assert (started[name]["refused"], started[name]["why"]) == (422, why)


def test_a_process_is_opened_by_its_token_alone(started: Mapping[str, Any]) -> None:
    for name in ("process", "process of a user of this machine"):
        process = started[name]["process"]
        path = process["env"]["JUPYTERHUB_SERVICE_PREFIX"]
        port = next(int(word.partition("=")[2]) for word in process["argv"] if ".port=" in word)
        assert jupyter(process["argv"], port, "127.0.0.1", path) == {}
        assert VARIABLES.items() <= process["env"].items()
        assert TOKEN not in json.dumps(process["argv"])
        assert (process["with its token"], process["with another"]) == (200, 403)
