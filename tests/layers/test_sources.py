"""Which indexes and channels are the operator's, and what goes to which of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from ringbinder import ConfigError
from ringbinder_layers.sources import origin, sources

ALIAS = "https://conda.example/"
FILE = "https://files.pythonhosted.org/packages/a/a-1-py3-none-any.whl"


@pytest.mark.parametrize(
    ("env", "toml"),
    [
        ({"UV_INDEX": "corp=https://u:p@corp.example/simple https://more.example/simple/"}, ""),
        ({"UV_DEFAULT_INDEX": "https://u:p@corp.example/simple", "UV_INDEX": "https://more.example/simple"}, ""),
        ({"UV_INDEX_URL": "https://u:p@corp.example/simple", "UV_EXTRA_INDEX_URL": "https://more.example/simple"}, ""),
        ({}, '[[index]]\nurl = "https://u:p@corp.example/simple"\n[[index]]\nurl = "https://more.example/simple"'),
        ({}, '[pip]\nindex-url = "https://u:p@corp.example/simple"\nextra-index-url = ["https://more.example/simple"]'),
    ],
)
def test_indexes_of_uv_are_the_operator_s(tmp_path: Path, env: Mapping[str, str], toml: str) -> None:
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").write_text(toml)
    known = sources({**env, "XDG_CONFIG_HOME": str(tmp_path)})
    assert known.allows("https://corp.example:443/files/a.whl")
    assert known.allows("https://more.example/a.whl")
    assert known.request("https://corp.example/a.whl")[1] == {"Authorization": "Basic dTpw"}
    assert known.request("https://more.example/a.whl")[1] == {}
    assert known.request(FILE)[1] == {}
    assert known.is_shared(FILE)
    assert known.is_shared("https://more.example/a.whl")
    assert not known.is_shared("https://corp.example/a.whl")
    assert not known.is_shared("https://elsewhere.example/a.whl")  # of an index with a password, perhaps


@pytest.mark.parametrize("toml", ["no TOML", "index = [1]", "[[index]]\nname = 'x'", "pip = 1"])
def test_configuration_of_uv_that_is_wrong_is_named(tmp_path: Path, toml: str) -> None:
    (tmp_path / "uv").mkdir()
    (tmp_path / "uv" / "uv.toml").write_text(toml)
    with pytest.raises(ConfigError, match=r"uv\.toml, which uv is configured with, cannot be read"):
        sources({"XDG_CONFIG_HOME": str(tmp_path)})


def test_indexes_in_a_file_that_uv_is_named_are_the_operator_s(tmp_path: Path) -> None:
    (file := tmp_path / "own.toml").write_text('[[index]]\nurl = "https://u:p@corp.example/simple"\n')
    known = sources({"UV_CONFIG_FILE": str(file)})
    assert known.index("https://corp.example/simple") == "https://u:p@corp.example/simple"
    assert not known.is_shared("https://corp.example/a.whl")
    file.write_text("")
    assert sources({"UV_CONFIG_FILE": str(file)}).digest != known.digest


@pytest.mark.parametrize(
    ("address", "real"),
    [
        ("https://pypi.org/simple", ""),
        ("https://pypi.python.org/simple/", ""),
        ("https://more.example/simple/", "https://u:p@more.example/simple"),
        ("https://other:login@more.example/simple", "https://u:p@more.example/simple"),
        ("https://more.example/simpler", None),
        ("http://more.example/simple", None),
        ("https://more.example.evil.example/simple", None),
        ("https://pypi.org.evil.example/simple", None),
        ("file:///simple", None),
        ("", None),
    ],
)
def test_index_of_a_repository_must_be_allowed(address: str, real: str | None) -> None:
    assert sources({}, ["https://u:p@more.example/simple"]).index(address) == real


def test_file_is_allowed_at_a_host_of_the_operator() -> None:
    known = sources({}, ["https://more.example/whl/cpu"], ["conda-forge", "https://own.example/c"], ALIAS)
    for address in (FILE, "https://more.example/x.whl", "https://own.example/c/x.conda", "https://conda.example/x"):
        assert known.allows(address)
    for address in ("http://more.example/x.whl", "https://more.example:8443/x.whl", "https://evil.example/x", "", "x"):
        assert not known.allows(address)


def test_token_of_a_channel_is_sent_to_the_channel_only() -> None:
    known = sources({}, [], ["https://own.example/t/tk-1/c", "https://u:p@two.example/c"], ALIAS)
    assert known.request("https://own.example/c/noarch/x.conda") == ("https://own.example/t/tk-1/c/noarch/x.conda", {})
    assert known.request("https://own.example/d/x.conda") == ("https://own.example/d/x.conda", {})
    assert known.request("https://two.example/c/x.conda")[1] == {"Authorization": "Basic dTpw"}
    assert "tk-1" not in repr(known)


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("https://conda.example/main/noarch/x.conda", True),
        ("https://own.example/d/noarch/x.conda", True),
        ("https://own.example/c/noarch/x.conda", False),
        ("https://two.example/c/noarch/x.conda", False),
    ],
)
def test_file_of_a_channel_with_a_login_is_not_open(address: str, is_open: bool) -> None:
    """Also where a lock file of a repository names it without the login."""
    known = sources({}, [], ["https://own.example/t/tk-1/c", "https://u:p@two.example/c"], ALIAS)
    assert known.is_open(address) is is_open


def test_wheel_below_a_channel_with_a_token_is_not_shared() -> None:
    assert not sources({}, [], ["https://own.example/t/tk-1/c"], ALIAS).is_shared("https://own.example/c/x.whl")


def test_digest_is_the_settings_without_credentials() -> None:
    def digest(url: str, **env: str) -> str:
        return sources({"UV_INDEX": url, **env}, [], ["https://u:p@two.example/c"], ALIAS).digest

    one = digest("https://u:p@corp.example/simple")
    assert one == digest("https://x:y@corp.example/simple", UV_CACHE_DIR="/a", UV_INDEX_CORP_PASSWORD="z")
    assert one != digest("https://u:p@other.example/simple")
    assert one != digest("https://u:p@corp.example/simple", UV_PRERELEASE="allow")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://A.example/x", "https://a.example:443"),
        ("http://u:p@a.example:80/x", "http://a.example:80"),
        ("https://a.example:nine/x", ""),
        ("ftp://a.example/x", ""),
        ("file:///x", ""),
        ("a", ""),
    ],
)
def test_origin_is_scheme_host_and_port(address: str, expected: str) -> None:
    assert origin(address) == expected
