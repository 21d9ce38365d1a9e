"""Section `EventLog`: what events tell, and how each sink gets them."""

from __future__ import annotations

from typing import Any, Final, Literal

from attrs import frozen, validators

from ..secret import Secret
from .conversion import problems, spelled, structure
from .options import ByteSize, Duration, option

Level = Literal["info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = ("info", "warning", "error")
Mode = Literal["at_most_once", "at_least_once"]
Fsync = Literal["always", "interval", "never"]


@frozen
class DeliverySettings:
    """How one sink gets its events: `EventLog.delivery.<sink>`."""

    mode: Mode = option(
        "at_most_once",
        help="`at_most_once`: from memory, never twice, lost if the sink does not take them. "
        "`at_least_once`: from a spool on disk, again and again until the sink takes them, also after a restart.",
    )
    schemas: tuple[str, ...] = option(
        ("*",), help="Only events of these schemas; `*` stands for any text (`ringbinder/build-*`)."
    )
    level: Level = option("info", help="Only events of this level and above: info, warning or error.")
    providers: tuple[str, ...] = option(
        ("*",),
        help="Only events of these providers, by the name in the event (`GitHub`); an event without a "
        "provider always passes.",
    )
    queue: int = option(
        10_000,
        validator=validators.ge(1),
        help="How many events may wait in memory; of more, the oldest are dropped, and counted.",
    )
    batch: int = option(500, validator=validators.ge(1), help="How many events one call gets at most.")
    linger: Duration = option(0.0, help="How long a call waits for its batch to grow.")
    timeout: Duration = option(30.0, help="How long one call may take.")
    retry_first: Duration = option(1.0, help="`at_least_once`: the pause before the second attempt; then it doubles.")
    retry_most: Duration = option(60.0, help="`at_least_once`: the longest pause between two attempts.")
    spool: ByteSize = option(
        256 * 1024**2,
        help="`at_least_once`: how much the spool may hold; of more, the oldest are dropped, and counted.",
    )
    fsync: Fsync = option(
        "interval",
        help="`at_least_once`: when the disk is made to keep what was written: `always` (after every write), "
        "`interval` (once a second) or `never`. It matters if the machine fails; being killed loses nothing.",
    )


def delivery_problems(given: object) -> list[str]:
    """What keeps `given` from being `DeliverySettings`, in words."""
    try:
        structure(DeliverySettings, given)
    except Exception as error:
        return [f"{spelled(each.where)}: {each.text}" if each.where else each.text for each in problems(error)]
    return []


@frozen
class EventLogSettings:
    """Section `EventLog`."""

    handlers_maker: str = option(
        "",
        help="`module:name` of a function that returns a list of Python logging handlers, as BinderHub's "
        "option; the sink `logging` is then active. It is called with an object whose `log` is the logger.",
    )
    launch_version: int = option(
        6,
        validator=[validators.ge(1), validators.le(6)],
        help="Version under which `binderhub.jupyter.org/launch` is emitted.",
    )
    drop_fields: tuple[str, ...] = option(
        (), help="Fields that no event tells, as `field` or `schema:field`; `*` stands for any text."
    )
    hash_fields: tuple[str, ...] = option(
        (),
        help="Fields that are emitted as a keyed hash (HMAC-SHA256, 32 digits): equal values stay equal, and "
        "no one without the key can find them by guessing. As `field` or `schema:field`.",
    )
    hash_key: Secret = option(
        factory=lambda: Secret(""),
        env="RINGBINDER_EVENT_HASH_KEY",
        help="Key of those hashes; without one, it is made and kept in the state folder.",
    )
    plugin_rate: float = option(
        200.0,
        validator=validators.gt(0),
        help="How many events a second one plugin may emit, after a burst of five seconds' worth; what is "
        "more is dropped, and counted under the plugin's name.",
    )
    flush_timeout: Duration = option(5.0, help="How long sinks may take for the last events at the end.")
    delivery: dict[str, dict[str, Any]] = option(
        factory=dict,
        help="By sink: `mode`, filters (`schemas`, `level`, `providers`) and limits (`queue`, `batch`, ...).",
    )
    """Each becomes `DeliverySettings`, over what the sink's class has in its attribute `delivery`."""
