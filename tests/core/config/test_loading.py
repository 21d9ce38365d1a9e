"""Files, environment and --set -> typed options: order, strict types, every problem, no secret shown."""

import json
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from attrs import frozen
from ringbinder.config.loading import Config, load
from ringbinder.config.options import ByteSize, Duration, option
from ringbinder.errors import ConfigError
from ringbinder.secret import Secret


@frozen
class Limits:
    cpu: float = 1.0
    memory: ByteSize = 1024


@frozen
class Options:
    name: str = option("x", help="")
    count: int = option(1, help="")
    ratio: float = option(0.5, help="")
    active: bool = option(False, help="")
    token: Secret | None = option(None, help="", env="EXAMPLE_TOKEN")
    level: int = option(1, help="", env="EXAMPLE_LEVEL")
    size: ByteSize = option(1, help="")
    wait: Duration = option(1.0, help="")
    maybe: Duration | None = option(None, help="")
    specs: tuple[re.Pattern[str], ...] = option((), help="")
    folder: Path | None = option(None, help="")
    mode: Literal["fast", "slow"] = option("fast", help="")
    labels: dict[str, str] = option(factory=dict, help="")
    limits: Limits = option(Limits(), help="")
    origins: str | tuple[str, ...] = option("", help="")
    anything: Any = option(None, help="")


