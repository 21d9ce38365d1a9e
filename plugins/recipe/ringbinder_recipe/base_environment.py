"""What repo2docker's base environment has for kernels, and notebooks rely on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

ALWAYS: Final = ("ipykernel", "pip")
"""pip, since notebooks call !pip install."""
WHERE_THEY_FIT: Final[Mapping[str, str]] = {
    "ipywidgets": "ipywidgets>=8,<9",
    "nbconvert": "nbconvert",
    "nbformat": "nbformat",
}
WHERE_THEY_FIT_WITH_SERVER: Final[Mapping[str, str]] = {"notebook": "notebook>=7,<8"}
MOST_COMMON: Final = (
    "asttokens", "attrs", "beautifulsoup4", "bleach", "comm", "debugpy", "decorator", "defusedxml", "exceptiongroup",
    "executing", "fastjsonschema", "ipykernel", "ipython", "ipython-pygments-lexers", "ipywidgets", "jedi", "jinja2",
    "jsonschema", "jsonschema-specifications", "jupyter-client", "jupyter-core", "jupyterlab-pygments",
    "jupyterlab-widgets", "markupsafe", "matplotlib-inline", "mistune", "nbclient", "nbconvert", "nbformat",
    "nest-asyncio", "nest-asyncio2", "packaging", "pandocfilters", "parso", "pexpect", "pip", "platformdirs",
    "prompt-toolkit", "psutil", "ptyprocess", "pure-eval", "pygments", "python-dateutil", "pyzmq", "referencing",
    "rpds-py", "six", "soupsieve", "stack-data", "tinycss2", "tornado", "traitlets", "typing-extensions", "wcwidth",
    "webencodings", "widgetsnbextension",
    "numpy", "tzdata", "pytz", "pandas", "contourpy", "cycler", "fonttools", "kiwisolver", "pillow", "pyparsing",
    "matplotlib", "scipy", "joblib", "threadpoolctl", "scikit-learn", "seaborn",
)  # fmt: skip
"""Packages that most environments have: those above with what they depend on, then the scientific ones."""
_PLACES: Final = {name: place for place, name in enumerate(MOST_COMMON)}


def missing(installed: Collection[str]) -> list[str]:
    """Return the requirements of what is not `installed`, names that are normalized; not at the cost of a failure."""
    base = {**WHERE_THEY_FIT, **(WHERE_THEY_FIT_WITH_SERVER if "jupyter-server" in installed else {})}
    return [spec for name, spec in base.items() if name not in installed]


def by_frequency(name: str) -> tuple[int, str]:
    """Sort key of a package's normalized `name`: what most environments have comes first, in one order.

    So environments have their first layers in common, and engines share what they have unpacked only from the bottom.
    """
    return _PLACES.get(name, len(_PLACES)), name
