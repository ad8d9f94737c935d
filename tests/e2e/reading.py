# SPDX-License-Identifier: Apache-2.0
"""Redis's rules for reading requests, and what accepted writes do to a dictionary.

The fuzzer's oracle: given the bytes that were sent and the replies that came, it says what the
database must hold. Written from Redis's behaviour, not from the daemon's code.
"""
import re

from resp import RespError

NUMBER = re.compile(rb"(0|-?[1-9][0-9]{0,18})\Z")
WORDS_MAX = 1 << 20
INLINE_MAX = 65536
SPACE = b" \t\r\n\v\f\0"
ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


class Malformed(Exception):
    """The daemon answers an error and closes the connection here."""


def number(text):
    if not NUMBER.match(text):
        raise Malformed(text)
    return int(text)


def requests(data):
    """Yields requests (lists of words) until the bytes end or are malformed."""
    at = 0
    while at < len(data):
        end = data.find(b"\n", at)
        if data[at : at + 1] != b"*":
            if end < 0:
                return
            line = data[at:end]
            words = inline(line[:-1] if line.endswith(b"\r") else line)
            at = end + 1
            if words:
                yield words
            continue
        end = data.find(b"\r", at)
        if end < 0 or end + 1 >= len(data):
            return
        count = number(data[at + 1 : end])
        if count > WORDS_MAX:
            raise Malformed("count")
        at, words = end + 2, []
        for _ in range(count):
            end = data.find(b"\r", at)
            if at >= len(data):
                return
            if data[at : at + 1] != b"$":
                raise Malformed("kind")
            if end < 0 or end + 1 >= len(data):
                return
            size = number(data[at + 1 : end])
            if size < 0 or size > 512 << 20:
                raise Malformed("size")
            at = end + 2
            if at + size + 2 > len(data):
                return
            words.append(data[at : at + size])
            at += size + 2
        if words:
            yield words


def inline(line):
    """Splits as Redis does: quotes, escapes; unbalanced quotes are malformed."""
    words, at = [], 0
    while True:
        while at < len(line) and line[at : at + 1] in (b" ", b"\t", b"\r", b"\v", b"\f"):
            at += 1
        if at >= len(line) or line[at] == 0:
            return words
        word = bytearray()
        quote = None
        while True:
            char = line[at : at + 1]
            if quote:
                if not char or char == b"\0" and at >= len(line):
                    raise Malformed("quotes")
                if quote == b'"' and char == b"\\" and re.match(
                    rb"\\x[0-9a-fA-F]{2}", line[at : at + 4]
                ):
                    word.append(int(line[at + 2 : at + 4], 16))
                    at += 3
                elif quote == b'"' and char == b"\\" and at + 1 < len(line):
                    following = line[at + 1 : at + 2]
                    word += ESCAPES.get(following, following)
                    at += 1
                elif quote == b"'" and line[at : at + 2] == b"\\'":
                    word += b"'"
                    at += 1
                elif char == quote:
                    following = line[at + 1 : at + 2]
                    if following and following not in (b" ", b"\t", b"\r", b"\v", b"\f", b"\0"):
                        raise Malformed("quotes")
                    at += 1
                    break
                else:
                    word += char
            elif not char or char in (b" ", b"\n", b"\r", b"\t", b"\0"):
                break
            elif char in (b'"', b"'"):
                quote = char
            else:
                word += char
            at += 1
        words.append(bytes(word))


class Database:
    """What accepted requests of one connection after another make of a dictionary."""

    def __init__(self):
        self.data = {}

    def connection(self, sent, replies):
        """Applies one connection's requests by its replies, in order."""
        queue, at = None, 0
        try:
            for words in requests(sent):
                if at >= len(replies):
                    return
                reply, name = replies[at], words[0].upper()
                at += 1
                if isinstance(reply, RespError):
                    if name == b"EXEC":
                        queue = None
                elif name == b"MULTI":
                    queue = []
                elif name in (b"DISCARD", b"RESET"):
                    queue = None
                elif name == b"EXEC":
                    for each, answer in zip(queue or [], reply or []):
                        self.apply(each, answer)
                    queue = None
                elif name == b"QUIT":
                    return
                elif queue is not None and reply == b"QUEUED":
                    queue.append(words)
                else:
                    self.apply(words, reply)
        except Malformed:
            pass

    def apply(self, words, reply):
        name = words[0].upper()
        if isinstance(reply, RespError):
            return
        if name == b"SET":
            options = [word.upper() for word in words[3:]]
            held = words[1] in self.data
            if not (b"NX" in options and held or b"XX" in options and not held):
                self.data[words[1]] = words[2]
        elif name == b"MSET":
            self.data.update(zip(words[1::2], words[2::2]))
        elif name in (b"DEL", b"UNLINK", b"QS.DELETE"):
            for key in words[1:]:
                self.data.pop(key, None)
        elif name == b"QS.PUT":
            self.data[words[1]] = words[2]
