# SPDX-License-Identifier: Apache-2.0
"""What a reader may see: a model of one instance, and a check of answers against it.

The model holds, for each key, the indexes at which it changed. A reader's answers need not say at
which index they were given; the checker finds out whether one rising sequence of indexes explains
all of them: for each answer the set of indexes at which it would be right is a union of ranges,
and taking the least one not below the answer before is best, because it leaves the most room.
"""
import bisect

ABSENT = None


class Infeasible(AssertionError):
    """No rising sequence of indexes explains the answers."""


class Model:
    """index -> state. Index 0 is the empty database; batches come with their dense indexes."""

    def __init__(self):
        self.last = 0
        self._indexes = {}  # key -> [index, ...] rising
        self._values = {}  # key -> [value or ABSENT, ...] beside them
        self._keys = {}  # index -> {key: value}; what the batch changed
        self._counts = [0]  # keys present at index 0, 1, ...

    def write(self, index, changes):
        """The batch that took `index`: {key: value or ABSENT}."""
        if index != self.last + 1:
            raise ValueError(f"index {index} after {self.last}")
        count = self._counts[-1]
        for key, value in changes.items():
            before = self.value(key, self.last)
            count += (value is not ABSENT) - (before is not ABSENT)
            self._indexes.setdefault(key, []).append(index)
            self._values.setdefault(key, []).append(value)
        self._keys[index] = dict(changes)
        self._counts.append(count)
        self.last = index

    def value(self, key, index):
        """The key's value at `index`, ABSENT if there is none."""
        indexes = self._indexes.get(key)
        if not indexes:
            return ABSENT
        at = bisect.bisect_right(indexes, index) - 1
        return self._values[key][at] if at >= 0 else ABSENT

    def version(self, key, index):
        """The index that made the key's value at `index`; 0 when it is absent."""
        indexes = self._indexes.get(key, [])
        at = bisect.bisect_right(indexes, index) - 1
        if at < 0 or self._values[key][at] is ABSENT:
            return 0
        return indexes[at]

    def count(self, index):
        return self._counts[index]

    def state(self, index):
        out = {}
        for key in self._indexes:
            value = self.value(key, index)
            if value is not ABSENT:
                out[key] = value
        return out

    def keys(self):
        return self._indexes.keys()

    def when_value(self, key, value):
        """Ranges [first, last] of indexes at which the key had this value."""
        return self._ranges(key, lambda held: held == value)

    def when_present(self, key, present):
        return self._ranges(key, lambda held: (held is not ABSENT) == present)

    def when_length(self, key, length):
        return self._ranges(key, lambda held: (0 if held is ABSENT else len(held)) == length)

    def when_count(self, count):
        """Ranges of indexes at which the database held `count` keys."""
        ranges = []
        for index, held in enumerate(self._counts):
            if held == count:
                _extend(ranges, index, index)
        return ranges

    def when_version(self, key, version):
        """Ranges at which QS.GET would name this version (0: absent)."""
        ranges = []
        indexes = self._indexes.get(key, [])
        if version == 0:
            return self.when_present(key, False)
        at = bisect.bisect_left(indexes, version)
        if at < len(indexes) and indexes[at] == version and self._values[key][at] is not ABSENT:
            last = indexes[at + 1] - 1 if at + 1 < len(indexes) else self.last
            ranges.append((version, last))
        return ranges

    def _ranges(self, key, fits):
        ranges = []
        first, value = 0, ABSENT
        indexes = self._indexes.get(key, [])
        for at, index in enumerate(indexes):
            if fits(value):
                _extend(ranges, first, index - 1)
            first, value = index, self._values[key][at]
        if fits(value):
            _extend(ranges, first, self.last)
        return ranges


def _extend(ranges, first, last):
    if first > last:
        return
    if ranges and ranges[-1][1] + 1 == first:
        ranges[-1] = (ranges[-1][0], last)
    else:
        ranges.append((first, last))


def intersect(one, other):
    """The ranges that lie in both."""
    out, i, j = [], 0, 0
    while i < len(one) and j < len(other):
        first, last = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if first <= last:
            out.append((first, last))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return out


def at_least(ranges, index):
    """The least index in the ranges that is not below `index`, or None."""
    at = bisect.bisect_left([last for _, last in ranges], index)
    return max(ranges[at][0], index) if at < len(ranges) else None


class Reader:
    """One connection's answers, in order: each must be right at an index not below the last."""

    def __init__(self, model, floor=0):
        self.model = model
        self.index = floor  # the least index at which the last answer can have been given

    def saw(self, ranges, what="an answer"):
        index = at_least(ranges, self.index)
        if index is None:
            raise Infeasible(f"{what}: right at {ranges[-3:]}, but index {self.index} was seen")
        self.index = index
        return index

    def saw_values(self, pairs, what="values"):
        """One command's answer about several keys, all at one index: [(key, value), ...]."""
        ranges = [(0, self.model.last)]
        for key, value in pairs:
            ranges = intersect(ranges, self.model.when_value(key, value))
            if not ranges:
                raise Infeasible(f"{what}: {key!r} = {value!r} fits no index with the others")
        return self.saw(ranges, what)

    def saw_index(self, index, what="an index"):
        """The daemon named its index."""
        return self.saw([(index, index)], what)
