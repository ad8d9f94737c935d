# SPDX-License-Identifier: Apache-2.0
"""What goes on beside a test."""
import threading


class Task(threading.Thread):
    """Works with a node until it is told to end; whatever goes wrong fails the test then."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node, self.ended, self.fault = node, threading.Event(), None

    def run(self):
        try:
            self.work()
        except BaseException as fault:  # shown by the test
            self.fault = fault

    def end(self):
        self.ended.set()
        self.join()
        assert self.fault is None, f"{self.node.name}: {self.fault}"
