"""The projects that `ringbinder plugins new` writes: the templates of this folder, filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

import jinja2
from attrs import frozen
from packaging.version import Version
from ringbinder.plugins.deprecation import PLUGIN_API
from ringbinder.plugins.discovery import GROUPS, installed

KINDS: Final = ("provider", "registry", "builder", "launcher", "sink", "policy", "auth", "wrapper")

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_FOLDER: Final = Path(__file__).parent
_PLURALS: Final = {"registry": "registries", "policy": "policies", "auth": "policies"}
_PLUGIN_KINDS: Final = {"auth": "policy", "wrapper": "plugin"}
"""What a kind is to core, where that has another name."""
_ABOUT: Final = {
    "provider": "git repositories of one host, by their names.",
    "registry": "notes in a folder say which images a container engine of this machine has.",
    "builder": "a command that makes an image of a folder.",
    "launcher": "a command on this machine for each client.",
    "sink": "events to an address, as JSON.",
    "policy": "only some repositories are built and launched.",
    "auth": "people whom a proxy in front of the server has logged in.",
    "wrapper": "stages of a launch that take long are logged.",
}
_EXAMPLES: Final = {
    "provider": "{camel}Provider:\n  base_url: https://{name}.example.org",
    "registry": "Ringbinder:\n  registry: {name}\n{camel}Registry:\n  folder: /srv/notes",
    "builder": "Ringbinder:\n  builder: {name}\n{camel}Builder:\n  command: [make, image]",
    "launcher": "Ringbinder:\n  launcher: {name}\n{camel}Launcher:\n  patience: 2m",
    "sink": "Ringbinder:\n  sinks: [{name}]\n{camel}Sink:\n  url: https://receiver.example.org/events",
    "auth": "BinderHub:\n  auth_enabled: true\n{camel}Auth:\n  user_header: X-Forwarded-User",
    "wrapper": "{camel}Wrapper:\n  limit: 2m",
    "policy": "{camel}Policy:\n  repositories: [https://github.com/my-group/*]",
}


@frozen
class Project:
    """A plugin project. `name` is the entry-point name: lower-case words with dashes between."""

    kind: str
    name: str

    @property
    def distribution(self) -> str:
        return f"ringbinder-{self.kind}-{self.name}"

    @property
    def plugin_kind(self) -> str:
        """The kind of plugin that core takes it for."""
        return _PLUGIN_KINDS.get(self.kind, self.kind)

    def problem(self) -> str:
        """What is wrong with the name, in words; empty if nothing is."""
        if not _NAME.fullmatch(self.name):
            return f"{self.name!r} is no name of a plugin: lower-case letters and digits, with dashes between"
        taken = [row.found for row in installed() if row.found.key == f"{self.plugin_kind}:{self.name}"]
        if others := " and ".join(found.origin for found in taken if found.distribution != self.distribution):
            return f"{others} has a {self.plugin_kind} {self.name!r} already, and of two with one name none is loaded"
        return ""

    def files(self) -> Mapping[str, str]:
        """Every file of the project: path within it -> text."""
        package = self.distribution.replace("-", "_")
        folders = {_FOLDER / "common": "", _FOLDER / "kinds" / self.kind: ""}
        texts = {
            str(path.relative_to(folder)).removesuffix(".jinja"): self._filled(path)
            for folder in folders
            for path in sorted(folder.rglob("*.jinja"))
        }
        texts[f"{package}/__init__.py"] = texts.pop("plugin.py")
        texts[f"tests/test_{self.name.replace('-', '_')}.py"] = texts.pop("test.py")
        return {**texts, f"{package}/py.typed": ""}

    def write(self, folder: Path) -> None:
        """Into a folder that is not there yet. Raises FileExistsError and OSError."""
        folder.mkdir(parents=True)
        for name, text in self.files().items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def _filled(self, path: Path) -> str:
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)  # noqa: S701
        camel = "".join(word.capitalize() for word in self.name.split("-"))
        return environment.from_string(path.read_text(encoding="utf-8")).render(
            kind=self.kind,
            name=self.name,
            title=" ".join(self.name.split("-")).capitalize(),
            distribution=self.distribution,
            package=self.distribution.replace("-", "_"),
            camel=camel,
            env=self.name.replace("-", "_").upper(),
            plural=_PLURALS.get(self.kind, f"{self.kind}s"),
            group=GROUPS[self.plugin_kind],
            about=_ABOUT[self.kind],
            example=_EXAMPLES[self.kind].format(name=self.name, camel=camel),
            choose=self.plugin_kind not in ("provider", "policy", "plugin"),
            oldest=_oldest(version("ringbinder")),
            running=version("ringbinder"),
            plugin_api=PLUGIN_API,
            **{"class": f"{camel}{self.kind.capitalize()}"},
        )


def _oldest(running: str) -> str:
    """The first version that a plugin of today can use; it names a pre-release if that is what runs."""
    parsed = Version(running)
    return f"{parsed.base_version}.dev0" if parsed.is_prerelease else parsed.base_version
