"""The sources of the configuration -> one tree of plain values that knows where each value stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from attrs import define, field, frozen

from ..runtime.suggest import did_you_mean
from .binderhub import BINDERHUBS_IMAGE, BINDERHUBS_IMAGES, CHART_VALUES, GONE_VALUES, OPTIONS, answer_snippet
from .conversion import Where, kind_of, spelled

ENVIRON_PREFIX = "RINGBINDER__"

# An operator's own file has some hundred values; aliases of aliases can make billions out of ten lines.
_MOST_VALUES = 100_000

_SIGNS = {"!": "tag", "*": "alias", "&": "anchor"}

_SECTION = re.compile(r"[A-Z][A-Za-z0-9_]*")


class NotReadable(Exception):
    """A text is not the YAML that it should be: says where and why, in words and without quoting the text."""


@frozen
class Origin:
    """Where a value stands. `text` is how it was written, in the environment or on the command line."""

    place: str
    text: str | None = None


@define
class Tree:
    """All sources merged, later ones over earlier ones: mappings are merged, anything else is replaced."""

    sections: dict[str, dict[str, Any]] = field(factory=dict)
    registry: dict[str, Any] = field(factory=dict)
    """The Helm chart's `registry:` block."""
    chart: set[str] = field(factory=set)
    """The Helm chart's values that the files have."""
    origins: dict[Where, Origin] = field(factory=dict)
    problems: list[str] = field(factory=list)
    strangers: list[tuple[str, str]] = field(factory=list)
    umbrella: bool = False

    def origin(self, where: Where) -> Origin | None:
        """Where the value at `where` stands, or the nearest thing around it."""
        for length in range(len(where), 0, -1):
            if found := self.origins.get(where[:length]):
                return found
        return None

    def add_file(self, file: Path) -> None:
        """Adds a YAML file: a mapping of sections, or a Helm values file."""
        try:
            text = file.read_bytes().decode("utf-8-sig")
            value, lines = parse(text)
        except UnicodeDecodeError as error:
            self.problems.append(f"{file}: not a text file in UTF-8 (byte {error.start}); save it as UTF-8")
            return
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self.problems.append(f"{file}: cannot be read: {reason}")
            return
        except NotReadable as error:
            self.problems.append(f"{file}, {error}")
            return
        if value is None:
            return
        if not isinstance(value, dict):
            self.problems.append(f"{file}: a configuration file is a mapping of sections, but this is {kind_of(value)}")
            return
        origins = {where: Origin(f"{file}, line {line}") for where, line in lines.items()}
        _File(self, str(file), origins).read(value)

    def add_environ(self, environ: Mapping[str, str]) -> None:
        """Adds each variable ``RINGBINDER__Section__option``; its value is YAML."""
        for name in sorted(environ):
            if name.startswith(ENVIRON_PREFIX):
                steps = tuple(name.removeprefix(ENVIRON_PREFIX).split("__"))
                self._add_text(name, steps, environ[name], f"{ENVIRON_PREFIX}Section__option")

    def add_set(self, text: str) -> None:
        """Adds what ``--set Section.option=value`` says; the value is YAML."""
        name, equals, value = text.partition("=")
        steps = tuple(name.strip().split("."))
        # Without "=", what stands there may be the value.
        place = f"--set {name.strip()}" if equals else "--set"
        self._add_text(place, steps if equals else (), value, "--set Section.option=value")

    def _add_text(self, place: str, steps: tuple[str, ...], text: str, form: str) -> None:
        if len(steps) < 2 or not all(steps) or not _SECTION.fullmatch(steps[0]):
            self.problems.append(f"{place}: not of the form {form}")
            return
        value, lines = parse_text(text)
        self.origins |= {(*steps, *where): Origin(place) for where in lines}
        self.origins[steps] = Origin(place, text)
        for step in reversed(steps[1:]):
            value = {step: value}
        merge(self.sections.setdefault(steps[0], {}), value)

    def finish(self) -> None:
        """Judges what could not be judged before all files were read."""
        if not self.umbrella:
            self.problems += [problem for _, problem in self.strangers]
        self.strangers.clear()


