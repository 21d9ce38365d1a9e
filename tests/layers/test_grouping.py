"""Which packages share a layer, and what changes when one of them does."""

from __future__ import annotations

from itertools import chain

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from ringbinder import digest_of
from ringbinder_layers.grouping import MOST_LAYERS, Group, group, is_shared
from ringbinder_layers.model import Package

from .places import package

MEGABYTE = 2**20
FEW = 24
"""Of 60 layers: the last third, where there are so many, and those at the package."""
_MAGNITUDES = st.integers(10, 30)


@st.composite
def locks(draw: st.DrawFn, most: int = 130) -> list[Package]:
    names = draw(st.lists(st.integers(0, 9999), unique=True, min_size=1, max_size=most))
    sizes = st.none() | _MAGNITUDES.map(lambda power: 2**power)
    return [package(f"package-{name:04}", draw(sizes)) for name in sorted(names)]


def new_groups(before: tuple[Group, ...], after: tuple[Group, ...]) -> list[Group]:
    return [each for each in after if each not in before]


def changed(of: Package, size: int | None) -> Package:
    return evolve(of, version="2", digest=digest_of(f"{of.name} 2".encode()), size=size)


@given(locks(), st.integers(1, MOST_LAYERS))
def test_groups_have_all_packages_in_their_order(lock: list[Package], most: int) -> None:
    groups = group(lock, most)
    assert list(chain.from_iterable(groups)) == lock
    assert all(groups)
    assert len(groups) <= most


@given(locks(), st.integers(1, 130))
def test_first_layers_do_not_depend_on_later_packages(lock: list[Package], length: int) -> None:
    """Engines share what they have unpacked up to the first layer that differs."""
    whole, begun = group(lock), group(lock[:length])
    same = [each for each, other in zip(begun, whole, strict=False) if each == other]
    assert len(same) >= min(len(begun) - 1, 39)


@given(locks(most=20), st.integers(2, 19))
def test_large_packages_have_layers_of_their_own(lock: list[Package], large: int) -> None:
    sizes = [10 * MEGABYTE if number % large == 0 else 1000 for number in range(len(lock))]
    groups = group([evolve(each, size=size) for each, size in zip(lock, sizes, strict=True)])
    assert all(len(part) == 1 for part in groups if any((each.size or 0) > MEGABYTE for each in part))


def test_small_packages_share_layers() -> None:
    groups = group([package(f"p{number:03}", 10_000) for number in range(100)])
    assert 15 < len(groups) < 35


@given(locks(), st.data())
def test_changed_package_changes_one_layer(lock: list[Package], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(lock) - 1))
    # A new version has about the size of the last one.
    after = [*lock[:index], changed(lock[index], lock[index].size), *lock[index + 1 :]]
    [new] = new_groups(group(lock), group(after))
    assert after[index] in new


@given(locks(), st.data())
def test_package_of_another_size_changes_few_layers(lock: list[Package], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(lock) - 1))
    after = [*lock[:index], changed(lock[index], 2 ** data.draw(_MAGNITUDES)), *lock[index + 1 :]]
    assert len(new_groups(group(lock), group(after))) <= FEW


@given(locks(), st.data())
def test_added_package_changes_few_layers(lock: list[Package], data: st.DataObject) -> None:
    after = sorted([*lock, package("package-x", 2 ** data.draw(_MAGNITUDES))], key=lambda each: each.name)
    assert len(new_groups(group(lock), group(after))) <= FEW


@given(locks(), st.data())
def test_overlapping_files_are_those_of_the_lock(lock: list[Package], data: st.DataObject) -> None:
    """Layers are laid over each other; in one, a later package's file takes the place of an earlier one's."""
    paths = {each.name: data.draw(st.sets(st.sampled_from("abc"))) for each in lock}
    installed = {path: each.name for each in lock for path in paths[each.name]}
    laid: dict[str, str] = {}
    for each in group(lock):
        laid |= {path: package.name for package in each for path in paths[package.name]}
    assert laid == installed


def test_large_packages_of_many_have_layers_of_their_own() -> None:
    lock = [package(f"p{number:03}", 50_000 if number % 5 else 40 * MEGABYTE) for number in range(127)]
    groups = group(lock)
    assert len(groups) == MOST_LAYERS
    large = {each for each in lock if (each.size or 0) > MEGABYTE}
    own = {each for part in groups if len(part) == 1 for each in part} & large
    assert len(large) == 26
    assert len(own) >= 22


@given(locks(most=90), st.data())
def test_private_packages_share_no_layer_with_others(lock: list[Package], data: st.DataObject) -> None:
    private = data.draw(st.sets(st.sampled_from(lock), max_size=10))
    groups = group([evolve(each, shared=each not in private) for each in lock])
    assert {each.name for part in groups if not is_shared(part) for each in part} == {each.name for each in private}


def test_many_private_packages_keep_to_the_limit() -> None:
    lock = [package(f"p{number:03}", shared=number % 2 == 0) for number in range(127)]
    groups = group(lock)
    assert len(groups) == MOST_LAYERS
    assert [each for part in groups for each in part] == lock
    assert all(package.shared for part in groups if is_shared(part) for package in part)


def test_group_of_nothing_has_no_layer() -> None:
    assert group([]) == ()
