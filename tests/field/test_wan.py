# SPDX-License-Identifier: Apache-2.0
"""Consul servers in three data centres find each other over the field's links and measure them."""
import contextlib
import itertools
import math

import pytest

import consul
import wan
from qs_cluster import wait_for
from tree import CENTRES, make_net


@pytest.fixture
def net():
    consul.program()  # skips
    with contextlib.closing(make_net()) as made:
        yield made


def distance_ms(a, b):
    """The round trip that two network coordinates give, as Consul's documentation defines it."""
    plain = math.dist(a["Vec"], b["Vec"]) + a["Height"] + b["Height"]
    adjusted = plain + a["Adjustment"] + b["Adjustment"]
    return (adjusted if adjusted > 0 else plain) * 1000


def measured(server):
    """{(data centre, data centre): milliseconds}, as this server knows them."""
    coordinates = {
        row["Datacenter"]: row["Coordinates"][0]["Coord"]
        for row in server.get("/v1/coordinate/datacenters")
        if row["Coordinates"]
    }
    return {
        pair: distance_ms(coordinates[pair[0]], coordinates[pair[1]])
        for pair in itertools.combinations(sorted(coordinates), 2)
    }


def test_servers_know_each_other_and_their_distances(net, tmp_path, say):
    true = {
        pair: net.normal[pair].delay_ms + net.normal[pair[::-1]].delay_ms
        for pair in itertools.combinations(sorted(CENTRES), 2)
    }

    def near(found):
        return found.keys() == true.keys() and all(
            abs(found[pair] - true[pair]) < 10 + 0.3 * true[pair] for pair in true
        )

    with wan.running(net, CENTRES, tmp_path) as servers:
        for server in servers.values():
            assert server.members() == {f"{c}-consul.{c}": "alive" for c in CENTRES}
            assert sorted(server.get("/v1/catalog/datacenters")) == sorted(CENTRES)
            what = f"{server.node} to know the distances"
            wait_for(lambda s=server: near(measured(s)), 120, what)
        said = measured(servers[CENTRES[0]])
    say(", ".join(f"{a} - {b} {true[a, b]:.0f} ms, by coordinates {said[a, b]:.1f}"
                  for a, b in true))
