"""`site`: distributions as an installer leaves them, modules and `dist-info` folders with entry points."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest
import structlog
import yaml
from attrs import define, field
from ringbinder.config.loading import load
from ringbinder.plugins.manager import Found, Plugins
from ringbinder.runtime.paths import Paths
from ringbinder.runtime.services import Services

STOCK = """
    from contextlib import asynccontextmanager
    from attrs import frozen
    from ringbinder import (
        Builder, GitSource, Launcher, Provider, ProviderInfo, Registry, Repo, Secret, Sink, option
    )

    TRACE = []

    class Traced:
        @asynccontextmanager
        async def lifespan(self):
            TRACE.append(f"{self.context.name} in")
            try:
                yield
            finally:
                TRACE.append(f"{self.context.name} out")

    @frozen
    class Options:
        hostname: str = option("github.com", help="Where it is.")
        token: Secret = option(factory=lambda: Secret(""), help="Opens it.")

    class GitHub(Traced, Provider):
        Config = Options
        sections = ("RepoProvider", "GitHubRepoProvider")
        def describe(self): return ProviderInfo(self.config.hostname, "repo", "", "ref")
        async def resolve(self, request):
            host = self.config.hostname
            return Repo(host, GitSource(host, "abc"), "abc", "x", "x", "x")

    class Git(GitHub):
        sections = ("RepoProvider", "GitRepoProvider")

    class Folders(Traced, Registry):
        holds = "folder"
        async def check(self, plan, fresh): ...
        async def target(self, plan): ...

    class Oci(Folders):
        holds = "oci"

    class Uv(Traced, Builder):
        makes = "folder"
        async def build(self, plan, target, log): ...

    class Docker(Uv):
        makes = "oci"

    class Processes(Traced, Launcher):
        runs = "folder"
        async def launch(self, image, request, log): ...
        async def stop(self, server): ...

    class Hub(Processes):
        runs = "oci"

    class File(Traced, Sink):
        async def emit(self, events): ...

    class Policy(Traced):
        def __init__(self, config, context):
            self.context = context
        async def admit(self): ...
"""
STOCK_POINTS = {
    "providers": {"gh": "GitHub", "git": "Git"},
    "registries": {"local": "Folders", "oci": "Oci"},
    "builders": {"local": "Uv", "docker": "Docker"},
    "launchers": {"local": "Processes", "jupyterhub": "Hub"},
    "sinks": {"file": "File"},
    "plugins": {"policy": "Policy"},
}


@define
class Site:
    """A folder of installed distributions, and nothing else."""

    folder: Path
    modules: list[str] = field(factory=list)

    def install(
        self, distribution: str, source: str, points: Mapping[str, Mapping[str, str]], module: str = ""
    ) -> None:
        """`points` has the last part of a group's name, then entry-point name -> attribute of the module."""
        module = module or distribution.replace("-", "_")
        (self.folder / f"{module}.py").write_text(dedent(source))
        info = self.folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [
            f"[ringbinder.{group}]\n" + "".join(f"{name} = {module}:{point}\n" for name, point in named.items())
            for group, named in points.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(lines))
        self.modules.append(module)
        importlib.invalidate_caches()

    def uninstall(self, distribution: str) -> None:
        for info in self.folder.glob(f"{distribution.replace('-', '_')}-*.dist-info"):
            shutil.rmtree(info)
        importlib.invalidate_caches()

    def provider(self, distribution: str, name: str, body: str) -> None:
        """Installs a provider whose class has `body` besides what every provider has."""
        source = """
            import asyncio, sys
            from ringbinder import ConfigError
            from stock import *
            class Extra(GitHub):
                sections = ("ExtraProvider",)
        """
        text = dedent(source) + indent(dedent(body), "    ")
        self.install(distribution, text, {"providers": {name: "Extra"}})

    def entry_points(self, group: str) -> Iterator[EntryPoint]:
        for distribution in distributions(path=[str(self.folder)]):
            yield from distribution.entry_points.select(group=group)

    def plugins(self, sections: Mapping[str, Any] | None = None, public: bool = False, **settings: Any) -> Plugins:
        """Not yet loaded; `settings` are the section `Ringbinder`."""
        file = self.folder / "config.yaml"
        file.write_text(yaml.safe_dump({**(sections or {}), "Ringbinder": settings}))
        services = Services(structlog.get_logger(), Paths(self.folder / "state", self.folder / "cache"), public=public)
        return Plugins.apart(load([file], environ={}), services, entry_points=self.entry_points)

    def loaded(self, sections: Mapping[str, Any] | None = None, **settings: Any) -> Plugins:
        plugins = self.plugins(sections, **settings)
        plugins.load()
        return plugins

    @staticmethod
    def row(plugins: Plugins | Sequence[Found], kind: str, name: str) -> Found:
        """The one row of that plugin."""
        rows = plugins.found if isinstance(plugins, Plugins) else plugins
        (found,) = [found for found in rows if (found.kind, found.name) == (kind, name)]
        return found

    @property
    def trace(self) -> list[str]:
        """What the stock plugins' life spans have noted."""
        trace: list[str] = sys.modules["stock"].TRACE
        return trace


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Holds the distribution `stock`: two plugins of every kind that fit, as far as there are two."""
    monkeypatch.syspath_prepend(tmp_path)
    site = Site(tmp_path)
    site.install("stock", STOCK, STOCK_POINTS)
    yield site
    for module in site.modules:
        sys.modules.pop(module, None)