@frozen
class Needy:
    url: str = option(help="", env="NEEDY_URL")


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def file(text: str | bytes, name: str = "config.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return file


def problems(*files: Path, environ: dict[str, str] | None = None, sets: list[str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(files, environ=environ or {}, sets=sets or [])
    return [problem.replace(str(files[0].parent) + "/", "") if files else problem for problem in caught.value.problems]


def filled(text: str = "", *, environ: dict[str, str] | None = None, sets: list[str] | None = None) -> Options:
    return config_of(text, environ=environ, sets=sets).sections.fill(Options, ["Base", "Example"])


def config_of(text: str, *, environ: dict[str, str] | None = None, sets: list[str] | None = None) -> Config:

    own = [f"{s}.{o}={json.dumps(v)}" for s, c in (yaml.safe_load(text) or {}).items() for o, v in c.items()]
    return load(environ=environ or {}, sets=[*own, *(sets or [])])


def refusals(config: Config, cls: type[Any] = Options, *sections: str, **keywords: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.sections.fill(cls, sections or ["Base", "Example"], **keywords)
    return list(caught.value.problems)


def test_nothing_at_all() -> None:
    config = load(environ={})
    assert (config.settings.builder, config.settings.registry, config.settings.launcher) == ("local",) * 3
    assert config.binderhub.port == 8585
    assert config.registry_credentials is None
    assert (config.warnings, config.sections.unused()) == ((), ())
    assert config.sections.fill(Options, ["Base", "Example"]) == Options()


def test_later_sources_win_and_mappings_merge(write: Any) -> None:
    one = write("Example:\n  name: one\n  count: 1\n  labels: {a: one, b: one}\n  origins: [x, y, z]\n", "one.yaml")
    two = write("Example:\n  count: 2\n  labels: {b: two}\n  origins: [w]\n  ratio: 2\n", "two.yaml")
    environ = {"RINGBINDER__Example__count": "3", "RINGBINDER__Example__labels__c": "env", "OTHER": "x"}
    options = load([one, two], environ=environ, sets=["Example.count=4", "Example.labels.d=set"]).sections.fill(
        Options, ["Example"]
    )
    assert options.name == "one"
    assert options.count == 4
    assert options.labels == {"a": "one", "b": "two", "c": "env", "d": "set"}
    assert options.origins == ("w",)
    assert options.ratio == 2.0
    assert load([one, two], environ=environ).sections.fill(Options, ["Example"]).count == 3


def test_general_sections_first_then_extra() -> None:
    config = config_of("Base: {name: base, count: 5, other: 1}\nExample: {count: 6}\n")
    assert config.sections.fill(Options, ["Base", "Example"]).name == "base"
    assert config.sections.fill(Options, ["Base", "Example"]).count == 6
    assert (
        config.sections.fill(Options, ["Base", "Example"], extra={"count": 7}, where="Ringbinder.instances.x").count
        == 7
    )
    assert config.sections.fill(Options, ["Example"]).name == "x"


def test_every_type() -> None:
    options = filled(
        """
Example:
  ratio: 1
  active: true
  token: abc
  size: 2G
  wait: 10m
  maybe: 250ms
  specs: ["^a/.*"]
  folder: /srv/x
  mode: slow
  limits: {cpu: 2, memory: 512Mi}
  origins: one
"""
    )
    assert (options.ratio, type(options.ratio)) == (1.0, float)
    assert options.active is True
    assert options.token == Secret("abc")
    assert options.size == 2 * 1024**3
    assert (options.wait, options.maybe) == (600.0, 0.25)
    assert options.specs[0].match("a/b")
    assert options.folder == Path("/srv/x")
    assert options.mode == "slow"
    assert options.limits == Limits(2.0, 512 * 1024**2)
    assert options.origins == "one"


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("1024", 1024),
        ("1K", 1024),
        ("1.5k", 1536),
        ("2MB", 2 * 1024**2),
        ("3 GiB", 3 * 1024**3),
        ("1T", 1024**4),
    ],
)
def test_sizes(value: str, size: int) -> None:
    assert filled(f"Example: {{size: {value}}}").size == size


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0), ("1.5", 1.5), ("90s", 90), ("1.5 h", 5400), ("1d", 86400), ("1w", 604800)],
)
def test_durations(value: str, seconds: float) -> None:
    assert filled(f"Example: {{wait: {value}}}").wait == seconds


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('active: "false"', "expected true or false, but it is text 'false'"),
        ("active: 0", "expected true or false, but it is a whole number 0"),
        ("count: true", "expected a whole number, but it is true"),
        ("count: 1.0", "expected a whole number, but it is a number 1.0"),
        ('count: "1"', "expected a whole number, but it is text '1'"),
        ("ratio: x", "expected a number, but it is text 'x'"),
        ("ratio: [1]", "expected a number, but it is a list"),
        ("ratio: 1" + "0" * 400, "expected a number that is not as large, but it is a whole number"),
        (
            "size: -1",
            "expected a size in bytes: a whole number, or such as 512M, 2G, but it is a whole number -1",
        ),
        ("size: 2X", "but it is text '2X'"),
        ("size: true", "but it is true"),
        ("wait: 5 minutes", "expected a duration: seconds as a number, or such as 90s, 10m, 2h, 1d, but"),
        ("wait: -1", "expected a duration"),
        ("wait: .nan", "expected a duration"),
        ("wait: .inf", "expected a duration"),
        ("maybe: x", "expected a duration"),
        ("mode: medium", "expected one of 'fast', 'slow', but it is text 'medium'"),
        ("folder: 5", "expected a path, but it is a whole number 5"),
        ("folder: ~no-such-user/x", "(for the ~ in this path)"),
        ("limits: 5", "expected a mapping of options, but it is a whole number 5"),
        ("labels: [a]", "expected a mapping, but it is a list"),
        ("specs: abc", "expected a list, but it is text 'abc'"),
        ("origins: 5", "expected text (put it between quotes) or a list, but it is a whole number 5"),
    ],
)
def test_strict_types(given: str, told: str, write: Any) -> None:
    config = load([write(f"Example:\n  {given}\n")], environ={})
    [problem] = refusals(config)
    assert re.search(r"config\.yaml, line 2: Example\.\w+: ", problem)
    assert told in problem


@pytest.mark.parametrize(
    ("given", "path", "told"),
    [
        (
            "specs: [a, '(b']",
            "specs[1]",
            "not a regular expression: missing ), unterminated subpattern at position 0",
        ),
        ("specs: [5]", "specs[0]", "expected a regular expression (put it between quotes), but it is a whole number 5"),
        ("specs: ['a{99999999999}']", "specs[0]", "not a regular expression that Python can handle: it is too large"),
        ("limits: {cpu: x}", "limits.cpu", "expected a number, but it is text 'x'"),
        ("limits: {cpus: 1}", "limits.cpus", 'unknown option. Did you mean "cpu"?'),
        ("labels: {a: 5}", "labels.a", "expected text (put it between quotes), but it is a whole number 5"),
        ("labels: {5: a}", "labels.5", "expected text (put it between quotes), but it is a whole number 5"),
        (
            "origins: [a, 5]",
            "origins[1]",
            "expected text (put it between quotes), but it is a whole number 5",
        ),
    ],
)
def test_problems_deep_inside(given: str, path: str, told: str, write: Any) -> None:
    config = load([write(f"Example:\n  {given}\n")], environ={})
    [problem] = refusals(config)
    assert problem.endswith(f"config.yaml, line 2: Example.{path}: {told}")


