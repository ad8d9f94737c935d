// SPDX-License-Identifier: Apache-2.0
// libqs: reads and writes of one instance of a qs daemon, for C and C++. Link with -lqs (pkg-config
// qs).
//
// A *handle* (struct qs) is a session. Any number of threads may use it at once. It keeps a bounded
// number of connections to one daemon, opens them when they are needed and anew when they are lost.
//
// What a handle shows never goes back: a call that begins after another one has returned, in
// whatever thread, sees at least what that one saw or wrote, across connections, restarts of the
// daemon, and another daemon that answers at the same address. Where a daemon does not stand there
// yet, a read waits for it inside its time limit, and then says QS_BEHIND. After a restore, data of
// another *history* is refused with QS_HISTORY, until qs_forget.
//
// A write is sent once. If it is not known whether it was carried out, the answer is
// QS_UNKNOWN_OUTCOME; with every other error nothing was written.
//
// Errors: every call that can fail returns 0 (QS_OK) or a negative enum qs_error; ret_...
// parameters are untouched then, unless said otherwise. Sizes are bytes, times are milliseconds.
// Keys and values are any bytes; keys have 1 to 1,024, values up to 16 MiB. What is passed in is
// borrowed for the call. No call raises a signal. A handle does not survive a fork: the child opens
// its own. When memory runs out the library says so on standard error and aborts.
#ifndef QS_H
#define QS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QS_API __attribute__((visibility("default")))

struct qs;
struct qs_result;
struct qs_range;
struct qs_watch;

// Bytes that something else owns.
struct qs_bytes {
    const void *data;
    size_t size;
};

// Names, numbers and meanings are those of the daemon (docs/errors.md); a row that is not here is
// only heard from daemons, and qs_error_text knows it, too.
enum qs_error {
    QS_OK = 0,
    QS_IO = -2,               // the network reported an error
    QS_CLOSED = -4,           // nobody listens there, or the connection was closed
    QS_STOPPED = -5,          // the instance takes no updates any more
    QS_TIMEOUT = -6,          // no answer in time, or no connection free
    QS_BUSY = -7,             // a limit of the daemon is reached, and stayed so
    QS_NOT_FOUND = -10,       // absent key; end of a range
    QS_CORRUPT = -12,         // a record failed its check
    QS_KEY_SIZE = -20,        // the key is empty or too long
    QS_VALUE_SIZE = -21,      // the value is longer than the daemon takes
    QS_BATCH_SIZE = -22,
    QS_REPLY_SIZE = -23,      // more than fits into one reply
    QS_CLIENTS_LIMIT = -25,   // the daemon has too many connections
    QS_REQUEST_SIZE = -26,
    QS_PROTOCOL = -30,        // it is no qs that answers there
    QS_REFUSED = -33,         // refused for a reason that qs_last_error tells
    QS_READONLY = -40,        // writes are taken elsewhere
    QS_LOADING = -41,         // the daemon starts, and did not come to an end in time
    QS_UNAVAILABLE = -42,     // a proxy could not ask any replica for the value
    QS_BEHIND = -43,          // the daemon does not stand at the index that is needed
    QS_GONE = -44,            // the history does not reach back that far
    QS_DIVERGED = -45,
    QS_UNKNOWN_OUTCOME = -46, // the write may have been carried out, or may be still
    QS_NO_INSTANCE = -47,     // several instances are served there; name one
    QS_CONFLICT = -48,        // qs_cas: the key has another version
    QS_HISTORY = -49,         // another history than this handle has seen
    QS_NO_LEADER = -55,       // the root that takes writes is not reached: nothing was written
    QS_LACKS = -56,           // that root has to catch up first: nothing was written
    QS_CONFIG = -60,          // the address or an option is not valid
    QS_USAGE = -62            // a parameter makes no sense
};

// The text of an error. Static memory, never NULL.
QS_API const char *qs_error_text(int error);

