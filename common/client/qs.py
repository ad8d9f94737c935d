# SPDX-License-Identifier: Apache-2.0
"""qs for Python 3.9 and later, over libqs (ctypes; nothing to build).

    import qs

    with qs.open("unix:/run/qs/qs.sock", instance="zones") as db:
        db.put(b"zone:example.com", b"...")
        value = db.get(b"zone:example.com")        # bytes, or None when the key is absent
        for key, value in db.range(b"zone:", b"zone;"):
            ...
        with db.watch(b"zone:") as changes:
            for index, rows in changes:            # rows: [(key, value or None), ...]
                ...

Keys and values are bytes (str is taken as UTF-8); times are seconds. Every failure is a qs.Error:
there is a subclass for each error of the library (qs.Behind, qs.Conflict, qs.UnknownOutcome, ...),
with its number as .code. What a handle promises is in qs.h; any number of threads may use it.

The library is QS_LIBRARY of the environment, else libqs.so.1 as the system finds it.
"""
import collections
import ctypes
import os
import threading

TOKEN_BYTES = 56
OK, TIMEOUT, NOT_FOUND, CONFLICT = 0, -6, -10, -48


class Error(Exception):
    """Something that a call met; .code is its number in qs.h."""

    code = None


def _errors(**codes):
    """A class for each error; {number: class}."""
    made = {}
    for name, code in codes.items():
        made[code] = type(name, (Error,), {"code": code, "__module__": __name__})
        globals()[name] = made[code]
    return made


_ERRORS = _errors(
    IO=-2, Closed=-4, Stopped=-5, Timeout=-6, Busy=-7, Corrupt=-12, KeySize=-20, ValueSize=-21,
    BatchSize=-22, ReplySize=-23, ClientsLimit=-25, RequestSize=-26, Protocol=-30, Refused=-33,
    ReadOnly=-40, Loading=-41, Unavailable=-42, Behind=-43, Gone=-44, Diverged=-45,
    UnknownOutcome=-46, NoInstance=-47, Conflict=-48, History=-49, NoLeader=-55, Lacks=-56,
    Config=-60, Usage=-62,
)

_SHARED = ("live", "static", "none")

# A value, the version (index of the write; 0: absent) and the index of the state that was read.
Row = collections.namedtuple("Row", "value version index")


class _Bytes(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_size_t)]

    def get(self):
        return ctypes.string_at(self.data, self.size) if self.size else b""


class _Options(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("instance", ctypes.c_char_p),
        ("timeout_ms", ctypes.c_uint32),
        ("connections", ctypes.c_uint32),
        ("reply_bytes", ctypes.c_uint64),
        ("shared", ctypes.c_uint32),
        ("busy_poll", ctypes.c_uint64),
    ]


def _load():
    """The library, with the types of its calls."""
    lib = ctypes.CDLL(os.environ.get("QS_LIBRARY", "libqs.so.1"))
    handle, text, size, u64 = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64
    some, u32, to = [text, size], ctypes.c_uint32, ctypes.POINTER
    calls = {
        "qs_error_text": (text, [ctypes.c_int]),
        "qs_last_error": (text, []),
        "qs_open": (int, [to(handle), text, to(_Options)]),
        "qs_close": (None, [handle]),
        "qs_token": (int, [handle, text]),
        "qs_forget": (None, [handle]),
        "qs_result_new": (handle, []),
        "qs_result_free": (None, [handle]),
        "qs_count": (size, [handle]),
        "qs_result_index": (u64, [handle]),
        "qs_value": (int, [handle, size, to(_Bytes)]),
        "qs_key": (int, [handle, size, to(_Bytes)]),
        "qs_version": (u64, [handle, size]),
        "qs_get": (int, [handle, *some, handle]),
        "qs_get_min": (int, [handle, *some, text, handle]),
        "qs_get_at": (int, [handle, *some, u64, handle]),
        "qs_exists": (int, [handle, *some]),
        "qs_get_many": (int, [handle, size, to(_Bytes), handle]),
        "qs_index": (int, [handle, to(u64)]),
        "qs_wait": (int, [handle, text, u32, to(u64)]),
        "qs_range_open": (int, [to(handle), handle, *some, *some, u64]),
        "qs_range_next": (int, [handle, to(_Bytes), to(_Bytes)]),
        "qs_range_close": (None, [handle]),
        "qs_watch_open": (int, [to(handle), handle, *some, text]),
        "qs_watch_next": (int, [handle, u32, handle]),
        "qs_watch_close": (None, [handle]),
        "qs_put": (int, [handle, *some, *some, to(u64)]),
        "qs_delete": (int, [handle, *some, to(u64)]),
        "qs_cas": (int, [handle, *some, u64, *some, to(u64)]),
    }
    for name, (result, arguments) in calls.items():
        call = getattr(lib, name)
        call.restype = ctypes.c_int if result is int else result
        call.argtypes = arguments
    return lib


