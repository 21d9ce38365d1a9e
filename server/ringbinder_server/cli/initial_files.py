"""`ringbinder init`: writes a commented configuration, makes its tokens, and has the doctor look at it."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Final

from attrs import evolve, field, frozen
from ringbinder.image_reference import split_domain

from ..terminal import echo, echo_text
from .doctor import examine
from .exitcodes import ExitCode
from .invocation import Invocation

_FOLDER: Final = Path(__file__).with_name("initial")
_TOKEN_BYTES: Final = 32
_PRIVATE: Final = 0o600


@frozen
class Answers:
    """What the person has said, in flags or at questions."""

    kind: str
    folder: Path
    hub_url: str = ""
    image_prefix: str = ""
    registry_username: str = ""
    registry_password: str = field(default="", repr=False)

    @property
    def registry_url(self) -> str:
        """Of the registry that `image_prefix` names, in the form of the Helm chart's `registry.url`."""
        domain, _ = split_domain(self.image_prefix.lower())
        return f"https://{domain}" if domain else "https://index.docker.io/v1/"


@frozen
class _File:
    template: str
    name: str
    secret: bool = False


_FILES: Final[Mapping[str, tuple[_File, ...]]] = {
    "embedded": (_File("embedded.yaml", "config.yaml"),),
    "one-host": (_File("one-host.yaml", "config.yaml"), _File("one-host.env", "secret.env", secret=True)),
    "cluster": (_File("cluster.yaml", "config.yaml"), _File("cluster-secret.yaml", "secret.yaml", secret=True)),
}


async def begin(invocation: Invocation, answers: Answers, *, force: bool, doctor: bool) -> int:
    """Writes the files and says what comes next. The doctor's verdict is shown; it is not the exit code."""
    files = _FILES[answers.kind]
    there = [file.name for file in files if (answers.folder / file.name).exists()]
    if there and not force:
        message = f"{' and '.join(there)} in {answers.folder} would be overwritten; use --force, or another --folder"
        echo(f"ringbinder: {message}", err=True)
        return ExitCode.USAGE
    answers.folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        _write(answers.folder / file.name, _text(file, answers), private=file.secret)
        echo(f"wrote {answers.folder / file.name}{' (only you can read it)' if file.secret else ''}")
    if doctor:
        echo("", "The doctor looks at it:")
        await examine(_configured(invocation, answers), as_json=False)
    echo_text(f"\n{_next(answers)}")
    return ExitCode.OK


def _text(file: _File, answers: Answers) -> str:
    """A template's text with what was said, as YAML has it where the file is YAML."""
    given = {
        "hub_url": answers.hub_url,
        "image_prefix": answers.image_prefix,
        "registry_url": answers.registry_url,
        "registry_username": answers.registry_username,
        "registry_password": answers.registry_password,
    }
    quoted = {name: json.dumps(value) for name, value in given.items()}  # JSON's texts are YAML's too
    tokens = {name: secrets.token_hex(_TOKEN_BYTES) for name in ("hub_api_token", "proxy_token")}
    return Template((_FOLDER / file.template).read_text()).substitute(quoted | tokens)


def _write(path: Path, text: str, *, private: bool) -> None:
    if not private:
        path.write_text(text)
        return
    # A new file, which no one has opened before it is private.
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "w") as file:
        file.write(text)


def _configured(invocation: Invocation, answers: Answers) -> Invocation:
    """An invocation with the files just written, and with the tokens that the environment would have."""
    names = [file.name for file in _FILES[answers.kind] if file.name.endswith(".yaml")]
    files = tuple(answers.folder / name for name in names)
    environment = answers.folder / "secret.env"
    if environment.exists():
        lines = [line for line in environment.read_text().splitlines() if not line.startswith("#")]
        os.environ.update(dict(line.split("=", 1) for line in lines if "=" in line))
    return evolve(invocation, setup=invocation.setup._replace(files=files))


def _next(answers: Answers) -> str:
    where = answers.folder
    if answers.kind == "embedded":
        return f"Next: ringbinder serve --config {where / 'config.yaml'}"
    if answers.kind == "one-host":
        return (
            f"Next: start the registry, and JupyterHub so that it answers at {answers.hub_url}; then\n"
            f"  set -a; . {where / 'secret.env'}; set +a; ringbinder serve --config {where / 'config.yaml'}\n"
            "docs/how-to/a-binder-for-your-group.md has all of it in one script."
        )
    return (
        "Next: judge the two files, and give them to Helm:\n"
        f"  ringbinder config check {where / 'config.yaml'} {where / 'secret.yaml'}"
    )
