"""What is installed, and what is run, is what was locked: no mirror, no package and no tag can change it."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import httpx
import pytest
import yaml
from realparts.helm import Chart
from realparts.parts import RealRegistry
from ringbinder.errors import ConfigError, TransientError, UserError
from ringbinder.testing import RecordingLog, make_context
from ringbinder_embedded import jupyter
from ringbinder_embedded.lock import LEFT_OUT, LOCK
from ringbinder_recipe.uv import Uv
from ringbinder_registries._options import DockerRegistryOptions
from ringbinder_registries.oci import OciRegistry

ROOT = Path(__file__).parents[2]
UNKNOWN_DIGESTS = {
    "docker.io/library/buildpack-deps:bookworm",
    "docker.io/library/python:3.11-slim-bookworm",
    "docker.io/library/python:3.13-slim-bookworm",
    "docker.io/library/python:3.14-slim-bookworm",
    "quay.io/jupyterhub/docker-image-cleaner:1.0.0-beta.3",
    "quay.io/jupyterhub/repo2docker:2026.4.0",
}
"""Images whose digest nobody has looked up yet: `make locks`, where their registry can be reached, does so."""


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import locks

    yield locks
    del sys.modules["locks"]


@pytest.fixture
def copied(locks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that locks.py works on, to be changed."""
    for file in ("pyproject.toml", "README.md", "LICENSE", *CORE, "uv.lock", *locks.LISTS, *locks.IMAGES):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes((ROOT / file).read_bytes())
    monkeypatch.setattr(locks, "ROOT", tmp_path)
    return tmp_path


CORE = tuple(f"core/{file}" for file in ("pyproject.toml", "README.md", "LICENSE"))


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_locks_as_committed_fit(locks: ModuleType, copied: Path) -> None:
    assert locks.check() == []


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("core/pyproject.toml", '"attrs>=24.2"', '"attrs>=24.3"', "uv.lock does not fit pyproject.toml"),
        ("locks/build.txt", "hatchling==", "hatchling==0", "locks/build.txt does not fit uv.lock"),
        ("uv.lock", "https://files.pythonhosted.org/", "https://mirror.example/", "attrs from another place than PyPI"),
    ],
)  # fmt: skip
def test_locks_that_do_not_fit_are_reported(
    locks: ModuleType, copied: Path, file: str, old: str, new: str, problem: str
) -> None:
    change(copied / file, old, new)
    assert problem in "\n".join(locks.check())


def test_lists_name_no_index_and_a_hash_for_each(locks: ModuleType) -> None:
    for file in locks.LISTS:
        text = (ROOT / file).read_text()
        assert "://" not in text
        for requirement in text.replace("\\\n", "").splitlines():
            if not requirement.startswith("#"):
                assert re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", requirement), requirement


@pytest.mark.parametrize("file", ["Makefile", "Dockerfile", "images/base/Dockerfile", ".ci/run"])
def test_installing_is_by_hash_everywhere(file: str) -> None:
    text = (ROOT / file).read_text().replace("\\\n", " ")
    commands = re.split(r"\n|&&|\|\|", re.sub(r"^(#|install :=).*", "", text, flags=re.MULTILINE))
    installs = [command for command in commands if re.search(r"\binstall\)? +-|pip\" install", command)]
    assert installs
    for line in installs:
        if "uv python install" in line:
            continue  # uv checks by the hashes that it brings along
        assert "--require-hashes" in line or "--no-deps" in line or "apt-get" in line, line


def test_shared_jupyterlab_is_listed_without_what_it_leaves_out() -> None:
    listed = set(re.findall(r"^([\w.-]+)==", LOCK.read_text(), re.MULTILINE))
    assert {"jupyterlab", "jupyter-server", "tornado", "ipykernel"} <= listed
    assert not listed & set(LEFT_OUT)
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["jupyterlab"]
    assert group == ["jupyterlab>=4.4,<5", "nbgitpuller>=1.2", "notebook>=7.4,<8"]


