"""Options that several commands have, and what they give."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from .destination import Destination


class Setup(NamedTuple):
    """The common options of one call."""

    files: tuple[Path, ...]
    sets: tuple[str, ...]
    verbose: int
    as_json: bool = False
    """JSON is asked for: errors are JSON, too."""


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of every command that works with a configuration; they arrive as one `Setup`."""

    @click.option(
        "--config",
        "-c",
        "files",
        multiple=True,
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Read this YAML file; may be repeated, later files win.",
    )
    @click.option(
        "--set",
        "sets",
        multiple=True,
        metavar="SECTION.OPTION=VALUE",
        help="Set one option; may be repeated, wins over files and environment.",
    )
    @click.option("--verbose", "-v", count=True, help="More log on stderr; -vv for all of it.")
    @wraps(command)
    def with_setup(*, files: tuple[Path, ...], sets: tuple[str, ...], verbose: int, **others: Any) -> None:
        command(setup=Setup(files, sets, verbose, others.get("as_json", False)), **others)

    return with_setup


json_output = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Write JSON to stdout, and nothing else; an error is an object with phase, message and code.",
)
yes = click.option("--yes", "-y", is_flag=True, help="Do not ask whether code of LINK may run on this computer.")


def destination(_: click.Context, parameter: click.Parameter, value: str | None) -> Destination | None:
    """What an argument that names an image means; None if it is not given."""
    from .destination import Destination

    try:
        return None if value is None else Destination.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None