def test_every_problem_at_once_with_its_line(write: Any) -> None:
    core = write(
        """
Ringbinder:
  sinks: jsonlines
  bulider: local
  instances: {lab: 5}
BinderHub:
  port: 99999
  image_prefix: 5
  use_registry: "no"
  hub_ulr: https://hub.example
"""
    )
    assert problems(core) == [
        'config.yaml, line 4: Ringbinder.bulider: unknown option. Did you mean "builder"?',
        "config.yaml, line 3: Ringbinder.sinks: expected a list, but it is text 'jsonlines'",
        "config.yaml, line 5: Ringbinder.instances.lab: expected a mapping, but it is a whole number 5",
        'config.yaml, line 10: BinderHub.hub_ulr: unknown option. Did you mean "hub_url"?',
        "config.yaml, line 7: BinderHub.port: 'port' must be <= 65535: 99999",
        "config.yaml, line 8: BinderHub.image_prefix: expected text (put it between quotes), "
        "but it is a whole number 5",
        "config.yaml, line 9: BinderHub.use_registry: expected true or false, but it is text 'no'",
    ]


def test_a_refusing_validator_names_the_option(write: Any) -> None:
    assert problems(write("BinderHub:\n  port: 99999\n")) == [
        "config.yaml, line 2: BinderHub.port: 'port' must be <= 65535: 99999"
    ]


def test_error_of_a_converter_or_validator_names_the_option() -> None:
    def upper(value: str) -> str:
        if not value.isalpha():
            raise ValueError("letters alone")
        return value.upper()

    def short(options: Any, attribute: Any, value: str) -> None:
        if len(value) > 3:
            raise ValueError("at most 3 letters")

    def secret_word_is_short(options: Any, attribute: Any, value: Secret) -> None:
        if len(value.reveal()) > 3:
            raise ValueError(f"{value.reveal()} is more than 3 letters")

    def unlike_word(options: Any, attribute: Any, value: str) -> None:
        if value == options.word:
            raise ValueError("as the word")

    @frozen
    class Options:
        word: str = option("a", help="", converter=upper, validator=short)
        secret_word: Secret = option(Secret("b"), help="", validator=secret_word_is_short)
        other: str = option("c", help="", validator=[short, unlike_word])

    def reported(*sets: str) -> list[str]:
        return refusals(load(environ={}, sets=list(sets)), Options, "Own")

    assert reported("Own.word='1'", "Own.secret_word=xyzzy-plugh", "Own.other=long") == [
        "--set Own.word: Own.word: letters alone",
        "--set Own.secret_word: Own.secret_word: [secret] is more than 3 letters",
        "--set Own.other: Own.other: at most 3 letters",
    ]
    assert reported("Own.word=long") == ["--set Own.word: Own.word: at most 3 letters"]
    assert reported("Own.word=a", "Own.other=A") == ["Own: as the word"]
    config = load(environ={}, sets=["Own.word=abc"])
    assert config.sections.fill(Options, ["Own"]) == Options("abc")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ([], "needs BinderHub.build_token_secret, the same on all members"),
        (["Ringbinder.access_token=0123456789abcdef0123456789abcdef"], "leave Ringbinder.access_token out"),
        (["BinderHub.auth_enabled=true"], "leave BinderHub.auth_enabled out"),
    ],
)
def test_federation_whose_members_refuse_each_other(more: list[str], told: str) -> None:
    members = "Ringbinder.federation_members=[https://two.example]"
    with pytest.raises(ConfigError, match=told):
        load(environ={}, sets=[members, *more])
    shared = {"BINDERHUB_BUILD_TOKEN_SECRET": "ab" * 32}
    assert load(environ=shared, sets=[members]).settings.federation_members == ("https://two.example",)


