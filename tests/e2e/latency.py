# SPDX-License-Identifier: Apache-2.0
"""What a reader waits for."""
import random
import statistics
import time

from resp import RespError


def p99_us(conn, keys, seconds):
    """Of single reads, one after another, in one window; `keys` gives the key of each."""
    taken, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        key = next(keys)
        begun = time.perf_counter_ns()
        reply = conn.call("GET", key)
        taken.append(time.perf_counter_ns() - begun)
        assert reply is not None and not isinstance(reply, RespError)
    return statistics.quantiles(taken, n=100)[98] / 1000


def any_of(key_of, count):
    """Keys of random numbers, the same in each window."""
    rng = random.Random(4)
    while True:
        yield key_of(rng.randrange(count))
