"""The files of the chart that are made from the code: its version, its schema, its answers to unusable values."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from packaging.version import Version
from ringbinder.config import binderhub as compat
from ringbinder.config.json_schema import of_sections
from ringbinder.plugins.discovery import installed

CHART = Path(__file__).parents[1] / "charts" / "ringbinder"
SPAWNER = CHART.parents[1] / "plugins" / "launchers" / "ringbinder_launchers" / "spawner.py"
_SPAWNER_IN_VALUES = re.compile(r"( +# generated: spawner\n).*?( +# end\n)", re.DOTALL)
_MISPLACED = {
    ("binderhub",): "its content belongs to the top here; it stands below binderhub in the values of a chart that has "
    "this one as a dependency with `alias: binderhub`"
}
_NOTHING: tuple[Any, ...] = (None, "", [])
_NOTE = "Made by docs/generate.py"


def files() -> dict[Path, str]:
    """Every file of the chart that is generated, with what it has to hold."""
    schema = json.dumps(values_schema(), indent=1, sort_keys=True)
    answers = yaml.safe_dump(_answers(), sort_keys=False, width=1000, allow_unicode=True)
    return {
        CHART / "Chart.yaml": _with_version((CHART / "Chart.yaml").read_text()),
        CHART / "values.yaml": _with_spawner((CHART / "values.yaml").read_text()),
        CHART / "values.schema.json": schema + "\n",
        CHART / "files" / "answers.yaml": f"# {_NOTE} from core/ringbinder/config/binderhub.py.\n{answers}",
    }


def _with_version(chart: str) -> str:
    """Writes the version of `pyproject.toml` into `chart`, as Python spells it and as SemVer does."""
    project = tomllib.loads((CHART.parents[1] / "pyproject.toml").read_text())["project"]
    chart = re.sub(r"(?m)^version: .*$", f"version: {semver(project['version'])}", chart)
    return re.sub(r"(?m)^appVersion: .*$", f'appVersion: "{project["version"]}"', chart)


def semver(version: str) -> str:
    """Returns a version of Python's as SemVer, which the charts of Helm have: `1.2.0rc1` is `1.2.0-rc.1`."""
    parsed = Version(version)
    release = ".".join(str(part) for part in (*parsed.release, 0, 0)[:3])
    before = [*(parsed.pre or ()), *(("dev", parsed.dev) if parsed.dev is not None else ())]
    return "-".join([release, *filter(None, [".".join(map(str, before))])])


def values_schema() -> dict[str, Any]:
    """The hand-written schema of the values, with the sections of `config` as the classes have them.

    Known sections are closed; others are open, for the plugins of strangers. What cannot be used passes, so that
    the templates say what to write instead.
    """
    schema: dict[str, Any] = yaml.safe_load((CHART / "values.schema.yaml").read_text())
    _take_null(schema)
    sections = of_sections(_own_plugins())
    for section, option in compat.GONE:
        sections["properties"][section]["properties"][option] = True
    description = schema["properties"]["config"]["description"]
    schema["properties"]["config"] = {**sections, "description": description, "additionalProperties": True}
    for path in (*compat.GONE_VALUES, *_MISPLACED):
        _let_pass(schema, path)
    return {"$comment": f"{_NOTE} from values.schema.yaml and the configuration classes.", **schema}


def reference() -> str:
    """The values of the chart, their defaults and their meaning, as a table."""
    schema = yaml.safe_load((CHART / "values.schema.yaml").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for name, value in schema["properties"].items():
        rows.append(f"| `{name}` | {_shown(defaults.get(name))} | {value['description']} |")
    return "\n".join(rows) + "\n"


def _shown(default: Any) -> str:
    if isinstance(default, Mapping):
        plain = {key: value for key, value in default.items() if not isinstance(value, Mapping | list)}
        return ", ".join(f"`{key}`: {_shown(value)}" for key, value in plain.items() if value not in _NOTHING)
    return "" if default in _NOTHING else f"`{json.dumps(default)}`"


def _own_plugins() -> Iterator[Any]:
    for row in installed():
        if row.found.ours:
            yield row.entry_point.load()


def _with_spawner(values: str) -> str:
    """`values` with the hub's side in it: the hub runs what its configuration holds, and has no file of ours."""
    code = SPAWNER.read_text().removeprefix("# mypy: ignore-errors\n")
    mixin = "".join(f"        {line}".rstrip() + "\n" for line in code.splitlines())
    return _SPAWNER_IN_VALUES.sub(lambda match: f"{match[1]}      0-binderspawnermixin: |\n{mixin}{match[2]}", values)


def _take_null(schema: dict[str, Any]) -> None:
    """Lets null stand for every value that is not required, however deep: Helm's way to drop a default."""
    required = schema.get("required", ())
    inner = {**schema.get("definitions", {}), **schema.get("properties", {})}
    inner |= {f"any {name}": schema.get(name) for name in ("additionalProperties", "items")}
    for name, one in inner.items():
        if not isinstance(one, dict):
            continue
        _take_null(one)
        if name in required:
            continue
        if kinds := one.get("type"):
            one["type"] = sorted({*([kinds] if isinstance(kinds, str) else kinds), "null"})
        if "enum" in one:
            one["enum"] = list(dict.fromkeys([*one["enum"], None]))


def _let_pass(schema: dict[str, Any], path: tuple[str, ...]) -> None:
    for step in path[:-1]:
        schema = schema["properties"].setdefault(step, {"type": ["object", "null"]})
        schema.setdefault("properties", {})
    schema["properties"].setdefault(path[-1], True)


def _answers() -> dict[str, Any]:
    values = [{"path": list(path), "instead": instead} for path, instead in compat.GONE_VALUES.items()]
    values += [{"path": list(path), "instead": where} for path, where in _MISPLACED.items()]
    values += [{"path": ["config", *path], "instead": why} for path, why in compat.GONE.items()]
    snippets = [{"what": what, "instead": f"{what}: {how}"} for what, how in compat.SNIPPETS.items()]
    more = {"otherwise": compat.OTHER_SNIPPETS, "named": compat.NAMED_IN_CHART}
    images = {"names": list(compat.BINDERHUBS_IMAGES), "instead": compat.BINDERHUBS_IMAGE}
    return {"values": values, "snippets": snippets, "images": images, **more}