def shared(tmp_path: Path, *requirements: str) -> jupyter.SharedServer:
    context = make_context(tmp_path, "local")
    return jupyter.SharedServer(requirements, Uv.of(context.paths), context)


def test_the_shared_jupyterlab_is_another_with_another_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = shared(tmp_path).entry.folder
    assert shared(tmp_path).entry.folder == before
    assert shared(tmp_path, "jupyterlab").entry.folder != before
    changed = tmp_path / "changed.txt"
    changed.write_bytes(LOCK.read_bytes() + b"\n")
    monkeypatch.setattr(jupyter, "LOCK", changed)
    assert shared(tmp_path).entry.folder != before


@pytest.mark.real("uv", "jupyterlab")
async def test_a_package_with_another_hash_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tmp_path / "jupyterlab.txt"
    listed.write_text(f"six==1.17.0 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(jupyter, "LOCK", listed)
    server = shared(tmp_path)
    with pytest.raises(UserError, match="as this release lists it") as caught:
        await server.get(RecordingLog())
    assert caught.value.code == "server-not-installed"
    assert server.entry.read() is None
    await server.context.services.close()


def test_images_of_others_have_a_digest(locks: ModuleType) -> None:
    named = list(locks.images())
    assert {file for file, _ in named} == set(locks.IMAGES)
    assert {f"{image.name}:{image.tag}" for _, image in named if not image.digest} == UNKNOWN_DIGESTS


def test_no_image_of_others_is_named_in_another_way(locks: ModuleType) -> None:
    values = yaml.safe_load((ROOT / "charts/ringbinder/values.yaml").read_text())
    del values["jupyterhub"]  # values of a chart of others, with its own images

    def images_in(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            if part.get("tag"):
                yield f"{part['name']}:{part['tag']}"
            for value in part.values():
                yield from images_in(value)

    listed = [str(image) for file, image in locks.images() if file.endswith("values.yaml")]
    assert sorted(images_in(values)) == sorted(listed)
    for template in (ROOT / "charts/ringbinder/templates").iterdir():
        assert re.findall(r"^ *-? *image: (?!\{\{)", template.read_text(), re.MULTILINE) == []
    for file, names in (("Dockerfile", {"${BASE}"}), ("images/base/Dockerfile", {"${BASE}", "${UV}"})):
        assert set(re.findall(r"^FROM (\S+)", (ROOT / file).read_text(), re.MULTILINE)) == names


@pytest.mark.parametrize("workflow", sorted((ROOT / ".github" / "workflows").iterdir()), ids=lambda file: file.name)
def test_workflow_runs_pinned_actions_with_named_permissions(workflow: Path, locks: ModuleType) -> None:
    text = workflow.read_text()
    actions = re.findall(r"uses: *(.*)", text)
    assert actions
    assert [one for one in actions if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)] == []
    parsed = yaml.safe_load(text)
    assert parsed["permissions"] == {}
    for job in parsed["jobs"].values():
        assert set(job["permissions"]) <= {"attestations", "contents", "id-token", "packages"}
        assert "packages" not in job["permissions"] or workflow.name == "base-image.yml"
        assert job["permissions"].get("contents", "read") == "read"
    # Each image stands where `make locks` finds it.
    assert text.count("docker.io/") == sum(str(file).endswith(workflow.name) for file, _ in locks.images())


def test_the_chart_runs_images_by_digest(locks: ModuleType, chart: Chart) -> None:
    made = chart.render(sets=["config.BinderHub.hub_url=http://192.0.2.10", f"image.tag=1@sha256:{'0' * 64}"])
    assert made.pod["containers"][0]["image"] == f"ringbinder:1@sha256:{'0' * 64}"
    [engine] = made.get("DaemonSet", "binder-dind")["spec"]["template"]["spec"]["containers"]
    assert engine["image"] in {str(image) for _, image in locks.images() if image.digest}


def pushed(registry: RealRegistry, name: str, tag: str, content: bytes) -> str:
    """The digest of a new image in the registry."""
    blob = f"sha256:{hashlib.sha256(content).hexdigest()}"
    with httpx.Client(base_url=registry.url, trust_env=False) as client:
        upload = client.post(f"/v2/{name}/blobs/uploads/").headers["location"]
        client.put(httpx.URL(upload).copy_merge_params({"digest": blob}), content=content).raise_for_status()
        kind = "application/vnd.oci.image.manifest.v1+json"
        config = {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "size": len(content),
            "digest": blob,
        }
        manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}).encode()
        client.put(f"/v2/{name}/manifests/{tag}", content=manifest, headers={"Content-Type": kind}).raise_for_status()
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