@pytest.mark.parametrize("member", ["two.example", "https://two.example/", "https://*.example", "https://a; x"])
def test_federation_member_is_an_origin(member: str) -> None:
    with pytest.raises(ConfigError, match="federation_members"):
        load(environ={}, sets=[f"Ringbinder.federation_members=['{member}']"])


def test_required_option() -> None:
    variables = "RINGBINDER__Needy__url or NEEDY_URL in the environment gives it, too"
    assert refusals(load(environ={}), Needy, "Needy") == [f"Needy.url: required, but not given; {variables}"]
    instance = {"extra": {}, "where": "Ringbinder.instances.lab"}
    assert refusals(load(environ={}), Needy, "Needy", **instance) == [
        "Ringbinder.instances.lab.url: required, but not given"
    ]


def test_problems_of_an_instance_stand_where_it_stands(write: Any) -> None:
    config = load([write("Ringbinder:\n  instances:\n    lab:\n      count: x\n      nmae: y\n")], environ={})
    reported = refusals(config, extra=config.settings.instances["lab"], where="Ringbinder.instances.lab")
    assert [text.rpartition("/")[2] for text in reported] == [
        'config.yaml, line 5: Ringbinder.instances.lab.nmae: unknown option. Did you mean "name"?',
        "config.yaml, line 4: Ringbinder.instances.lab.count: expected a whole number, but it is text 'x'",
    ]


def test_unknown_options_and_sections(write: Any) -> None:
    config = load([write("Base: {nmae: a, other: b}\nExmaple: {}\nGitHubRepoProvidr: {}\n")], environ={})
    config.sections.fill(Options, ["Base", "Example"])

    @frozen
    class Another:
        other: str = ""

    config.sections.fill(Another, ["Base", "Another"])
    assert [text.rpartition("/")[2] for text in config.sections.unused()] == [
        'config.yaml, line 2: Exmaple: unknown section. Did you mean "Example"?',
        'config.yaml, line 3: GitHubRepoProvidr: unknown section. Did you mean "GitHubRepoProvider"?',
        'config.yaml, line 1: Base.nmae: unknown option. Did you mean "name"?',
    ]


def test_reported_events_are_not_reported_again(write: Any) -> None:
    config = load([write("Example: {nmae: a}\nFakeBuilder: {x: 1}\n")], environ={})
    assert len(refusals(config)) == 1
    [unknown] = config.sections.unused()
    assert unknown.endswith("FakeBuilder: unknown section.")
    assert config.sections.unused({"FakeBuilder"}) == ()


def test_known_options_are_no_error_before_anything_uses_them() -> None:
    config = config_of("GitHubRepoProvider: {access_token: x}\n")

    @frozen
    class GitHub:
        hostname: str = "github.com"

    config.sections.fill(GitHub, ["RepoProvider", "GitHubRepoProvider"])
    assert config.sections.unused() == ()
    [warning] = config.warnings
    assert "GitHubRepoProvider.access_token: known, but not used by this version" in warning


def test_own_environment_variable_fills_what_nothing_else_fills() -> None:
    environ = {"EXAMPLE_TOKEN": "0123", "EXAMPLE_LEVEL": "7"}
    assert filled(environ=environ).token == Secret("0123")
    assert filled(environ=environ).level == 7
    assert filled("Base: {level: 3}", environ=environ).level == 3
    assert filled(environ={"EXAMPLE_TOKEN": "", "EXAMPLE_LEVEL": ""}) == Options()
    assert refusals(load(environ={"EXAMPLE_LEVEL": "high"})) == [
        "environment: $EXAMPLE_LEVEL: expected a whole number, but it is text 'high'"
    ]


@pytest.mark.parametrize("text", ["0123", "1e5", "yes", "null", "*", "@x", "a: b", "[1", "x #y", "", " x ", "it's"])
def test_text_from_outside_is_taken_as_it_is(text: str) -> None:
    assert load(environ={"RINGBINDER__Example__token": text}).sections.fill(Options, ["Example"]).token == Secret(text)
    assert load(environ={}, sets=[f"Example.name={text}"]).sections.fill(Options, ["Example"]).name == text
    deep = load(environ={}, sets=[f"Ringbinder.instances.lab.name={text}"])
    extra = deep.settings.instances["lab"]
    assert deep.sections.fill(Options, [], extra=extra, where="Ringbinder.instances.lab").name == text