// What the last failed call of this thread met, with the address: for logs. Valid until the
// thread's next call; "" when none has failed yet.
QS_API const char *qs_last_error(void);

// ---- handles -----------------------------------------------------------------------------------

// A daemon at a unix socket may share memory (its option share_memory). Then qs_get, qs_exists and
// qs_get_many look there first, without a system call; what they promise is the same.
enum qs_shared {
    QS_SHARED_LIVE = 0,   // as long as the daemon lives
    QS_SHARED_STATIC = 1, // and while none does: then as of the last index that it showed
    QS_SHARED_NONE = 2    // never
};

struct qs_options {
    size_t size;          // sizeof (struct qs_options): so it can grow
    const char *instance; // name; NULL: the one that the address serves
    uint32_t timeout_ms;  // for one call as a whole, reconnecting included; 0: 5,000
    uint32_t connections; // at most so many at once, 1 to 1,024; 0: 8. Others wait.
    uint64_t reply_bytes; // a longer reply is refused; 0: 128 MiB
    uint32_t shared;      // enum qs_shared
    uint64_t busy_poll;   // microseconds for which a call looks for its answer before it sleeps: a
                          // core for latency, where nobody else wants it; 0: it sleeps at once
};

// Opens a handle; connects when it is first used. `address` is "unix:/path", "10.0.0.1:7401",
// "[::1]:7401" or "localhost:7401". options may be NULL. QS_CONFIG: qs_last_error says why.
QS_API int qs_open(struct qs **ret_qs, const char *address, const struct qs_options *options);

// No call may be under way, and ranges and watches of the handle must be closed. NULL is allowed.
QS_API void qs_close(struct qs *qs);

// A token, "history:index" (C text), names a state of an instance. qs_token gives the newest one
// that this handle has seen or written, from memory: whoever passes it to qs_wait or qs_get_min on
// any node sees all that. QS_NOT_FOUND: nothing was seen yet.
#define QS_TOKEN_BYTES 56
QS_API int qs_token(struct qs *qs, char ret_token[QS_TOKEN_BYTES]);

// Begins a new session: what was seen is forgotten, and a read may show an earlier state or another
// history. The way on after QS_HISTORY.
QS_API void qs_forget(struct qs *qs);

// ---- results -----------------------------------------------------------------------------------

// What a read fills: rows with key, value and version. It owns the memory, is used again and again,
// and belongs to one thread at a time. After an error its content is not specified.
QS_API struct qs_result *qs_result_new(void);
QS_API void qs_result_free(struct qs_result *result); // NULL is allowed

// Number of rows.
QS_API size_t qs_count(const struct qs_result *result);
// The index of the state that was read.
QS_API uint64_t qs_result_index(const struct qs_result *result);
// The value of a row, in the result's memory: valid until the result is used again. QS_NOT_FOUND:
// absent (of a watch: deleted). QS_USAGE: there is no such row.
QS_API int qs_value(const struct qs_result *result, size_t row, struct qs_bytes *ret_value);
// Likewise the key of a row of qs_watch_next; QS_USAGE elsewhere.
QS_API int qs_key(const struct qs_result *result, size_t row, struct qs_bytes *ret_key);
// The index at which the value was written; 0: absent, or not told (watch: qs_result_index).
QS_API uint64_t qs_version(const struct qs_result *result, size_t row);

// ---- reads -------------------------------------------------------------------------------------

// One row: the key's value. QS_NOT_FOUND when absent; qs_result_index is valid then, too.
QS_API int qs_get(struct qs *qs, const void *key, size_t key_size, struct qs_result *result);

// As qs_get, at a state no earlier than `least`: a token, or an index as text. Waits for it inside
// the time limit; QS_BEHIND: not reached. QS_HISTORY: the token is of another history.
QS_API int qs_get_min(struct qs *qs, const void *key, size_t key_size, const char *least,
                      struct qs_result *result);

