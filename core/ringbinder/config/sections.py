"""Sections of the configuration -> instances of options classes; what has been asked for, and what nothing wanted."""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, Union, cast, get_args, get_origin

import attrs
from attrs import Factory, define, field
from cattrs.errors import BaseValidationError

from ..errors import ConfigError
from ..runtime.suggest import did_you_mean
from ..secret import Secret
from . import binderhub as compat
from .conversion import MISSING, Where, problems, spelled, structure
from .sources import ENVIRON_PREFIX, Origin, Tree, parse_text
from .specs import unended_host

T = TypeVar("T")


@define(eq=False, repr=False)
class Sections:
    """What files, environment and ``--set`` have said, as a tree of sections."""

    tree: Tree
    _environ: Mapping[str, str]
    _asked: dict[str, set[str]] = field(init=False, factory=dict)
    _judged: set[tuple[str, str]] = field(init=False, factory=set)
    _registry_defaults: Mapping[str, Any] = field(
        init=False,
        default=Factory(lambda self: compat.registry_defaults(self.tree.registry, self.tree.sections), takes_self=True),
    )

    def fill(
        self,
        cls: type[T],
        sections: Sequence[str],
        *,
        extra: Mapping[str, Any] | None = None,
        where: str = "",
        beside: type[Any] | None = None,
    ) -> T:
        """An instance of the attrs class `cls` from `sections`, later ones over earlier ones, then `extra`.

        An option that is given in none of them is taken from the option of another section or the environment
        variable that it names (see `option`), else it has its default. The Helm chart's `registry:` block
        stands behind section `DockerRegistry`. `where` says in error messages where `extra` stands
        (``Ringbinder.instances.lab``); with it, options that are not `inherited` are taken from `extra`
        alone.
        An option that `cls` does not have is an error in the last section and in `extra`; in the others it
        may be meant for another class, so `unused` judges it when all have been filled. The options of
        `beside`, another attrs class, may stand in any. Raises ConfigError with every problem.
        """
        attrs.resolve_types(cls)  # type: ignore[type-var]
        fields: dict[str, attrs.Attribute[Any]] = {a.alias: a for a in attrs.fields(cls) if a.init}  # type: ignore[arg-type]
        others = {a.alias for a in attrs.fields(beside)} if beside else set()
        base = tuple(where.split(".")) if where else ()
        withheld = {name for name, a in fields.items() if base and not a.metadata.get("inherited", True)}
        given: list[tuple[Where, Mapping[str, Any]]] = []
        for section in sections:
            self._asked.setdefault(section, set()).update(fields)
            if section == compat.REGISTRY_SECTION:
                given.append((("registry",), self._registry_defaults))
            given.append(((section,), self.tree.sections.get(section, {})))
        given.append((base, extra or {}))

        reported: list[str] = []
        stands: dict[str, Where] = {}
        values: dict[str, Any] = {}
        for place, options in given:
            for name, value in options.items():
                if place != base and name in withheld:
                    continue
                if name in fields:
                    stands[name], values[name] = (*place, name), value
                elif name not in others and place in (base, (sections[-1],) if sections else base):
                    reported += self._unknown((*place, name), {*fields, *others})
        for name, attribute in fields.items():
            if name not in withheld:
                self._from_elsewhere(name, attribute, stands, values)
            self._from_text(name, attribute, stands, values)
        try:
            made = cast(T, structure(cls, values))
            if not reported:
                return made
        except BaseValidationError as error:
            own = base or tuple(sections[-1:])
            for problem in problems(error):
                text = problem.text
                if text == MISSING and len(problem.where) == 1 and not base:
                    text += _variables(sections, fields[str(problem.where[0])])
                reported.append(self.located(_placed(problem.where, stands, own), text))
        raise ConfigError(reported)

    def _from_elsewhere(
        self, name: str, attribute: attrs.Attribute[Any], stands: dict[str, Where], values: dict[str, Any]
    ) -> None:
        """Takes an option that is not given from another section's that means the same, or its variable."""
        section, _, option = (attribute.metadata.get("also") or "").partition(".")
        content = self.tree.sections.get(section, {})
        if name not in stands and option in content:
            stands[name], values[name] = (section, option), content[option]
            self._asked.setdefault(section, set()).add(option)
        variable = attribute.metadata.get("env")
        if name not in stands and variable and (text := self._environ.get(variable)):
            stands[name] = (f"${variable}",)
            self.tree.origins[stands[name]] = Origin("environment", text)
            values[name], _ = parse_text(text)

    def _from_text(
        self, name: str, attribute: attrs.Attribute[Any], stands: dict[str, Where], values: dict[str, Any]
    ) -> None:
        """Applies what is special about the environment and the command line, where everything is text.

        Where text is wanted, the value is the text unchanged, also if YAML would see a number or a comment
        in it.
        """
        origin = self.tree.origins.get(stands.get(name, ()))
        if origin and origin.text is not None and _takes_text(attribute.type):
            quoted = isinstance(values[name], str) and origin.text.lstrip()[:1] in ("'", '"')
            values[name] = values[name] if quoted else origin.text

    def unended_hosts(self) -> Iterator[str]:
        """What allow-lists leave open that end in a host's name."""
        for section, options in self.tree.sections.items():
            for option in ("allowed_specs", "high_quota_specs"):
                patterns = options.get(option)
                for pattern in patterns if isinstance(patterns, list) else ():
                    with suppress(ValueError, TypeError):  # `fill` reports these
                        if host := unended_host(pattern):
                            yield self.located(
                                (section, option),
                                f'"{pattern}" also matches hosts such as {host}.evil.example. End the host with %2F.',
                            )

    def unused(self, idle: Collection[str] = ()) -> tuple[str, ...]:
        """The sections and options that nothing has asked for and that BinderHub does not have either.

        Each with where it stands and a did-you-mean. To be called when all plugins have been filled; `idle`
        names the sections of plugins that are installed and not active: no one has looked at what they say.
        """
        return tuple(text for _, text in self._unused(idle))

    def unused_near(self, own: Collection[str], idle: Callable[[], Collection[str]]) -> tuple[str, ...]:
        """Those of `unused` that stand in one of the sections `own`, or in one that is nearly called so."""

        def near(section: str) -> bool:
            return section in own or bool(did_you_mean(section, own))

        if not any(near(section) for section, _ in self._unused(())):
            return ()
        return tuple(text for section, text in self._unused(idle()) if near(section))

    def _unused(self, idle: Collection[str]) -> Iterator[tuple[str, str]]:
        sections = {*self._asked, *compat.OPTIONS, *idle}
        for section in self.tree.sections:
            if section not in sections:
                yield section, self.located((section,), "unknown section." + did_you_mean(section, sections))
        for section, option in self.idle():
            judged = (section, option) in self._judged or compat.known(section, option)
            if section in sections and not judged and not (section in idle and section not in self._asked):
                names = {*self._asked.get(section, ()), *compat.OPTIONS.get(section, ())}
                yield (section, self.located((section, option), "unknown option." + did_you_mean(option, names)))

    def idle(self) -> Iterator[tuple[str, str]]:
        """Sections and options that nothing has asked for so far."""
        for section, content in self.tree.sections.items():
            for option in content:
                if option not in self._asked.get(section, ()):
                    yield section, option

    def _unknown(self, where: Where, fields: Collection[str]) -> Iterator[str]:
        section, name = str(where[0]), str(where[-1])
        if len(where) != 2 or not compat.known(section, name):
            self._judged.add((section, name))
            hint = did_you_mean(name, fields, f" Known: {', '.join(sorted(fields))}." if len(fields) < 20 else "")
            yield self.located(where, f"unknown option.{hint}")

    def located(self, where: Where, text: str) -> str:
        """`text` with the place in the configuration that it is about."""
        origin = self.tree.origin(where)
        return f"{origin.place}: {spelled(where)}: {text}" if origin else f"{spelled(where)}: {text}"


def _placed(where: Where, stands: Mapping[str, Where], own: Where) -> Where:
    """Where in the files a problem of an options class stands; `own` is where its options belong."""
    if not where:
        return own
    return (*stands.get(str(where[0]), (*own, where[0])), *where[1:])


def _variables(sections: Sequence[str], option: attrs.Attribute[Any]) -> str:
    """In which environment variables an option may be given."""
    names = [f"{ENVIRON_PREFIX}{section}__{option.alias}" for section in sections[-1:]]
    names += [option.metadata["env"]] if option.metadata.get("env") else []
    return f"; {' or '.join(names)} in the environment gives it, too" if names else ""


def _takes_text(kind: Any) -> bool:
    """Whether an option is plain text or a secret, or nothing else but left out."""
    if get_origin(kind) in (Union, types.UnionType):
        return all(inner is type(None) or _takes_text(inner) for inner in get_args(kind))
    return kind in (str, Secret)
