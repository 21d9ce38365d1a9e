"""The image that the tests' repositories are built on: Debian, JupyterLab, and stand-ins for what is out of reach.

repo2docker takes its tools from Docker Hub, micromamba's site and conda-forge. Where only Debian and PyPI are reached,
as in CI, an unmodified repo2docker still builds to the end on this image: the stand-ins in the folder `repo2docker`
make Python environments with uv instead of conda's.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uv
from ringbinder.runtime.filelock import file_locked

from .parts import RealEngine

NAME: Final = "ringbinder-tests/base:1"
"""Of the image. It runs JupyterLab and `jupyterhub-singleuser`, which are on its PATH, as any user."""

STAND_INS: Final = Path(__file__).with_name("repo2docker")
_CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"
_NOTEBOOK: Final = "/srv/notebook"
_PATH: Final = f"{_NOTEBOOK}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEBIAN: Final = (
    "python3-minimal", "python3-venv", "ca-certificates", "git", "locales", "wget", "bzip2", "unzip", "less",
)  # fmt: skip
_PYPI: Final = ("pip", "jupyterlab", "notebook", "jupyterhub", "jupyter-resource-usage", "nbgitpuller")
_LIMIT: Final = 900.0


def variables() -> dict[str, str]:
    """What pip and uv need in the image, as on this machine: certificates, and where packages come from."""
    names = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL")
    files = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE")
    return {
        **{name: os.environ[name] for name in names if name in os.environ},
        **dict.fromkeys(files, _CERTIFICATES),
        "PATH": _PATH,
        "LANG": "C.UTF-8",
        "UV_CACHE_DIR": "/opt/uv-cache",
        "UV_LINK_MODE": "copy",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def debian(cache: Path) -> Path:
    """Debian's file system alone, with git, as a tar file in `cache`; made there if it is not, in about a minute."""
    with file_locked(cache / "debian.lock"):
        return _tar(cache / f"debian-{debian_fingerprint()}.tar", _make_debian)


def archive(cache: Path) -> Path:
    """The image's file system as a tar file in `cache`; made there if it is not, which takes about a minute."""
    plain = debian(cache)

    def make(root: Path) -> None:
        root.mkdir()
        _run("tar", "--numeric-owner", "-C", str(root), "-xpf", str(plain))
        _add_programs(root)

    # Of several workers, one makes it.
    with file_locked(cache / "base.lock"):
        return _tar(cache / f"base-{_fingerprint()}.tar", make)


def _tar(made: Path, make: Callable[[Path], None]) -> Path:
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=made.parent) as folder:
            root, unfinished = Path(folder) / "root", Path(folder) / "whole.tar"
            make(root)
            _run("tar", "--numeric-owner", "-C", str(root), "-cf", str(unfinished), ".")
            unfinished.rename(made)
    return made


def load(engine: RealEngine, file: Path, name: str = NAME) -> None:
    """Gives `engine` the image `name`."""
    changes = [f"--change=ENV {variable}={value}" for variable, value in variables().items()]
    _run("docker", "--host", engine.address, "import", *changes, str(file), name)


def debian_fingerprint() -> str:
    """Changes with what `debian` depends on."""
    return _hexdigest(_DEBIAN, _debian_release(), inspect.getsource(_make_debian))


def _fingerprint() -> str:
    return _hexdigest(
        Path(__file__).read_text(), variables(), *(file.read_text() for file in sorted(STAND_INS.iterdir()))
    )


def _hexdigest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _make_debian(root: Path) -> None:
    # Interrupted, it leaves no process and nothing mounted.
    command = [
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--",
        "debootstrap", "--variant=minbase", f"--include={','.join(_DEBIAN)}",
        _debian_release(), str(root), *_debian_mirror(),
    ]  # fmt: skip
    try:
        _run(*command)
    except RuntimeError:  # it gives up at one download that fails, of two hundred
        shutil.rmtree(root)
        _run(*command)
    shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)
    if Path(_CERTIFICATES).exists():
        shutil.copyfile(_CERTIFICATES, root / _CERTIFICATES.lstrip("/"))


def _add_programs(root: Path) -> None:
    for source, place in (
        (Path(uv.find_uv_bin()), "usr/local/bin/uv"),
        (STAND_INS / "wget", "usr/local/bin/wget"),
        (STAND_INS / "micromamba", "opt/stand-ins/bin/micromamba"),
    ):
        target = root / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(0o755)
    with _of_this_machine(root):
        _inside(root, "uv", "venv", "--quiet", "--python", "/usr/bin/python3", _NOTEBOOK)
        _inside(root, "uv", "pip", "install", "--quiet", "--python", f"{_NOTEBOOK}/bin/python", *_PYPI)


def _debian_release() -> str:
    return subprocess.run(
        ["sed", "-n", "s/^VERSION_CODENAME=//p", "/etc/os-release"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def _debian_mirror() -> list[str]:
    """The address that this machine has Debian's packages from, if its settings tell."""
    reported = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return reported.stdout.split()[:1]


@contextmanager
def _of_this_machine(root: Path) -> Iterator[None]:
    """Names are looked up inside as outside, while it lasts."""
    file = root / "etc/resolv.conf"
    shutil.copyfile("/etc/resolv.conf", file)
    try:
        yield
    finally:
        file.unlink()


def _inside(root: Path, *command: str) -> None:
    # Hard links, unlike copies, take the room of cache and environment only once.
    _run("chroot", str(root), *command, env=variables() | {"UV_LINK_MODE": "hardlink"})


def _run(*command: str, env: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_LIMIT, check=False
    )
    if done.returncode:
        reported = done.stdout.decode(errors="replace")[-3000:]
        raise RuntimeError(f"{' '.join(command)} ended with exit code {done.returncode}:\n{reported}")
