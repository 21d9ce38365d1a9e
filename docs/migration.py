"""The table of the migration page: every class and option of BinderHub, and what it is here.

What takes an option is found in the code; why one is taken by nothing stands here, in words.
"""

from __future__ import annotations

from typing import Any, Final

import attrs
from ringbinder.config import binderhub as compat
from ringbinder.config.json_schema import CORE_SECTIONS
from ringbinder.config.options import NoOptions
from ringbinder.plugins.discovery import installed

_CHART: Final = "accepted, and read by the chart's own templates, not by the program"
_CLASS: Final = (
    "gone, because classes are not named here: plugins are found where they are installed, and chosen by name"
)

WHY: Final[dict[str, str]] = {
    "BinderHub.build_class": f"{_CLASS}, `Ringbinder.builder`; `LocalRepo2dockerBuild` still means `docker`",
    "BinderHub.build_cleaner_class": f"{_CLASS}; a builder cleans up after itself",
    "BinderHub.build_docker_config": _CHART,
    "BinderHub.buildDockerConfig": _CHART,
    "BinderHub.builder_required": "gone, because `/health` and `doctor` tell what a builder misses",
    "BinderHub.config_file": "gone: `--config FILE`, which may be repeated",
    "BinderHub.debug": "gone: `--verbose`, and `Ringbinder.log_levels` for one plugin",
    "BinderHub.executor_threads": "gone, because nothing blocks: there is no pool of threads to size",
    "BinderHub.health_handler_class": f"{_CLASS}; a plugin adds lines to `/health` with the hook `health`",
    "BinderHub.launch_quota_class": f"{_CLASS}; the plugin `quota`, or one of your own with the hook `admit`",
    "BinderHub.log_level": "gone: `--verbose`, and `Ringbinder.log_levels` for one plugin",
    "BinderHub.log_tail_lines": "gone, because a log is followed from its first line and kept whole",
    "BinderHub.repo_providers": f"{_CLASS}; `Ringbinder.disabled_plugins` and `Ringbinder.instances`",
    "BinderHub.tornado_settings": "gone, because there is no Tornado; for CORS `cors_allow_origin`",
    "KubernetesBuildExecutor.log_tail_lines": "gone, because a log is followed from its first line and kept whole",
    "LocalRepo2dockerBuild": "the same option in section `BuildExecutor`",
    "FigshareProvider": "accepted, without effect: no provider of Ringbinder's own speaks to Figshare yet",
    "HydroshareProvider": "accepted, without effect: no provider of Ringbinder's own speaks to HydroShare yet",
    "DataverseProvider": "accepted, without effect: no provider of Ringbinder's own speaks to Dataverse yet",
    "CKANProvider": "accepted, without effect: no provider of Ringbinder's own speaks to CKAN yet",
    "RateLimiter.clean_seconds": "gone, because what is over is forgotten as it ends",
    "HubOAuth": "accepted, without effect: where the hub is say `BinderHub.hub_url`, and the variables that it sets",
}
"""By section or by ``Section.option``: of what is taken by nothing."""

OTHER_CLASSES: Final[dict[str, str]] = {
    "BinderSpawnerMixin": "the same, on the hub's side: `auth_enabled` and `cors_allow_origin` of the class in "
    "[`spawner.py`](../reference/launchers.md#the-hubs-spawner)",
    "FakeRegistry": "the registry `fake`; `BinderHub.registry_class: FakeRegistry` still means it",
    "HealthHandler": f"{_CLASS}; a plugin adds lines to `/health` with the hook `health`",
    "KubernetesHealthHandler": f"{_CLASS}; the plugin `quota` adds the line `Pod quota` to `/health`",
}
"""Classes that are no section of a configuration file here."""


def table() -> str:
    """Every section of BinderHub with its options, then its other classes.

    Raises KeyError for an option that nothing explains, LookupError for an explanation that nothing needs.
    """
    takers, explained = _takers(), set[str]()
    lines: list[str] = []
    for section, options in compat.OPTIONS.items():
        lines += [f"## `{section}`\n", "| option | here |", "|---|---|"]
        gone = {option for where, option in compat.GONE if where == section}
        for option in sorted({*options, *gone}):
            lines.append(f"| `{option}` | {_words(section, option, takers, explained)} |")
        lines.append("")
    if idle := sorted(WHY.keys() - explained):
        raise LookupError(f"docs/migration.py: something reads {idle} now, or they are gone; take them out of WHY")
    lines += ["## Other classes\n", "| class | here |", "|---|---|"]
    lines += [f"| `{name}` | {words} |" for name, words in OTHER_CLASSES.items()]
    return "\n".join(lines) + "\n"


def _words(section: str, option: str, takers: dict[str, list[str]], explained: set[str]) -> str:
    name = f"{section}.{option}"
    if who := takers.get(name):
        return f"the same, read by {', '.join(sorted(set(who)))}"
    if (section, option) in compat.GONE:
        return f"gone, because {compat.GONE[section, option]}"
    why = name if name in WHY else section
    explained.add(why)
    return WHY[why]


def _takers() -> dict[str, list[str]]:
    """Who reads each option: core, or a plugin."""
    takers: dict[str, list[str]] = {}

    def note(cls: Any, sections: tuple[str, ...], who: str) -> None:
        for option in attrs.fields(cls):
            places = [f"{section}.{option.alias}" for section in sections]
            places += [other] if (other := option.metadata.get("also")) else []
            for place in places:
                takers.setdefault(place, []).append(who)

    for section, cls in CORE_SECTIONS.items():
        note(cls, (section,), "core")
    for row in installed():
        plugin: Any = row.entry_point.load()
        if row.found.ours:
            note(
                getattr(plugin, "Config", NoOptions),
                plugin.sections,
                f"the {row.found.kind} `{row.found.name}`",
            )
    return takers
