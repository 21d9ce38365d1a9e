"""The form of configuration files: what is no YAML, no mapping, no file; Helm's values; any rubbish."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from ringbinder.config.binderhub import CHART_VALUES, OPTIONS
from ringbinder.config.loading import load
from ringbinder.config.options import option
from ringbinder.config.settings import BinderHubSettings, RingbinderSettings
from ringbinder.config.sources import NotReadable, parse
from ringbinder.errors import ConfigError


def problems(text: str | bytes, tmp_path: Path) -> list[str]:
    file = tmp_path / "config.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load([file], environ={})
    return [problem.replace(f"{file.parent}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "BinderHub:\n\tport: 1\n",
            "config.yaml, line 2, column 1: while scanning for the next token, found character '\\t'",
        ),
        (
            "BinderHub: {port: 1\n",
            "config.yaml, line 2, column 1: while parsing a flow mapping, expected ',' or '}'",
        ),
        (
            "BinderHub:\n  port: 1\n  port: 2\n",
            'config.yaml, line 3, column 3: the key "port" stands twice, first in line 2',
        ),
        ("A: {b: 1, b: 2}", 'config.yaml, line 1, column 11: the key "b" stands twice, first in line 1'),
        ("A:\n  - {b: 1, b: 2}", 'config.yaml, line 2, column 12: the key "b" stands twice'),
        (
            "A: !!python/object:os.system {}",
            "config.yaml, line 1, column 4: not a known tag; put text that begins with ! between quotes",
        ),
        ("A: 2020-99-99", "config.yaml, line 1, column 4: not a valid timestamp"),
        ("A: !!bool x", "config.yaml, line 1, column 4: not a valid bool"),
        ("A: &a [*a]", "config.yaml, line 1, column 4: a value that contains itself"),
        ("A: &a\n  b: *a", "config.yaml, line 1, column 4: a value that contains itself"),
        ("? [a]\n: 1", "config.yaml, line 1, column 3: a key is plain text"),
        ("A: *b", "config.yaml, line 1, column 4: not a known alias"),
        ("A: 1\n---\nB: 1", "config.yaml, line 2, column 1: expected a single document in the stream"),
        ("A: a\x07b", "config.yaml, line 1: YAML does not allow the character U+0007"),
        (b"A: \xff", "config.yaml: not a text file in UTF-8 (byte 3)"),
        ("[" * 5000, "config.yaml, line 1: nested too deeply"),
        ("[1]", "config.yaml: a configuration file is a mapping of sections, but this is a list"),
        ("hello", "config.yaml: a configuration file is a mapping of sections, but this is text"),
        (
            "BinderHub: 5",
            "config.yaml, line 1: BinderHub: a section is a mapping of options, but this is a whole number",
        ),
        (
            "BinderHub: {on: x}",
            "config.yaml, line 1: BinderHub.True: the name of an option is text, but this is true or",
        ),
        (
            "binderHub: {}",
            "config.yaml, line 1: binderHub: not a section: those begin with a capital letter. Did you mean",
        ),
        ("5: {}", "config.yaml, line 1: 5: not a section"),
        (
            "config: 5",
            "config.yaml, line 1: config: expected a mapping of sections, but it is a whole number",
        ),
        ("config:\n  binderhub: {}", "config.yaml, line 2: config.binderhub: not a section"),
        (
            "config: {}\nBinderHub: {}",
            "config.yaml, line 2: BinderHub: in a Helm values file, sections belong under `config:`",
        ),
        (
            "config: {}\nregistri: {}",
            'config.yaml, line 2: registri: not a value of BinderHub\'s chart. Did you mean "registry"?',
        ),
        (
            "registry: x",
            "config.yaml, line 1: registry: expected a mapping with url, username, password, but it is text",
        ),
        (
            "registry: {pasword: x}",
            'config.yaml, line 1: registry.pasword: unknown option. Did you mean "password"?',
        ),
        (
            "registry:\n  password: 5",
            "config.yaml, line 2: registry.password: expected text (put it between quotes)",
        ),
        (
            "extraConfig: {a: 'x = 1'}",
            "config.yaml, line 1: extraConfig.a: Python snippets are not run here. Instead, write what it sets "
            "below config, or write a plugin",
        ),
        (
            "extraConfig:\n  off:\n  log: |\n    def make(el): ...\n    c.EventLog.handlers_maker = make",
            "config.yaml, line 3: extraConfig.log: Python snippets are not run here. Instead, "
            "EventLog.handlers_maker: write config.EventLog.handlers_maker as module:name of that function",
        ),
        ("extraConfig: c.x = 1", "config.yaml, line 1: extraConfig: expected a mapping of Python snippets"),
        (
            "binderhub:\n  config:\n    BinderHub: {port: x}",
            "config.yaml, line 3: BinderHub.port: expected a whole number",
        ),
    ],
)
def test_refused(text: str | bytes, told: str, tmp_path: Path) -> None:
    [problem] = problems(text, tmp_path)
    assert problem.startswith(told)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "\ufeffBinderHub:\n", "config:\n", "binderhub: {}"])
def test_empty_files(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert load([file], environ={}).binderhub == BinderHubSettings()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load([tmp_path / "absent.yaml", tmp_path, Path("a\0b")], environ={})
    absent, folder, impossible = caught.value.problems
    assert absent == f"{tmp_path}/absent.yaml: cannot be read: No such file or directory"
    assert folder == f"{tmp_path}: cannot be read: Is a directory"
    assert "cannot be read" in impossible


def test_all_files_are_judged(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("BinderHub: {port: x}")
    two.write_text("BinderHub: [")
    with pytest.raises(ConfigError) as caught:
        load([one, two, tmp_path / "three.yaml"], environ={}, sets=["x"])
    assert len(caught.value.problems) == 4


def test_a_bomb_of_aliases_is_refused(tmp_path: Path) -> None:
    lines = ["A0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"A{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    [problem] = problems("\n".join(lines), tmp_path)
    assert "more than 100000 values" in problem


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    @frozen
    class Options:
        a: int = 0
        b: int = 0

    file = tmp_path / "config.yaml"
    file.write_text("One: &x {a: 1, b: 2}\nTwo:\n  <<: *x\n  b: 3\n")
    config = load([file], environ={}, sets=["One.a=9"])
    assert config.sections.fill(Options, ["One"]) == Options(9, 2)
    assert config.sections.fill(Options, ["Two"]) == Options(1, 3)


def test_values_of_one_anchor_do_not_become_one_mapping(tmp_path: Path) -> None:
    @frozen
    class Options:
        labels: dict[str, str] = option(factory=dict, help="")

    file = tmp_path / "config.yaml"
    file.write_text("One: {labels: &x {a: b}}\nTwo: {labels: *x}\n")
    config = load([file], environ={}, sets=["One.labels.c=d"])
    assert config.sections.fill(Options, ["One"]).labels == {"a": "b", "c": "d"}
    assert config.sections.fill(Options, ["Two"]).labels == {"a": "b"}


def test_problem_of_a_merged_value_stands_where_the_value_does(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("Ringbinder:\n  sinks:\n    - a\n    - 5\n")
    with pytest.raises(ConfigError) as caught:
        load([file], environ={}, sets=["Ringbinder.sinks=[1]"])
    assert str(caught.value).startswith("--set Ringbinder.sinks: Ringbinder.sinks[0]: expected text")
    with pytest.raises(ConfigError) as caught:
        load([file], environ={})
    assert str(caught.value).startswith(f"{file}, line 4: Ringbinder.sinks[1]: expected text")


KEYS = st.one_of(
    st.sampled_from(
        sorted({*OPTIONS, *CHART_VALUES, "Ringbinder", "<<"})
        + [a.name for a in (*RingbinderSettings.__attrs_attrs__, *BinderHubSettings.__attrs_attrs__)]
    ),
    st.text(max_size=8),
    st.integers(),
    st.booleans(),
    st.none(),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.binary(max_size=5),
    st.dates(),
)
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=30,
)
SNIPPETS = st.lists(
    st.sampled_from(["BinderHub:", "config:", "registry:", "port:", "1", "2020-13-01", "1:2", ".inf", "0b", "_"])
    | st.sampled_from(["*a", "&a", "-", "?", "{", "}", "[", "]", ",", "<<:", "'", '"', "|", ">", "%", "@", "#"])
    | st.sampled_from(["!!int", "!!binary", "!!set", "!!timestamp", "!x", "---", "...", "=", "~", "\\", "\x85"])
    | st.sampled_from(["\n", "\n  ", " ", "\t", "\ufeff"]),
    max_size=40,
).map("".join)


def problems_of(*files: Path, environ: dict[str, str] | None = None, sets: list[str] | None = None) -> list[str]:
    """What is wrong, if anything; whatever else is raised fails the test."""
    try:
        config = load(files, environ=environ or {}, sets=sets or [])
    except ConfigError as error:
        return list(error.problems) or ["a ConfigError without a problem"]
    return [] if isinstance(config.sections.unused() + config.warnings, tuple) else ["no tuple"]


def survives(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_bytes(content)
        assert all(problem.startswith(str(file)) for problem in problems_of(file))


@given(TREES)
def test_any_tree(tree: Any) -> None:
    survives(yaml.safe_dump(tree, allow_unicode=True).encode())


@given(st.dictionaries(st.sampled_from(["BinderHub", "Ringbinder", "config", "registry"]), TREES))
def test_any_tree_in_our_sections(tree: Any) -> None:
    survives(yaml.safe_dump(tree).encode())


@given(st.text() | SNIPPETS)
@settings(max_examples=300)
def test_any_text(text: str) -> None:
    survives(text.encode(errors="surrogatepass"))


@given(st.binary())
def test_any_bytes(content: bytes) -> None:
    survives(content)


@given(
    st.dictionaries(
        st.text("ABab_", max_size=12).map("RINGBINDER__".__add__)
        | st.sampled_from(["RINGBINDER__BinderHub__port", "RINGBINDER__Ringbinder__instances__a__b"]),
        st.text(max_size=20) | SNIPPETS,
    ),
    st.lists(st.text(max_size=10) | st.builds("BinderHub.{}={}".format, st.sampled_from(["port", "x"]), SNIPPETS)),
)
def test_any_environment_and_sets(environ: dict[str, str], sets: list[str]) -> None:
    for problem in problems_of(environ=environ, sets=sets):
        assert problem.startswith((*environ, "--set"))


@given(TREES)
def test_parse_gives_what_was_dumped(tree: Any) -> None:
    text = yaml.safe_dump(tree)
    try:
        value, _ = parse(text)
    except NotReadable:
        value = None
    # A key "<<" is a merge key, whatever was meant.
    assert repr(value) == repr(yaml.safe_load(text)) or "<<" in text


def test_image_of_binderhub_in_helm_values_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("config: {}\nimage:\n  name: quay.io/jupyterhub/k8s-binderhub\n")
    with pytest.raises(ConfigError, match=r"line 3: image\.name: quay\.io/jupyterhub/k8s-binderhub holds BinderHub"):
        load([file], environ={})
