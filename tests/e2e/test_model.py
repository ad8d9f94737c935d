# SPDX-License-Identifier: Apache-2.0
"""The checker itself: it must accept what is right and refuse what is wrong."""
import random

import pytest

from model import ABSENT, Infeasible, Model, Reader, at_least, intersect

pytestmark = [pytest.mark.once, pytest.mark.unsanitized("it checks the checker, in Python alone")]


def small():
    model = Model()
    model.write(1, {b"a": b"1"})
    model.write(2, {b"b": b"1"})
    model.write(3, {b"a": b"2", b"b": ABSENT})
    model.write(4, {b"a": b"1"})
    return model


def test_states():
    model = small()
    assert model.state(0) == {}
    assert model.state(2) == {b"a": b"1", b"b": b"1"}
    assert model.state(3) == {b"a": b"2"}
    assert [model.count(i) for i in range(5)] == [0, 1, 2, 1, 1]
    assert model.version(b"a", 2) == 1 and model.version(b"b", 3) == 0
    assert model.when_value(b"a", b"1") == [(1, 2), (4, 4)]
    assert model.when_value(b"b", ABSENT) == [(0, 1), (3, 4)]
    assert model.when_value(b"z", ABSENT) == [(0, 4)]
    assert model.when_length(b"b", 0) == [(0, 1), (3, 4)]
    assert model.when_version(b"a", 1) == [(1, 2)]
    assert model.when_version(b"a", 2) == []
    assert model.when_count(1) == [(1, 1), (3, 4)]


def test_indexes_are_dense():
    model = small()
    with pytest.raises(ValueError):
        model.write(6, {b"a": b"x"})


def test_ranges():
    assert intersect([(0, 4), (8, 9)], [(3, 8)]) == [(3, 4), (8, 8)]
    assert intersect([(0, 1)], [(2, 3)]) == []
    assert at_least([(1, 2), (5, 7)], 3) == 5
    assert at_least([(1, 2), (5, 7)], 6) == 6
    assert at_least([(1, 2)], 3) is None


def test_accepts_a_rising_sequence():
    reader = Reader(small())
    reader.saw_values([(b"a", b"1"), (b"b", ABSENT)])
    reader.saw_values([(b"a", b"1"), (b"b", b"1")])
    reader.saw_values([(b"b", ABSENT)])
    assert reader.index == 3
    reader.saw_values([(b"a", b"1")])
    assert reader.index == 4


def test_refuses_going_back():
    reader = Reader(small())
    reader.saw_values([(b"a", b"2")])
    with pytest.raises(Infeasible):
        reader.saw_values([(b"b", b"1")])


def test_refuses_a_state_that_never_was():
    with pytest.raises(Infeasible):
        Reader(small()).saw_values([(b"a", b"2"), (b"b", b"1")])
    with pytest.raises(Infeasible):
        Reader(small()).saw_values([(b"a", b"invented")])


def test_refuses_an_older_index_than_the_floor():
    with pytest.raises(Infeasible):
        Reader(small(), floor=3).saw_values([(b"b", b"1")])


@pytest.mark.parametrize("seed", range(20))
def test_against_brute_force(seed):
    """The greedy choice agrees with trying every sequence of indexes."""
    rng = random.Random(seed)
    model = Model()
    keys = [b"x", b"y", b"z"]
    for index in range(1, 13):
        changed = rng.sample(keys, rng.randint(1, 2))
        model.write(index, {key: rng.choice([ABSENT, b"0", b"1"]) for key in changed})
    for _ in range(200):
        answers = []
        for _ in range(4):
            asked = rng.sample(keys, rng.randint(1, 3))
            if rng.random() < 0.8:
                at = rng.randint(0, model.last)
                answers.append([(key, model.value(key, at)) for key in asked])
            else:
                answers.append([(key, rng.choice([ABSENT, b"0", b"1"])) for key in asked])
        reachable = {0}
        for answer in answers:
            right = {
                index
                for index in range(model.last + 1)
                if all(model.value(key, index) == value for key, value in answer)
            }
            lowest = min(reachable, default=model.last + 1)
            reachable = {index for index in right if index >= lowest}
        reader = Reader(model)
        try:
            for answer in answers:
                reader.saw_values(answer)
            accepted = True
        except Infeasible:
            accepted = False
        assert accepted == bool(reachable)
