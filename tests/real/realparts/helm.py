"""Runs helm, and reads what comes out of it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from attrs import field, frozen

Manifest = Mapping[str, Any]


class HelmError(AssertionError):
    """helm said no; the message is what it said."""


@frozen
class Chart:
    """A chart on disk, with its sub-chart."""

    folder: Path

    def run(self, command: str, *arguments: str, timeout: float = 120) -> str:
        """The output of a command of helm's. Raises HelmError with what it has to say."""
        reported = ["helm", command, *arguments]
        done = subprocess.run(reported, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode:
            raise HelmError(done.stderr or done.stdout)
        return done.stdout

    def render(self, *files: Path, sets: Sequence[str] = (), kube: str = "1.30", more: Sequence[str] = ()) -> Rendered:
        """The manifests that `files` and ``--set`` make."""
        given = [word for file in files for word in ("--values", str(file))]
        given += [word for text in sets for word in ("--set-json" if "={" in text or "=[" in text else "--set", text)]
        text = self.run(
            "template",
            "binder",
            str(self.folder),
            "--namespace",
            "binder",
            "--kube-version",
            kube,
            *given,
            *more,
        )
        return Rendered(text)


@frozen
class Rendered:
    """Manifests as helm prints them."""

    text: str
    manifests: tuple[Manifest, ...] = field(init=False)

    @manifests.default
    def _parse(self) -> tuple[Manifest, ...]:
        return tuple(made for made in yaml.safe_load_all(self.text) if made)

    def get(self, kind: str, name: str) -> Manifest:
        """The one object of this kind and name."""
        [found] = [made for made in self.manifests if (made["kind"], made["metadata"]["name"]) == (kind, name)]
        return found

    def names(self) -> set[tuple[str, str]]:
        """Kind and name of every object."""
        return {(made["kind"], made["metadata"]["name"]) for made in self.manifests}

    @property
    def pod(self) -> Manifest:
        """The specification of Ringbinder's pods."""
        found: Manifest = self.get("Deployment", "binder")["spec"]["template"]["spec"]
        return found

    @property
    def container(self) -> Manifest:
        """Ringbinder's container."""
        [found] = self.pod["containers"]
        return dict(found)

    def environment(self) -> dict[str, Any]:
        """Ringbinder's environment: texts, or where they come from."""
        return {one["name"]: one.get("value", one.get("valueFrom")) for one in self.container["env"]}

    def files(self, into: Path) -> list[Path]:
        """Writes the configuration files as the pod finds them; in the order of its arguments."""
        given = self.get("Secret", "binder-secret")["stringData"]
        files = [into / name for name in ("chart.yaml", "values.yaml")]
        for file in files:
            file.write_text(given[file.name])
        return files