@frozen
class _File:
    """One file on its way into a tree."""

    tree: Tree
    file: str
    origins: Mapping[Where, Origin]

    def read(self, value: dict[Any, Any], base: Where = ()) -> None:
        helm = bool(base) or any(key in CHART_VALUES or (key,) in GONE_VALUES for key in value)
        for key, content in value.items():
            where = (*base, str(key))
            if key == "binderhub" and not base and isinstance(content, dict):
                self.tree.umbrella = True
                self.read(content, where)
            elif helm:
                self._chart_value(key, content, where)
            elif isinstance(key, str) and _SECTION.fullmatch(key):
                self._section(key, content, where)
            else:
                hint = did_you_mean(str(key), CHART_VALUES | set(OPTIONS))
                self._stranger(where, f"not a section: those begin with a capital letter.{hint}")

    def _chart_value(self, key: Any, content: Any, where: Where) -> None:
        for gone, instead in GONE_VALUES.items():
            if gone[0] == key and _has(content, gone[1:]):
                self._problem((*where, *gone[1:]), f"no longer a value of the chart; {instead}")
        if (key,) in GONE_VALUES:
            return
        if key in CHART_VALUES:
            self.tree.chart.add(key)
        if key == "image" and isinstance(content, dict):
            name = str(content.get("name") or "")
            if name.rpartition("/")[2] in BINDERHUBS_IMAGES:
                self._problem((*where, "name"), f"{name} {BINDERHUBS_IMAGE}")
        elif key == "config":
            self._config(content, where)
        elif key == "registry":
            self._registry(content, where)
        elif key == "extraConfig" and content:
            self._snippets(content, where)
        elif isinstance(key, str) and _SECTION.fullmatch(key):
            self._problem(where, "in a Helm values file, sections belong under `config:`; indent it below that")
        elif key not in CHART_VALUES:
            self._stranger(where, "not a value of BinderHub's chart." + did_you_mean(str(key), CHART_VALUES))

    def _snippets(self, content: Any, where: Where) -> None:
        if not isinstance(content, dict):
            self._problem(where, f"expected a mapping of Python snippets, but it is {kind_of(content)}")
            return
        for name, code in content.items():
            if code:
                message = answer_snippet(str(code))
                self._problem((*where, str(name)), f"Python snippets are not run here. Instead, {message}")

    def _config(self, content: Any, where: Where) -> None:
        if content is not None and not isinstance(content, dict):
            self._problem(where, f"expected a mapping of sections, but it is {kind_of(content)}")
            return
        for name, options in (content or {}).items():
            if isinstance(name, str) and _SECTION.fullmatch(name):
                self._section(name, options, (*where, name))
            else:
                hint = did_you_mean(str(name), OPTIONS)
                self._problem((*where, str(name)), f"not a section: those begin with a capital letter.{hint}")

    def _registry(self, content: Any, where: Where) -> None:
        if isinstance(content, dict):
            given = {key: item for key, item in content.items() if ("registry", key) not in GONE_VALUES}
            # The chart's own defaults are null.
            merge(self.tree.registry, {key: item for key, item in given.items() if item is not None})
            self._remember(where, ("registry",))
        elif content is not None:
            self._problem(where, f"expected a mapping with url, username, password, but it is {kind_of(content)}")

    def _section(self, name: str, content: Any, where: Where) -> None:
        if content is None:
            content = {}
        if not isinstance(content, dict):
            self._problem(where, f"a section is a mapping of options, but this is {kind_of(content)}")
            return
        self._remember(where, (name,))
        named = {option: value for option, value in content.items() if isinstance(option, str)}
        for option in content.keys() - named.keys():
            self._problem((*where, str(option)), f"the name of an option is text, but this is {kind_of(option)}")
        merge(self.tree.sections.setdefault(name, {}), named)

    def _remember(self, where: Where, target: Where) -> None:
        depth = len(where)
        self.tree.origins |= {
            target + path[depth:]: origin for path, origin in self.origins.items() if path[:depth] == where
        }

    def _problem(self, where: Where, text: str) -> None:
        self.tree.problems.append(self._located(where, text))

    def _stranger(self, where: Where, text: str) -> None:
        # Beside a chart that holds BinderHub's, other charts have values of their own.
        self.tree.strangers.append((self.file, self._located(where, text)))

    def _located(self, where: Where, text: str) -> str:
        place = next(
            (self.origins[where[:n]].place for n in range(len(where), 0, -1) if where[:n] in self.origins), self.file
        )
        return f"{place}: {spelled(where)}: {text}"


