"""Secrets do not show, and ordinary text stays as it is."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import threading
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from ringbinder.secret import HIDDEN, Secret, redact, redacted

# Neither part of a pattern that is scrubbed for its shape, nor of `HIDDEN`.
LETTERS = "abxyzABXYZ0189-_.~ é漢"
SECRETS = st.text(LETTERS, min_size=6, max_size=40).filter(lambda value: value.strip() == value)
TEXTS = st.text(LETTERS + "\n", max_size=200)


@given(SECRETS)
def test_a_secret_shows_only_when_it_is_revealed(value: str) -> None:
    secret = Secret(value)
    for shown in (str(secret), repr(secret), f"{secret}", f"{secret:>60}", f"{[secret]}", f"{secret!r}"):
        assert value not in shown
    assert secret.reveal() == value
    assert secret == Secret(value)
    assert hash(secret) == hash(Secret(value))
    assert secret != value
    assert not Secret("")
    for steal in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            steal(secret)


@given(st.lists(SECRETS, min_size=1, max_size=50), st.data())
def test_no_planted_secret_survives(values: list[str], data: st.DataObject) -> None:
    secrets = [Secret(value) for value in values]
    planted = data.draw(st.lists(st.sampled_from(values), min_size=1, max_size=5))
    text = "".join(part for value in planted for part in (data.draw(TEXTS), value)) + data.draw(TEXTS)
    shown = redact(text)
    assert HIDDEN in shown
    assert not [value for value in values if value in shown]
    assert redact(shown) == shown
    del secrets


def test_overlapping_secrets_leave_nothing_of_either() -> None:
    secrets = [Secret("abcdefgh"), Secret("fghijklm"), Secret("ababab")]
    assert redact("<abcdefghijklm>") == f"<{HIDDEN}>"
    assert redact("<abababab>") == f"<{HIDDEN}>"
    assert len(secrets) == 3


@given(st.lists(SECRETS, max_size=50), TEXTS)
def test_ordinary_text_is_unchanged(values: list[str], text: str) -> None:
    assume(not any(value in text for value in values))
    secrets = [Secret(value) for value in values]
    assert redact(text) == text
    del secrets


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/user/repo?author=me&tab=readme",
        "pip install git+https://github.com/user/repo@v1.0",
        "see https://example.org, or write to help@example.org",
        '<a href="https://example.org">x</a>@y',
        "a = b, token = c, 1 != 2; x==1.0",
        "Authorization is needed",
        "http://127.0.0.1:8888/lab/tree/a%20b.ipynb#here",
    ],
)
def test_what_looks_alike_is_unchanged(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("https://me:hunter2@example.org/x", "https://example.org/x"),
        ("https://me:hunt@er2@example.org/x", "https://example.org/x"),
        ("'https://hunter2@example.org' and ssh://hunter2@h:22/", "'https://example.org' and ssh://h:22/"),
        ("http://h/?token=hunter2&x=1", f"http://h/?token={HIDDEN}&x=1"),
        ("http://h/?x=1&Access_Token=hunter2", f"http://h/?x=1&Access_Token={HIDDEN}"),
        ("http://h/#authorization=hunter2", f"http://h/#authorization={HIDDEN}"),
        ("Authorization: Bearer hunter2", f"Authorization: Bearer {HIDDEN}"),
        ("{'authorization': 'token hunter2'}", f"{{'authorization': 'token {HIDDEN}"),
    ],
)
def test_credentials_are_known_by_their_place(text: str, hidden: str) -> None:
    assert redact(text) == hidden


def test_the_password_within_credentials_is_a_secret_of_its_own() -> None:
    lines = Secret("username=x-access-token\npassword=correct horse\n")
    form = Secret(json.dumps({"registry": "quay.io", "username": "someone", "password": 'say "please"'}))
    assert redact("it said: correct horse") == f"it said: {HIDDEN}"
    assert redact('they say "please" to quay.io') == f"they {HIDDEN} to quay.io"
    assert redact("x-access-token is the name") == "x-access-token is the name"
    assert redact("http://h/say%20%22please%22/") == f"http://h/{HIDDEN}/"
    assert lines != form


@given(st.text())
def test_any_text_may_be_secret_and_any_may_be_scrubbed(text: str) -> None:
    secret = Secret(text)
    assert len(text) < 6 or text in HIDDEN or HIDDEN in redact(f"({text})")
    redact("{" + text)
    assert secret.reveal() == text


def test_a_secret_is_scrubbed_as_long_as_an_equal_one_lives() -> None:
    first, second = Secret("correct horse"), Secret("correct horse")
    del first
    gc.collect()
    assert redact("correct horse") == HIDDEN
    del second
    gc.collect()
    assert redact("correct horse") == "correct horse"


def test_redacted_makes_plain_json() -> None:
    secret = Secret("correct horse")
    given = {"a": ("correct horse", 1, None, True, float("nan")), secret: {"b": object}, "s": b"x"}
    plain = redacted(given)
    text = json.dumps(plain, allow_nan=False)
    assert "correct horse" not in text
    assert plain["a"] == [HIDDEN, 1, None, True, "nan"]


def test_many_secrets_cost_a_log_line_little() -> None:
    secrets = [Secret(f"{n:032x}") for n in range(1000)]
    line = "Downloading numpy-2.1.3-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl (16.3 MB)\n"
    redact(line)
    started = time.process_time()
    for _ in range(1000):
        assert redact(line) is line
    assert time.process_time() - started < 0.5, "about 0.02 s are usual"
    assert len(secrets) == 1000


@pytest.mark.parametrize(
    "text", ["a" * 200_000 + "://", "?token" * 40_000 + " =", "://a" * 60_000, "authorization " * 20_000]
)
def test_time_is_linear_in_hostile_text(text: str) -> None:
    started = time.process_time()
    redact(text)
    assert time.process_time() - started < 2, "milliseconds are usual; quadratic time is minutes"


@pytest.mark.slow
def test_secrets_may_come_and_go_in_threads() -> None:
    over = threading.Event()

    def churn() -> None:
        while not over.is_set():
            [Secret(f"passing-{n}") for n in range(50)]

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        keep = Secret("staying-here")
        for _ in range(2000):
            assert redact("is it staying-here?") == f"is it {HIDDEN}?"
        assert keep
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("/v2/gh/a/b?urlpath=lab?token=hunter2", f"/v2/gh/a/b?urlpath=lab?token={HIDDEN}"),
        ("/v2?urlpath=lab%3Ftoken%3Dhunter2&x=1", f"/v2?urlpath=lab%3Ftoken%3D{HIDDEN}&x=1"),
        (
            "/v2?next=/a%253Fx%253D1%2526api_key%253Dhunter2",
            f"/v2?next=/a%253Fx%253D1%2526api_key%253D{HIDDEN}",
        ),
        ("?token=hunt?er2&a=b?c=d", f"?token={HIDDEN}&a=b?c=d"),
        ("?a%20token=hunter2", f"?a%20token={HIDDEN}"),
    ],
)
def test_a_parameter_within_the_value_of_another_is_scrubbed(text: str, hidden: str) -> None:
    assert redact(text) == hidden


def test_ten_thousand_secrets_that_come_and_go_cost_little() -> None:
    secrets = [Secret(f"username=x\npassword={n:032x}") for n in range(10_000)]
    line = "GET /user/x/api?username=someone HTTP/1.1 200 in 0.3 s, password=what the log says of it\n"
    redact(line)
    started = time.process_time()
    for n in range(1000):
        secrets[n] = Secret(f"username=x\npassword=other-{n:032x}")
        assert redact(line) is line
    assert time.process_time() - started < 0.6, "about 0.05 s are usual"
    assert redact(f"it is other-{7:032x}.") == f"it is {HIDDEN}."
