"""The base image of builder `layers`, made from `images/base/Dockerfile` with Debian's own Python.

Made once for this machine, which takes about a minute; what a registry has of it is kept in a folder, and given to the
registries of later tests, which takes seconds.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ringbinder.runtime.filelock import file_locked

from . import baseimage
from .parts import RealEngine, registry

PYTHON: Final = "/usr/bin/python3.11"
"""The interpreter that it has, Debian 12's."""

_ROOT: Final = Path(__file__).parents[3]
_SOURCES: Final = _ROOT / "images" / "base"
_DEBIAN: Final = "ringbinder-tests/debian:1"
_MADE: Final = "ringbinder-tests/layers-base:1"
_MANIFEST: Final = "manifest.json"
_MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"

Docker = Callable[..., str]


def made(cache: Path, engine: RealEngine, docker: Docker) -> Path:
    """A folder in `cache` with the manifest and the blobs of the image."""
    folder = cache / f"layers-base-{_fingerprint()}"
    with file_locked(cache / "layers-base.lock"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=cache) as unfinished:
                _make(Path(unfinished) / "made", engine, docker, baseimage.debian(cache))
                (Path(unfinished) / "made").rename(folder)
    return folder


def push(folder: Path, host: str, name: str = "ringbinder-base", tag: str = "1") -> str:
    """Gives what `made` has returned to the registry at `host`; returns the image's name there."""
    text = (folder / _MANIFEST).read_bytes()
    manifest = json.loads(text)
    for blob in (manifest["config"], *manifest["layers"]):
        start = urllib.request.Request(f"http://{host}/v2/{name}/blobs/uploads/", method="POST", data=b"")
        with urllib.request.urlopen(start) as answer:
            where = answer.headers["Location"]
        with (folder / _file(blob)).open("rb") as content:
            _put(f"{where}&digest={blob['digest']}", content, "application/octet-stream", blob["size"])
    _put(f"http://{host}/v2/{name}/manifests/{tag}", text, _MANIFEST_TYPE, len(text))
    return f"{host}/{name}:{tag}"


def _put(url: str, content: Any, media_type: str, size: int) -> None:
    headers = {"Content-Type": media_type, "Content-Length": str(size)}
    urllib.request.urlopen(urllib.request.Request(url, content, headers, method="PUT")).close()


def _make(folder: Path, engine: RealEngine, docker: Docker, debian: Path) -> None:
    baseimage.load(engine, debian, _DEBIAN)
    docker(
        "build", "--network=host", f"--file={_SOURCES / 'Dockerfile'}", f"--tag={_MADE}",
        *(f"--build-arg={name}={value}" for name, value in _arguments().items()), str(_ROOT),
    )  # fmt: skip
    folder.mkdir()
    with tempfile.TemporaryDirectory(dir=folder.parent) as data, registry(Path(data) / "registry") as running:
        name = f"{running.host}/made:1"
        docker("tag", _MADE, name)
        docker("push", "--quiet", name)
        docker("rmi", name)
        request = urllib.request.Request(f"{running.url}/v2/made/manifests/1", headers={"Accept": _MANIFEST_TYPE})
        with urllib.request.urlopen(request) as answer:
            text = answer.read()
        (folder / _MANIFEST).write_bytes(text)
        manifest = json.loads(text)
        for blob in (manifest["config"], *manifest["layers"]):
            with (
                urllib.request.urlopen(f"{running.url}/v2/made/blobs/{blob['digest']}") as answer,
                (folder / _file(blob)).open("wb") as file,
            ):
                shutil.copyfileobj(answer, file)


def _arguments() -> dict[str, str]:
    return {"BASE": _DEBIAN, "UV": _DEBIAN, "PYTHONS": f"3.11={PYTHON}", "SERVER_PYTHON": PYTHON}


def _file(blob: dict[str, Any]) -> str:
    return str(blob["digest"]).partition(":")[2]


def _fingerprint() -> str:
    debian = baseimage.debian_fingerprint(), baseimage.variables()
    digest = hashlib.sha256(repr((_arguments(), inspect.getsource(_make), debian)).encode())
    for file in (_ROOT / "locks" / "uv.txt", *sorted(_SOURCES.iterdir())):
        if file.is_file() and file.suffix != ".md":
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
