"""Renews and checks what is installed here: `uv.lock`, the lists made from it, and the digests of images.

    python docs/locks.py renew     the newest releases, and the digests that registries have now: `make locks`
    python docs/locks.py fit       after a change of pyproject.toml: only what it asks for
    python docs/locks.py check     says what does not fit, without a network: part of `make lint`
    python docs/locks.py audit     asks for known vulnerabilities of what is locked: `make audit`

`make`, the Dockerfile and .ci/run install from the lists (or from one that `uv export` makes) with `--require-hashes`,
and not with `uv sync`: that fetches from the addresses in uv.lock, past the index that a machine is configured for.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ringbinder_embedded.lock import LEFT_OUT, LOCK

if TYPE_CHECKING:  # else this could not make a lock fit that leaves out what Ringbinder imports
    from ringbinder.image_reference import Reference
    from ringbinder_registries.oci import OciRegistry

ROOT: Final = Path(__file__).parents[1]
INDEX: Final = "https://pypi.org/simple"
FILES: Final = "https://files.pythonhosted.org/packages/"
LISTS: Final[Mapping[str, Sequence[str]]] = {
    "locks/uv.txt": ("--only-group", "bootstrap"),
    "locks/build.txt": ("--only-group", "build"),
    str(LOCK.relative_to(ROOT)): (
        "--only-group", "jupyterlab", *(part for package in LEFT_OUT for part in ("--prune", package)),
    ),
    "images/base/requirements.txt": (
        # Kernels run in the environments of images.
        "--only-group", "base-image", *(part for package in (*LEFT_OUT, "ipykernel") for part in ("--prune", package)),
    ),
}  # fmt: skip
"""Files in the form of requirements, each with how `uv export` makes it from uv.lock."""

_HEAD: Final = "# Made by docs/locks.py from uv.lock; `make locks` renews it.\n"
_DIGEST: Final = r"(?:@sha256:[0-9a-f]{64})?"
IMAGES: Final[Mapping[str, re.Pattern[str]]] = {
    ".github/workflows/ci.yml": re.compile(
        rf"^ +(?:- |image: )(?P<name>docker\.io/\S+):(?P<tag>[\w.-]+{_DIGEST})$", re.MULTILINE
    ),
    **dict.fromkeys(
        ("Dockerfile", "images/base/Dockerfile"),
        re.compile(rf"^ARG (?:BASE|UV)=(?P<name>\S+):(?P<tag>[\w.-]+{_DIGEST})$", re.MULTILINE),
    ),
    "charts/ringbinder/values.yaml": re.compile(
        rf"^ +name: (?P<name>\S+/\S+)\n +tag: (?P<tag>[\w.-]+{_DIGEST})$", re.MULTILINE
    ),
    "plugins/builders/ringbinder_builders/_kubernetes_options.py": re.compile(
        rf'^_DOCUMENTED_IMAGE: Final = "(?P<name>[^":]+):(?P<tag>[\w.-]+{_DIGEST})"', re.MULTILINE
    ),
}
"""Files that name images of others, and how; a tag may have a digest behind it, which then decides."""

_UNREACHABLE: Final = re.compile(r"error sending request|request failed after|timed out", re.IGNORECASE)


def uv(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs uv with PyPI as its index, no matter what this machine is configured for."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    command = [str(Path(sys.executable).with_name("uv")), *arguments, "--no-config"]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=env | {"UV_DEFAULT_INDEX": INDEX} | more,
        capture_output=True,
        text=True,
        check=False,
    )


def images() -> Iterator[tuple[str, Reference]]:
    """Each image of others with the file that names it."""
    from ringbinder.image_reference import Reference

    for file, pattern in IMAGES.items():
        for match in pattern.finditer((ROOT / file).read_text()):
            yield file, Reference.parse(f"{match['name']}:{match['tag']}")


async def with_digests(text: str, pattern: re.Pattern[str], registry: OciRegistry[Any]) -> str:
    """`text` with the digest that the registry has now for each image. Raises as `OciRegistry.look`."""
    from ringbinder.errors import ConfigError

    for match in reversed(list(pattern.finditer(text))):
        tag = match["tag"].partition("@")[0]
        image = await registry.look(f"{match['name']}:{tag}")
        if image is None or not image.digest:
            raise ConfigError([f"{match['name']}:{tag}: the registry does not have it"])
        text = f"{text[: match.start('tag')]}{tag}@{image.digest}{text[match.end('tag') :]}"
    return text


async def renew_digests() -> list[str]:
    """Rewrites the files in `IMAGES`; the answer says which keep their digests, and why."""
    from ringbinder.errors import ConfigError, TransientError
    from ringbinder.testing import make_context
    from ringbinder_registries._options import DockerRegistryOptions
    from ringbinder_registries.oci import OciRegistry

    problems = []
    with tempfile.TemporaryDirectory() as folder:
        context = make_context(Path(folder), "locks")
        registry = OciRegistry(DockerRegistryOptions(), context)
        try:
            for file, pattern in IMAGES.items():
                path = ROOT / file
                try:
                    path.write_text(await with_digests(path.read_text(), pattern, registry))
                except (ConfigError, TransientError) as error:
                    problems.append(f"{file} keeps its digests: {error}")
        finally:
            await context.services.close()
    return problems


def lists() -> dict[str, str]:
    """What each file of `LISTS` has to hold."""
    made = {}
    for file, selection in LISTS.items():
        exported = uv(
            "export",
            "--quiet",
            "--frozen",
            "--offline",
            "--no-emit-workspace",
            "--no-header",
            "--no-annotate",
            *selection,
        )
        exported.check_returncode()
        made[file] = _HEAD + exported.stdout
    return made


def fit(*more: str) -> list[str]:
    """Makes uv.lock fit pyproject.toml, and the lists fit uv.lock; the answer says why not."""
    locked = uv("lock", *more)
    if locked.returncode:
        return [f"uv.lock is as it was: {locked.stderr.strip()}"]
    for file, content in lists().items():
        (ROOT / file).write_text(content)
    return []


def renew() -> list[str]:
    """Renews all; the answer says what could not be renewed."""
    return [*fit("--upgrade"), *asyncio.run(renew_digests())]


def check() -> list[str]:
    """What does not fit. Needs no network."""
    cure = "run `.venv/bin/python docs/locks.py fit`"
    if uv("lock", "--check", "--offline").returncode:
        return [f"uv.lock does not fit pyproject.toml: {cure}"]
    problems = [
        f"{file} does not fit uv.lock: {cure}"
        for file, content in lists().items()
        if not (ROOT / file).exists() or (ROOT / file).read_text() != content
    ]
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        source = package["source"]
        addresses = [file["url"] for file in (*package.get("wheels", ()), *filter(None, [package.get("sdist")]))]
        if source not in ({"editable": "."}, {"editable": "core"}) and (
            source != {"registry": INDEX} or not all(address.startswith(FILES) for address in addresses)
        ):
            problems.append(f"uv.lock takes {package['name']} from another place than PyPI")
    return problems


def audit(*more: str) -> tuple[int, str]:
    """Exit code and text: 0 without a vulnerability and also where the data cannot be reached, which is said."""
    done = uv("audit", "--frozen", "--preview-features", "audit-command", *more, UV_HTTP_RETRIES="1")
    text = f"{done.stdout}{done.stderr}".strip()
    if done.returncode > 1 and _UNREACHABLE.search(text):
        return 0, f"NOT AUDITED: the data about vulnerabilities cannot be reached from here.\n{text}"
    return done.returncode, text


def main(command: str) -> int:
    if command == "audit":
        code, text = audit()
        print(text)  # noqa: T201 - this is a program
        return code
    problems = {"renew": renew, "fit": fit, "check": check}[command]()
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201 - this is a program
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