// As qs_get, as of an earlier index (or one that is waited for). QS_GONE: no longer kept.
QS_API int qs_get_at(struct qs *qs, const void *key, size_t key_size, uint64_t index,
                     struct qs_result *result);

// QS_OK or QS_NOT_FOUND. Fetches no value.
QS_API int qs_exists(struct qs *qs, const void *key, size_t key_size);

// A row for each of `count` (at least one) keys, in their order, all of one state. Where memory
// that the daemon shares knows some of them, the socket is asked for the others alone.
QS_API int qs_get_many(struct qs *qs, size_t count, const struct qs_bytes *keys,
                       struct qs_result *result);

// The visible index of the daemon.
QS_API int qs_index(struct qs *qs, uint64_t *ret_index);

// Waits until the daemon shows `least` (a token, or an index as text), up to wait_ms, beside the
// time limit for the connection. From then on this handle shows no less. QS_BEHIND: not in time.
// ret_index, the visible index, may be NULL.
QS_API int qs_wait(struct qs *qs, const char *least, uint32_t wait_ms, uint64_t *ret_index);

// ---- ranges ------------------------------------------------------------------------------------

// All keys from `start` on and before `end`, in the order of their bytes; empty: no bound. Asks for
// a page at a time, so memory is bounded, and each page is of one state, none earlier than the page
// before. With at > 0 all is as of that index. One thread at a time; closed before its handle.
QS_API int qs_range_open(struct qs_range **ret_range, struct qs *qs, const void *start,
                         size_t start_size, const void *end, size_t end_size, uint64_t at);

// The next pair, valid until the next call. QS_NOT_FOUND: the end. After another error the same
// call may be repeated, and goes on where it was. Either parameter may be NULL.
QS_API int qs_range_next(struct qs_range *range, struct qs_bytes *ret_key,
                         struct qs_bytes *ret_value);
QS_API void qs_range_close(struct qs_range *range); // NULL is allowed

// ---- watches -----------------------------------------------------------------------------------

// Tells every change of the keys that begin with `prefix` (empty: all), each once and in order, on
// a connection of its own. `from`: a token or an index as text, the first to be told; NULL: what
// comes after all that this handle and its daemon have seen. Opens nothing but the place: errors of
// the connection are told by qs_watch_next. One thread at a time; closed before its handle.
QS_API int qs_watch_open(struct qs_watch **ret_watch, struct qs *qs, const void *prefix,
                         size_t prefix_size, const char *from);

// The changes of the next index that has some: a row for each, qs_value says QS_NOT_FOUND for a
// deleted key. With no row: progress, all up to qs_result_index has been told. QS_TIMEOUT: nothing
// came in wait_ms (beside the handle's limit, where a connection has to be opened). A lost
// connection is replaced and the watch goes on where it was, so after QS_TIMEOUT, QS_CLOSED,
// QS_LOADING, QS_BUSY and QS_IO the call may be repeated. QS_GONE: the daemon no longer has what
// comes next. Reads that begin later see at least this index.
QS_API int qs_watch_next(struct qs_watch *watch, uint32_t wait_ms, struct qs_result *result);
QS_API void qs_watch_close(struct qs_watch *watch); // NULL is allowed

// ---- writes ------------------------------------------------------------------------------------

// Writes a value, or deletes a key. ret_index (may be NULL) is the index at which that is so; for a
// key that was absent already the current one.
QS_API int qs_put(struct qs *qs, const void *key, size_t key_size, const void *value,
                  size_t value_size, uint64_t *ret_index);
QS_API int qs_delete(struct qs *qs, const void *key, size_t key_size, uint64_t *ret_index);

// Writes a value if the key has this version; 0: if it is absent. ret_version (may be NULL) becomes
// the key's version: the new one, or after QS_CONFLICT the one that it has (0: absent).
QS_API int qs_cas(struct qs *qs, const void *key, size_t key_size, uint64_t version,
                  const void *value, size_t value_size, uint64_t *ret_version);

#ifdef __cplusplus
}
#endif

#endif
