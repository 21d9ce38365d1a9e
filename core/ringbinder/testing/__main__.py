"""Prints the rules of the contracts: ``python -m ringbinder.testing provider``, or of all kinds without an argument."""

from __future__ import annotations

import sys

import ringbinder.testing as suites

from .rules import as_text

KINDS = ("provider", "registry", "builder", "launcher", "sink", "policy")


def main(kinds: list[str]) -> str:
    """The rules of `kinds`, or of all. Raises SystemExit for an unknown one."""
    if unknown := set(kinds) - set(KINDS):
        raise SystemExit(f"no such kind: {', '.join(sorted(unknown))}; the kinds are {', '.join(KINDS)}")
    names = {kind: f"{kind.capitalize()}Contract" for kind in kinds or KINDS}
    return "\n".join(line for kind, name in names.items() for line in as_text(kind, getattr(suites, name)))


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1:]) + "\n")
