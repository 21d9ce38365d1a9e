"""`ringbinder init`: its flags, and its questions where there is somebody to answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..configured import Setup
from ..run import run

if TYPE_CHECKING:
    from ..initial_files import Answers
    from ..invocation import Invocation

_KINDS = ("embedded", "one-host", "cluster")
_HUB_HERE = "http://localhost:8000/"
_REGISTRY_HERE = "127.0.0.1:5000/binder-"


@click.command("init")
@click.argument("kind", required=False, type=click.Choice(_KINDS), metavar="[embedded|one-host|cluster]")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Where to write.  [.]")
@click.option("--hub-url", help=f"Where browsers find JupyterHub.  [one-host: {_HUB_HERE}]")
@click.option("--image-prefix", help=f"What the names of images begin with.  [one-host: {_REGISTRY_HERE}]")
@click.option("--registry-username", help="For a cluster: who pushes images.")
@click.option(
    "--registry-password-file",
    type=click.File(),
    help="For a cluster: the file that holds the password (- for standard input); without it you are asked.",
)
@click.option("--force", is_flag=True, help="Overwrite what is there.")
@click.option("--no-doctor", is_flag=True, help="Do not look whether what it needs is there.")
def init(kind: str | None, folder: Path, force: bool, no_doctor: bool, **given: object) -> None:
    """Write a commented configuration to begin with.

    For this computer alone (embedded), for a group on one host with containers (one-host), or for Kubernetes (cluster).
    Where a token is needed it is made, in a file that only you can read. What is not said in flags is asked, if there
    is a terminal. Then `ringbinder doctor` looks at the result.
    """
    asks = sys.stdin.isatty()
    if kind is None:
        if not asks:
            raise click.UsageError(f"say for what: {', '.join(_KINDS)}")
        kind = str(click.prompt("For what", type=click.Choice(_KINDS), default="embedded"))
    answers = _answers(kind, folder, given, asks=asks)

    async def work(invocation: Invocation) -> int:
        from ..initial_files import begin

        return await begin(invocation, answers, force=force, doctor=not no_doctor)

    run(Setup((), (), 0), work)


def _answers(kind: str, folder: Path, given: dict[str, Any], *, asks: bool) -> Answers:
    from ..initial_files import Answers

    def answer(name: str, question: str, default: str, *, hidden: bool = False) -> str:
        reason = given.get(name)
        if reason is None and asks:
            reason = click.prompt(question, default=default, hide_input=hidden, show_default=not hidden)
        return str(default if reason is None else reason)

    if kind == "embedded":
        return Answers(kind, folder)
    here = kind == "one-host"
    hub_url = answer("hub_url", "Where do browsers find JupyterHub", _HUB_HERE if here else "http://hub.example")
    prefix = answer(
        "image_prefix", "What do the names of images begin with", _REGISTRY_HERE if here else "account/binder-"
    )
    if here:
        return Answers(kind, folder, hub_url, prefix)
    file = given.get("registry_password_file")
    given["password"] = str(file.read()).strip() if file else None
    return Answers(
        kind, folder, hub_url, prefix,
        answer("registry_username", "Who pushes images (user name at the registry)", ""),
        answer("password", "Password or access token for it", "", hidden=True),
    )  # fmt: skip
