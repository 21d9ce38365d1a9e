"""Which packages an environment has, as its folders show; none of their code runs."""

from __future__ import annotations

import contextlib
import re
from typing import Final

from ringbinder.untrusted import UntrustedError, UntrustedTree

_LIBRARY: Final = re.compile(r"python3\.\d+t?")
_METADATA: Final = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)-(?P<version>[0-9][A-Za-z0-9.!+_]*)(?:-py3\.\d+)?\.(?:dist|egg)-info"
)
_MAX_NAMES: Final = 10_000


def has_package(env: UntrustedTree, name: str) -> bool:
    """Its environment has the package that is imported as `name`."""
    return any(env.is_file(f"{packages}/{name}/__init__.py") for packages in site_packages(env))


def has_server(env: UntrustedTree) -> bool:
    """Its environment has a JupyterLab that is a server's: up to version 2 it was the classic notebook's.

    Raises OSError or `UntrustedError`.
    """
    major = versions(env).get("jupyterlab", "0").partition(".")[0]
    return has_package(env, "jupyter_server") and int(major.rpartition("!")[2]) > 2


def site_packages(env: UntrustedTree) -> list[str]:
    """Folders of packages, relative to `env`; one, unless its author has seen to it otherwise."""
    try:
        names = env.names("lib", _MAX_NAMES)
    except (OSError, UntrustedError):
        return []
    return [f"lib/{name}/site-packages" for name in names if _LIBRARY.fullmatch(name)]


def versions(env: UntrustedTree) -> dict[str, str]:
    """Versions of the packages in its environment by their normalized names; none of their code runs.

    Raises OSError or `UntrustedError`.
    """
    from packaging.utils import canonicalize_name
    from packaging.version import InvalidVersion, Version

    versions: dict[str, str] = {}
    for packages in site_packages(env):
        for name in env.names(packages, _MAX_NAMES):
            if match := _METADATA.fullmatch(name):
                with contextlib.suppress(InvalidVersion):
                    versions[canonicalize_name(match["name"])] = str(Version(match["version"]))
    return versions