def _has(content: Any, steps: tuple[str, ...]) -> bool:
    for step in steps:
        if not isinstance(content, dict) or step not in content:
            return False
        content = content[step]
    return True


def merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Deep merge of mappings; anything else is replaced."""
    for key, value in new.items():
        if isinstance(value, Mapping):
            old = into.get(key)
            # A mapping of our own: with aliases, one object may stand at several places of a file.
            into[key] = dict(old) if isinstance(old, Mapping) else {}
            merge(into[key], value)
        else:
            into[key] = value


def parse(text: str) -> tuple[Any, dict[Where, int]]:
    """The value of a YAML text, and the line of each thing in it. Raises NotReadable."""
    lines: dict[Where, int] = {}
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, lines
            _survey(node, (), lines, set())
            return loader.construct_document(node), lines
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise NotReadable(_in_words(error, text)) from None
    except RecursionError:
        raise NotReadable("line 1: nested too deeply") from None


def parse_text(text: str) -> tuple[Any, dict[Where, int]]:
    """The value of a text from the environment or the command line: YAML, or else the text itself.

    ``--set BinderHub.cors_allow_origin=*`` is no YAML, and means what it says.
    """
    try:
        return parse(text)
    except NotReadable:
        return text, {}


class _Loader(yaml.SafeLoader):
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception:
            # PyYAML's constructors fail as it happens: ValueError for 2020-99-99, KeyError for `!!bool x`.
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(None, None, f"not a valid {kind}", node.start_mark) from None


def _survey(node: yaml.Node, where: Where, lines: dict[Where, int], above: set[int]) -> None:
    """Notes the line of each value; refuses repeated keys, values within themselves, too many values."""
    if id(node) in above:
        _refuse(node, "a value that contains itself")
    if len(lines) > _MOST_VALUES:
        _refuse(node, f"more than {_MOST_VALUES} values")
    above.add(id(node))
    lines[where] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        first: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                _refuse(key, "a key is plain text, not a list or a mapping")
            line = key.start_mark.line + 1
            if (key.tag, key.value) in first:
                before = first[key.tag, key.value]
                _refuse(key, f'the key "{key.value}" stands twice, first in line {before}')
            first[key.tag, key.value] = line
            _survey(value, (*where, key.value), lines, above)
            lines[(*where, key.value)] = line
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _survey(item, (*where, index), lines, above)
    above.discard(id(node))


def _refuse(node: yaml.Node, text: str) -> None:
    raise yaml.constructor.ConstructorError(None, None, text, node.start_mark)


def _in_words(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        for sign, thing in _SIGNS.items():
            if thing in what:
                # PyYAML quotes the word, and the word may be a password.
                what = f"not a known {thing}; put text that begins with {sign} between quotes"
        if "\\t" in what:
            what += " (YAML is indented with spaces, not tabs)"
        return f"line {mark.line + 1}, column {mark.column + 1}: {what}" if mark else what
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: YAML does not allow the character U+{ord(text[error.position]):04X}"
    return "not YAML"
