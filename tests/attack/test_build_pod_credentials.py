"""A build pod: no link of the repository that repo2docker reads in it leads to the build's credentials."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from ringbinder import process
from ringbinder.model import GitSource, Plan, Repo
from ringbinder.secret import Secret
from ringbinder_builders._kubernetes_options import KubernetesBuildOptions
from ringbinder_builders._pod_manifest import credentials, pod

PASSWORD = "canary-7f3a9c"
LOGIN = Secret(f'{{"registry": "registry.example", "username": "<token>", "password": "{PASSWORD}"}}')
REPO = "https://git.example/a/b"


def plan(credentials: str) -> Plan:
    repo = Repo(
        REPO,
        GitSource(REPO, "1a2b3c"),
        "1a2b3c",
        "a%2Fb/1a2b3c",
        REPO,
        "a-b",
        credentials=Secret(credentials),
    )
    return Plan(repo, "registry.example/binder-a-b:1a2b3c", "build-a-b-1a2")


PLAN = plan(f"username=we\npassword={PASSWORD}")
PRIVATE = "5f" * 16


class Pod:
    """The processes of a build pod, in a folder that stands for its root."""

    def __init__(self, root: Path, manifest: dict[str, Any], content: dict[str, str]) -> None:
        self.root = root
        [container] = manifest["spec"]["containers"]
        self.env = process.minimal_env() | {
            "HOME": str(root / "root"),
            **{entry["name"]: self.inside(entry["value"]) for entry in container["env"]},
        }
        for mount in container["volumeMounts"]:
            if key := mount.get("subPath"):
                path = Path(self.inside(mount["mountPath"]))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content[key])
        self.repository = root / "tmp" / "repo2docker"
        self.repository.mkdir(parents=True)

    def inside(self, value: str) -> str:
        return f"{self.root}{value}" if value.startswith("/") else value

    async def read_by_repo2docker(self) -> str:
        program = (
            f"import os; os.chdir({str(self.repository)!r})\n"
            "from repo2docker.buildpacks import PythonBuildPack as P; print(P('x').get_preassemble_scripts())"
        )
        done = await process.run([sys.executable, "-c", program], cwd=self.root, env=self.env, timeout=60)
        return done.output + done.errors


def build_pod(root: Path, **options: Any) -> Pod:
    chosen = KubernetesBuildOptions(**options)
    content = credentials(PLAN, LOGIN, chosen)
    return Pod(root, pod(PLAN, chosen, ["x"], "attempt", PRIVATE, keys=content), content)


@pytest.mark.parametrize(
    "target",
    ["root/.docker/config.json", "run/ringbinder/config.json", "run/ringbinder/git-credentials",
     "run/ringbinder/GIT_CREDENTIAL_ENV", "root/.gitconfig", "/proc/self/environ"],
)  # fmt: skip
async def test_link_of_a_repository_in_a_pod_finds_nothing(tmp_path: Path, target: str) -> None:
    """The real repo2docker quotes what it finds in apt.txt."""
    made = build_pod(tmp_path)
    (made.repository / "apt.txt").symlink_to(target if target.startswith("/") else tmp_path / target)
    shown = await made.read_by_repo2docker()
    assert PASSWORD not in shown
    assert ("DOCKER_CONFIG" in shown) == (target == "/proc/self/environ")  # it does read what is there
    assert PASSWORD in (Path(made.env["DOCKER_CONFIG"]) / "config.json").read_text()


@pytest.mark.parametrize(
    ("address", "found"), [("https://git.example/other", True), ("https://evil.example/a/b", False)]
)
async def test_git_in_a_pod_gives_its_password_to_one_host(tmp_path: Path, address: str, found: bool) -> None:
    made = build_pod(tmp_path)
    done = await process.run(
        ["git", "-c", "credential.interactive=false", "credential", "fill"],
        cwd=tmp_path, env=made.env | {"GIT_TERMINAL_PROMPT": "0"}, input=f"url={address}\n\n", timeout=60,
    )  # fmt: skip
    assert (f"password={PASSWORD}" in done.output) == found


async def test_git_in_a_pod_keeps_the_settings_of_the_image(tmp_path: Path) -> None:
    made = build_pod(tmp_path)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / ".gitconfig").write_text("[core]\n\tabbrev = 11\n")
    done = await process.run(["git", "config", "core.abbrev"], cwd=tmp_path, env=made.env, timeout=60)
    assert done.output == "11\n"


def test_password_of_binderhubs_form_has_lines() -> None:
    options = KubernetesBuildOptions(git_credentials=Secret(r"username=we\npassword=x"))
    assert credentials(plan(""), None, options)["git-credentials"] == "username=we\npassword=x"


def test_push_secret_lies_under_the_random_name() -> None:
    manifest = pod(PLAN, KubernetesBuildOptions(), ["x"], "attempt", PRIVATE)
    [mount] = [one for one in manifest["spec"]["containers"][0]["volumeMounts"] if "subPath" in one]
    assert mount["mountPath"] == f"/run/ringbinder/{PRIVATE}/config.json"


def test_variable_with_binderhubs_place_gets_the_new_one() -> None:
    extra = {"REGISTRY_AUTH_FILE": "/root/.docker/config.json", "OTHER": "/root"}
    manifest = pod(PLAN, KubernetesBuildOptions(extra_envs=extra), ["x"], "attempt", PRIVATE)
    env = {entry["name"]: entry["value"] for entry in manifest["spec"]["containers"][0]["env"]}
    assert env["REGISTRY_AUTH_FILE"] == f"/run/ringbinder/{PRIVATE}/config.json"
    assert env["OTHER"] == "/root"
