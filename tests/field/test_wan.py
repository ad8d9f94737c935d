# SPDX-License-Identifier: Apache-2.0
"""Consul servers in three data centres find each other over the field's links and measure them."""
import itertools
import math

import pytest

from qs_cluster import wait_for
from tree import CENTRES, make_net
from wan import NoConsul, program, start_servers


@pytest.fixture
def servers(tmp_path):
    try:
        program()
    except NoConsul as fault:
        pytest.skip(str(fault))
    net, made = make_net(), {}
    try:
        made = start_servers(net, tmp_path)
        yield made, net
    finally:
        for server in made.values():
            server.kill()
        net.close()


def distance_ms(a, b):
    """The round trip that two network coordinates give, as Consul's documentation defines it."""
    plain = math.dist(a["Vec"], b["Vec"]) + a["Height"] + b["Height"]
    adjusted = plain + a["Adjustment"] + b["Adjustment"]
    return (adjusted if adjusted > 0 else plain) * 1000


def measured(server):
    """{(data centre, data centre): milliseconds}, as this server knows them."""
    coordinates = {
        row["Datacenter"]: row["Coordinates"][0]["Coord"]
        for row in server.get("/v1/coordinate/datacenters") or []
        if row["Coordinates"]
    }
    return {
        pair: distance_ms(coordinates[pair[0]], coordinates[pair[1]])
        for pair in itertools.combinations(sorted(coordinates), 2)
    }


def test_servers_know_each_other_and_their_distances(servers, say):
    made, net = servers
    for server in made.values():
        assert server.members() == {f"{c}-consul.{c}": "alive" for c in CENTRES}
        assert sorted(server.get("/v1/catalog/datacenters")) == sorted(CENTRES)
    true = {
        pair: net.normal[pair].delay_ms + net.normal[pair[::-1]].delay_ms
        for pair in itertools.combinations(sorted(CENTRES), 2)
    }

    def near(found):
        return found.keys() == true.keys() and all(
            abs(found[pair] - true[pair]) < 0.3 * true[pair] for pair in true
        )

    for server in made.values():
        wait_for(lambda s=server: near(measured(s)), 120, f"{server.centre} to know the distances")
    said = measured(made[CENTRES[0]])
    say(", ".join(f"{a} - {b} {true[a, b]:.0f} ms, by coordinates {said[a, b]:.1f}"
                  for a, b in true))
