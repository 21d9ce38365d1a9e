"""Functions that the configuration names."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringbinder.errors import ConfigError
from ringbinder.runtime.import_string import is_named, load_named

WORD = st.from_regex(r"[^\W\d]\w*", fullmatch=True)


@given(st.lists(WORD, min_size=1), WORD)
def test_what_has_the_form(module: list[str], name: str) -> None:
    assert is_named(f"{'.'.join(module)}:{name}")


@pytest.mark.parametrize("scheme", ["http", "https"])
@given(host=st.text())
def test_an_address_never_has(scheme: str, host: str) -> None:
    assert not is_named(f"{scheme}://{host}")


@pytest.mark.parametrize("text", ["", "json", ":dumps", "json:", "a..b:c", "1a:b", "a:b:c", "a:b ", "b.example:80"])
def test_what_has_it_not(text: str) -> None:
    assert not is_named(text)
    with pytest.raises(ConfigError, match=r"Some\.option: .* must be written as module:name"):
        load_named("Some.option", text)


def test_what_it_names() -> None:
    assert load_named("Some.option", "json:dumps") is json.dumps


@pytest.mark.parametrize(("text", "words"), [("no_such.module_:x", "No module named"), ("json:no_such", "no_such")])
def test_what_cannot_be_loaded_is_reported(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"Some\.option: '{text}' cannot be loaded: .*{words}"):
        load_named("Some.option", text)
