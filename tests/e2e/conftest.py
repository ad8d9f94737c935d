# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a cluster that is ended, checked for complaints, and shown when the test failed."""
import faulthandler
import os
import shutil
import sys

import pytest

from qs_cluster import QSD, SLOW, Cluster

LIMIT_S = 240  # of one test; a hang must show where, not stall the run


def pytest_addoption(parser):
    parser.addoption("--keep", action="store_true", help="keep the data directories of all tests")


def pytest_report_header(config):
    return f"qsd: {QSD}, io: {os.environ.get('QS_IO', 'auto')}"


def pytest_collection_modifyitems(items):
    """The long ones first: else all processes would wait for one of them in the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScheduling

    class FromBothEnds(LoadScheduling):
        """A process has the test that it runs and the next one, and no share of all in advance.
        Half of them begin with the long ones, which keep the processors busy, half at the other
        end, with tests that mostly wait."""

        def _send_tests(self, node, num):
            num = min(num, 2 - len(self.node2pending[node]))
            begins_behind = self.nodes.index(node) % 2
            if begins_behind:
                self.pending.reverse()
            super()._send_tests(node, num)
            if begins_behind:
                self.pending.reverse()

    return FromBothEnds(config, log)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.call_failed = outcome.get_result().failed


@pytest.fixture
def say(record_property):
    """A figure that the run shall show: printed at its end, from whichever process ran the test."""
    return lambda text: record_property("said", text)


def pytest_terminal_summary(terminalreporter):
    said = [
        (report.nodeid.rpartition("::")[2], text)
        for report in terminalreporter.getreports("passed")
        for name, text in report.user_properties
        if name == "said" and report.when == "call"
    ]
    if said:
        terminalreporter.section("figures")
        for test, text in said:
            terminalreporter.line(f"{test}: {text}")


@pytest.fixture(autouse=True)
def bounded(request):
    marker = request.node.get_closest_marker("limit")
    seconds = (marker.args[0] if marker else LIMIT_S) * SLOW
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def cluster(tmp_path, request):
    yield from lend(tmp_path, request)


@pytest.fixture(scope="module")
def shared(tmp_path_factory, request):
    """A cluster for all tests of a module that leave the nodes as they found them."""
    yield from lend(tmp_path_factory.mktemp("shared"), request)


def lend(directory, request):
    if not QSD.exists():
        pytest.fail(f"{QSD} is not built")
    made = Cluster(directory)
    failed_before = request.session.testsfailed
    yield made
    failed = request.session.testsfailed > failed_before or getattr(
        request.node, "call_failed", False
    )
    try:
        made.close()
    except BaseException:
        failed = True
        made.abandon()
        raise
    finally:
        if failed:
            show(made)
        elif not request.config.getoption("--keep"):
            shutil.rmtree(directory, ignore_errors=True)


def show(made):
    for node in made.nodes.values():
        print(node.tail())
        for line in node.reports():
            print(f"REPORT {node.name}: {line}")