async def test_digests_come_from_the_registry(locks: ModuleType, open_registry: RealRegistry, tmp_path: Path) -> None:
    context = make_context(tmp_path, "locks")
    registry = OciRegistry(DockerRegistryOptions(retries=0), context)
    host, pattern = open_registry.host, locks.IMAGES["charts/ringbinder/values.yaml"]
    text = f"a:\n  name: {host}/one\n  tag: 1-x\nb:\n  name: {host}/two\n  tag: 1-x\n"
    with pytest.raises(ConfigError, match="the registry does not have it"):
        await locks.with_digests(text, pattern, registry)
    one, two = (pushed(open_registry, name, "1-x", b"{}") for name in ("one", "two"))
    renewed = await locks.with_digests(text, pattern, registry)
    assert renewed == text.replace("one\n  tag: 1-x", f"one\n  tag: 1-x@{one}").replace(
        "two\n  tag: 1-x", f"two\n  tag: 1-x@{two}"
    )
    newer = pushed(open_registry, "two", "1-x", b"{ }")
    assert await locks.with_digests(renewed, pattern, registry) == renewed.replace(
        f"two\n  tag: 1-x@{two}", f"two\n  tag: 1-x@{newer}"
    )
    with pytest.raises(TransientError):
        await locks.with_digests("  name: 127.0.0.1:9/a\n  tag: b\n", pattern, registry)
    await context.services.close()


@contextmanager
def vulnerability_service(vulnerable: str) -> Iterator[str]:
    """Address of a stand-in for osv.dev, for which one package has a vulnerability."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            known = [{"id": "PYSEC-2099-1", "modified": "2099-01-01T00:00:00Z"}]
            self.answer(
                {"results": [{"vulns": known} if one["package"]["name"] == vulnerable else {} for one in asked]}
            )

        def do_GET(self) -> None:
            self.answer({"id": "PYSEC-2099-1", "modified": "2099-01-01T00:00:00Z", "summary": "It bites"})

        def log_message(self, *_: object) -> None:
            """Stays quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_audit_fails_on_a_known_vulnerability(locks: ModuleType) -> None:
    with vulnerability_service("quart") as url:
        code, text = locks.audit("--service-url", url)
    assert code == 1
    assert "PYSEC-2099-1: It bites" in text


def test_audit_covers_the_shared_jupyterlab(locks: ModuleType) -> None:
    with vulnerability_service("jupyter-server") as url:
        assert locks.audit("--service-url", url)[0] == 1


def test_audit_without_vulnerabilities_passes(locks: ModuleType) -> None:
    with vulnerability_service("no-such-package") as url:
        code, text = locks.audit("--service-url", url)
    assert (code, "NOT AUDITED" in text) == (0, False)


def test_audit_without_its_data_is_reported(locks: ModuleType) -> None:
    code, text = locks.audit("--service-url", "http://127.0.0.1:9")
    assert (code, "NOT AUDITED" in text) == (0, True)


def test_audit_that_cannot_run_fails(locks: ModuleType) -> None:
    assert locks.audit("--no-such-option")[0] == 2