def test_yaml_from_outside() -> None:
    options = filled(sets=["Example.name='5'", "Example.active=true", "Example.origins=[a, b]", "Example.wait=2h"])
    assert (options.name, options.active, options.origins, options.wait) == ("5", True, ("a", "b"), 7200.0)
    assert load(environ={}, sets=["BinderHub.cors_allow_origin=*"]).binderhub.allowed_origins == ("*",)


@pytest.mark.parametrize(
    ("environ", "sets", "told"),
    [
        (
            {"RINGBINDER__BinderHub": "x"},
            [],
            "RINGBINDER__BinderHub: not of the form RINGBINDER__Section__option",
        ),
        ({"RINGBINDER__binderHub__port": "1"}, [], "RINGBINDER__binderHub__port: not of the form"),
        ({"RINGBINDER__BinderHub____x": "1"}, [], "RINGBINDER__BinderHub____x: not of the form"),
        ({}, ["BinderHub.port"], "--set: not of the form --set Section.option=value"),
        ({}, ["port=80"], "--set port: not of the form"),
        (
            {},
            ["BinderHub.port=x"],
            "--set BinderHub.port: BinderHub.port: expected a whole number, but it is text 'x'",
        ),
    ],
)
def test_malformed_settings_from_outside(environ: dict[str, str], sets: list[str], told: str) -> None:
    [problem] = problems(environ=environ, sets=sets)
    assert problem.startswith(told)


@pytest.mark.parametrize(
    "given",
    [
        "access_token: {value}\n",
        "client_secret: [{value}]\n",
        "spec_config: {{password: {value}}}\n",
        "active: {{token: {value}}}\n",
        "token: {{a: {value}}}\n",
        "token: [{value}]\n",
        "count: {value}\n  count: 2\n",
        "labels: {{api_key: [{value}]}}\n",
        "private_key: |\n    {value}\n   {value}\n",
        "token: '{value}\n",
        "token: !!float {value}\n",
        "token: !python/name:{value}\n",
        "token: !{value}\n",
        "token: !{value}!x y\n",
        "token: *{value}\n",
        "token: [&{value} a, &{value} b]\n",
        "token: %{value}\n",
        "token: @{value}\n",
        "token: `{value}\n",
        '"{value}\n',
    ],
)
@pytest.mark.parametrize("value", ["hunter22", "4711471147", "20.71171171"])
def test_no_secret_is_ever_printed(given: str, value: str, write: Any) -> None:
    try:
        config = load([write("Example:\n  " + given.format(value=value))], environ={})
        config.sections.fill(Options, ["Example"])
        shown = repr(config) + repr(config.sections.unused())
    except ConfigError as error:
        shown = str(error)
    assert value not in shown


def test_settings_do_not_show_an_instances_secrets() -> None:
    config = load(environ={}, sets=["Ringbinder.instances.lab.access_token=hunter22"])
    assert "hunter22" not in repr(config.settings) + repr(config)


def test_binderhub_settings_are_normal() -> None:
    settings = load(
        environ={},
        sets=[
            "BinderHub.base_url=binder",
            "BinderHub.badge_base_url=https://b.example",
            "BinderHub.hub_url=http://h/",
        ],
    ).binderhub
    assert settings.base_url == "/binder/"
    assert settings.badge_base_url == "https://b.example/"
    assert settings.hub_url == "http://h/"
    assert load(environ={}, sets=["BinderHub.base_url="]).binderhub.base_url == "/"
    assert load(environ={}).binderhub.allowed_origins == ()
    assert load(environ={}, sets=["BinderHub.cors_allow_origin=[a, b]"]).binderhub.allowed_origins == (
        "a",
        "b",
    )


def test_null_means_that_no_value_is_given(tmp_path: Path) -> None:
    defaults, file = tmp_path / "defaults.yaml", tmp_path / "own.yaml"
    defaults.write_text("config: {BinderHub: {port: 80, ban_networks: {10.0.0.0/8: ours, 127.0.0.0/8: here}}}")
    file.write_text("config: {BinderHub: {port: null, hub_url: null, ban_networks: {10.0.0.0/8: null}}}")
    config = load([defaults, file], environ={})
    assert config.binderhub.port == 8585
    assert list(config.binderhub.ban_networks) == ["127.0.0.0/8"]