_lib = _load()


def _bytes(value):
    return value.encode() if isinstance(value, str) else bytes(value)


def _token(value):
    """A token, or an index, as the text that the library takes."""
    return str(value).encode() if isinstance(value, int) else _bytes(value)


def _raise(code):
    kind = _ERRORS.get(code, Error)
    error = kind(_lib.qs_last_error().decode(errors="replace"))
    error.code = code
    raise error


def _check(code, *others):
    """Raises unless `code` is 0 or one of `others`; returns it."""
    if code != OK and code not in others:
        _raise(code)
    return code


def _ms(seconds):
    return max(0, min(int(seconds * 1000), 0xFFFFFFFF))


class _Result:
    """Memory that the library fills. One thread's."""

    def __init__(self):
        self.at = _lib.qs_result_new()

    def __del__(self):
        if _lib is not None:  # at the interpreter's end it may be gone
            _lib.qs_result_free(self.at)

    def value(self, row):
        found = _Bytes()
        code = _check(_lib.qs_value(self.at, row, ctypes.byref(found)), NOT_FOUND)
        return None if code == NOT_FOUND else found.get()

    def key(self, row):
        found = _Bytes()
        _check(_lib.qs_key(self.at, row, ctypes.byref(found)))
        return found.get()

    def rows(self):
        index = _lib.qs_result_index(self.at)
        count = _lib.qs_count(self.at)
        return [Row(self.value(i), _lib.qs_version(self.at, i), index) for i in range(count)]


