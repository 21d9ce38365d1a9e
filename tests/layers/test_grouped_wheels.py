"""Wheels that bring the same files, in several layers: the image has what one after the other would leave."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from ringbinder_layers.grouping import group
from ringbinder_layers.wheel import write_wheel

from .layerfiles import files, writer
from .wheels import make_wheel, package_of, place

_PATHS = st.sampled_from(["shared/__init__.py", "shared/a.py", "data.txt", "tests/test_it.py"])


@given(st.lists(st.sets(_PATHS), min_size=2, max_size=10), st.integers(1, 6))
@settings(max_examples=30)
def test_grouped_wheels_give_the_files_of_the_lock(brought: list[set[str]], most: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = [f"package{number}" for number in range(len(brought))]
        wheels = [
            make_wheel(folder, each, {path: each.encode() for path in sorted(paths)})
            for each, paths in zip(names, brought, strict=True)
        ]
        packages = {package_of(wheel): wheel for wheel in wheels}

        laid: dict[str, bytes] = {}
        groups = group(list(packages), most)
        for number, each in enumerate(groups):
            laid |= _layer(folder / f"layer-{number}", [packages[package] for package in each])
        assert len(groups) == min(len(wheels), most)
        assert laid == _layer(folder / "one-layer", wheels)
        for path in {path for paths in brought for path in paths}:
            last = [each for each, paths in zip(names, brought, strict=True) if path in paths][-1]
            [content] = [content for file, content in laid.items() if file.endswith(f"/{path}")]
            assert content == last.encode()


def _layer(target: Path, wheels: list[Path]) -> dict[str, bytes]:
    """The files of a layer with these wheels."""
    with writer(target) as layer:
        for wheel in reversed(wheels):
            write_wheel(wheel, package_of(wheel), place(), layer)
        made = layer.finish()
    return files(target, made)
