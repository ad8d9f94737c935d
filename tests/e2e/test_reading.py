# SPDX-License-Identifier: Apache-2.0
"""The fuzzer's oracle itself."""
import pytest

from reading import Database, Malformed, inline, requests
from resp import RespError, encode

pytestmark = [pytest.mark.once, pytest.mark.unsanitized("it checks the checker, in Python alone")]


def test_requests():
    assert list(requests(encode("SET", "a", "1") + b"\r\n*0\r\nGET  a\r\n")) == [
        [b"SET", b"a", b"1"], [b"GET", b"a"],
    ]
    assert list(requests(b"*2\r\n$3\r\nGET\r\n$1\r\n")) == []
    for bad in (b"*x\r\n", b"*1\r\n:1\r\n", b"*1\r\n$-1\r\n", b"*01\r\n$1\r\na\r\n"):
        with pytest.raises(Malformed):
            list(requests(bad))


def test_inline():
    assert inline(b"""set 'a b' "c\\n\\x41" d""") == [b"set", b"a b", b"c\nA", b"d"]
    for bad in (b'"a', b"'a'b", b'"a"b'):
        with pytest.raises(Malformed):
            inline(bad)


def test_database():
    database = Database()
    sent = (encode("SET", "a", "1") + encode("SET", "a", "2", "NX") + encode("MULTI")
            + encode("SET", "b", "3") + encode("EXEC") + encode("DEL", "a"))
    database.connection(sent, [b"OK", None, b"OK", b"QUEUED", [b"OK"], RespError(b"ERR")])
    assert database.data == {b"a": b"1", b"b": b"3"}