class Handle:
    """A session with one instance; see qs.open. Closed by close(), or at the end of a `with`."""

    def __init__(self, address, instance, timeout, connections, shared, busy_poll):
        options = _Options(ctypes.sizeof(_Options), None if instance is None else _bytes(instance))
        options.timeout_ms = _ms(timeout)
        options.connections = connections
        options.shared = _SHARED.index(shared)
        options.busy_poll = busy_poll
        self.own = threading.local()
        self._at = ctypes.c_void_p()
        _check(_lib.qs_open(ctypes.byref(self._at), _bytes(address), ctypes.byref(options)))

    @property
    def at(self):
        if self._at is None:
            raise ValueError("the handle is closed")
        return self._at

    def close(self):
        """No other call may be under way; ranges and watches must be closed."""
        at, self._at = self._at, None
        if at is not None:
            _lib.qs_close(at)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _result(self):
        if not hasattr(self.own, "result"):
            self.own.result = _Result()
        return self.own.result

    # ---- reads ----------------------------------------------------------------------------------

    def row(self, key, least=None, at=None):
        """A Row. `least`: a token or an index to be waited for; `at`: as of that index."""
        key, result = _bytes(key), self._result()
        if at is not None:
            code = _lib.qs_get_at(self.at, key, len(key), at, result.at)
        elif least is not None:
            code = _lib.qs_get_min(self.at, key, len(key), _token(least), result.at)
        else:
            code = _lib.qs_get(self.at, key, len(key), result.at)
        _check(code, NOT_FOUND)
        return result.rows()[0]

    def get(self, key, least=None, at=None):
        """The value, or None."""
        return self.row(key, least, at).value

    def exists(self, key):
        key = _bytes(key)
        return _check(_lib.qs_exists(self.at, key, len(key)), NOT_FOUND) == OK

    def get_many(self, keys):
        """A Row for each key, all of one state."""
        keys, result = [_bytes(key) for key in keys], self._result()
        if not keys:
            return []
        given = (_Bytes * len(keys))()
        for place, key in zip(given, keys):
            place.data = ctypes.cast(ctypes.c_char_p(key), ctypes.c_void_p)
            place.size = len(key)
        _check(_lib.qs_get_many(self.at, len(keys), given, result.at))
        return result.rows()

    def range(self, start=b"", end=b"", at=0):
        """(key, value) of [start, end) in order; empty: no bound. Each page is of one state."""
        start, end, place = _bytes(start), _bytes(end), ctypes.c_void_p()
        opened = _lib.qs_range_open(
            ctypes.byref(place), self.at, start, len(start), end, len(end), at
        )
        _check(opened)
        key, value = _Bytes(), _Bytes()
        try:
            while self.at:
                code = _lib.qs_range_next(place, ctypes.byref(key), ctypes.byref(value))
                if _check(code, NOT_FOUND) == NOT_FOUND:
                    return
                yield key.get(), value.get()
        finally:
            _lib.qs_range_close(place)

    def watch(self, prefix=b"", start=None):
        """A Watch of the keys with the prefix, from `start` (token or index), or from now on."""
        return Watch(self, prefix, start)

    # ---- indexes --------------------------------------------------------------------------------

    def index(self):
        """The visible index of the daemon."""
        index = ctypes.c_uint64()
        _check(_lib.qs_index(self.at, ctypes.byref(index)))
        return index.value

    def token(self):
        """What this handle has seen or written, as text; None: nothing yet."""
        text = ctypes.create_string_buffer(TOKEN_BYTES)
        code = _check(_lib.qs_token(self.at, text), NOT_FOUND)
        return None if code == NOT_FOUND else text.value.decode()

    def wait(self, least, timeout=5.0):
        """Waits until a token or an index is visible; returns the visible index."""
        index = ctypes.c_uint64()
        _check(_lib.qs_wait(self.at, _token(least), _ms(timeout), ctypes.byref(index)))
        return index.value

    def forget(self):
        """Begins a new session: after qs.History, when the other history is to be read."""
        _lib.qs_forget(self.at)

    # ---- writes ---------------------------------------------------------------------------------

    def put(self, key, value):
        """Writes; returns the index."""
        key, value, index = _bytes(key), _bytes(value), ctypes.c_uint64()
        at = ctypes.byref(index)
        _check(_lib.qs_put(self.at, key, len(key), value, len(value), at))
        return index.value

    def delete(self, key):
        """Deletes; returns the index at which the key is absent."""
        key, index = _bytes(key), ctypes.c_uint64()
        _check(_lib.qs_delete(self.at, key, len(key), ctypes.byref(index)))
        return index.value

    def cas(self, key, version, value):
        """Writes if the key has this version (0: is absent); returns the new one. qs.Conflict, with
        the key's version as .version, if it has another."""
        key, value, now = _bytes(key), _bytes(value), ctypes.c_uint64()
        at = ctypes.byref(now)
        code = _lib.qs_cas(self.at, key, len(key), version, value, len(value), at)
        try:
            _check(code)
        except Error as error:
            if code == CONFLICT:
                error.version = now.value
            raise
        return now.value


class Watch:
    """An endless iterator of (index, [(key, value or None), ...]). One thread's."""

    def __init__(self, db, prefix, start):
        prefix, place, self.result = _bytes(prefix), ctypes.c_void_p(), _Result()
        start = None if start is None else _token(start)
        _check(_lib.qs_watch_open(ctypes.byref(place), db.at, prefix, len(prefix), start))
        self.place = place

    def next(self, timeout):
        """The next change; without rows: all up to that index was told. None: nothing came."""
        if self.place is None:
            raise ValueError("the watch is closed")
        code = _lib.qs_watch_next(self.place, _ms(timeout), self.result.at)
        if _check(code, TIMEOUT) == TIMEOUT:
            return None
        result = self.result
        rows = [(result.key(i), result.value(i)) for i in range(_lib.qs_count(result.at))]
        return _lib.qs_result_index(result.at), rows

    def __iter__(self):
        return self

    def __next__(self):
        while True:
            change = self.next(1.0)
            if change is not None and change[1]:
                return change

    def close(self):
        place, self.place = self.place, None
        if place is not None:
            _lib.qs_watch_close(place)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def open(address, instance=None, timeout=5.0, connections=8, shared="live", busy_poll=0):
    """A Handle. `address`: "unix:/path" or "host:port"; `timeout`: for each call as a whole.
    `shared`: whether memory that the daemon shares is read: "live": as long as the daemon lives;
    "static": and while none does; "none": never. `busy_poll`: microseconds for which a call looks
    for its answer before it sleeps."""
    return Handle(address, instance, timeout, connections, shared, busy_poll)
