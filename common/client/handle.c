// SPDX-License-Identifier: Apache-2.0
#include "common/client/handle.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/client/fault.h"
#include "common/client/mapped.h"
#include "common/client/qs.h"
#include "common/wire/resp.h"

#define TIMEOUT_MS 5000
#define CONNECTIONS 8
#define CONNECTIONS_MAX 1024
#define REPLY_BYTES (128 * MIB)
#define BUSY_POLL_MAX 10000

_Static_assert(QS_TOKEN_BYTES >= HISTORY_DIGITS + 1 + 20 + 1, "a token fits");

// ---- opening and closing -----------------------------------------------------------------------

static struct qs *create(const struct qs_options *given)
{
    struct qs *qs = mem_zalloc(sizeof *qs);
    qs->timeout_ns = (given->timeout_ms > 0 ? given->timeout_ms : TIMEOUT_MS) * NS_PER_MS;
    qs->connections = given->connections > 0 ? given->connections : CONNECTIONS;
    qs->reply_bytes = given->reply_bytes > 0 ? given->reply_bytes : REPLY_BYTES;
    qs->busy_ns = given->busy_poll * NS_PER_US;
    qs->instance = given->instance == NULL ? NULL : mem_text(given->instance);
    list_init(&qs->idle);
    pthread_condattr_t monotonic;
    CHECK(pthread_condattr_init(&monotonic) == 0);
    CHECK(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(&qs->freed, &monotonic) == 0);
    CHECK(pthread_mutex_init(&qs->lock, NULL) == 0);
    pthread_condattr_destroy(&monotonic);
    return qs;
}

int qs_open(struct qs **ret_qs, const char *address, const struct qs_options *options)
{
    struct qs_options given = {0};
    if (options != NULL) {
        if (options->size < offsetof(struct qs_options, instance)) {
            return fault(ERR_CONFIG, "qs_options.size must be sizeof (struct qs_options)");
        }
        memcpy(&given, options, u64_min(options->size, sizeof given));
    }
    struct address parsed;
    const char *reason;
    if (address == NULL || address_parse(&parsed, address, &reason) != OK) {
        return address == NULL ? fault(ERR_CONFIG, "no address was given")
                               : fault(ERR_CONFIG, "address '%s': %s", address, reason);
    }
    if (given.connections > CONNECTIONS_MAX) {
        return fault(ERR_CONFIG, "connections = %u: 1 to %u are allowed", given.connections,
                     CONNECTIONS_MAX);
    }
    if (given.shared > QS_SHARED_NONE) {
        return fault(ERR_CONFIG, "shared = %u is none of QS_SHARED_...", given.shared);
    }
    if (given.busy_poll > BUSY_POLL_MAX) {
        return fault(ERR_CONFIG, "busy_poll = %llu: 0 to %d microseconds are allowed",
                     (unsigned long long)given.busy_poll, BUSY_POLL_MAX);
    }
    struct qs *qs = create(&given);
    qs->address = parsed;
    qs->where = mem_text(address);
    if (given.shared != QS_SHARED_NONE && parsed.storage.ss_family == AF_UNIX) {
        qs->door = mapped_open(qs, given.shared == QS_SHARED_STATIC);
    }
    *ret_qs = qs;
    return OK;
}

static void close_line(struct line *line)
{
    line_close(line);
    mem_free(line);
}

static void close_all(struct list *lines)
{
    struct list *node;
    while ((node = list_take(lines)) != NULL) {
        close_line(CONTAINER_OF(node, struct line, node));
    }
}

void qs_close(struct qs *qs)
{
    if (qs == NULL) {
        return;
    }
    if (qs->door != NULL) {
        qs->door->calls->close(qs->door);
    }
    close_all(&qs->idle);
    pthread_cond_destroy(&qs->freed);
    pthread_mutex_destroy(&qs->lock);
    mem_free(qs->where);
    mem_free(qs->instance);
    mem_free(qs);
}

// ---- the session -------------------------------------------------------------------------------

// Session and index in one word, so that what a call of the session before has seen cannot slip
// into the next one, which may be of another history.
#define INDEX_BITS 56
#define INDEX_MASK (((uint64_t)1 << INDEX_BITS) - 1)
#define SESSION_MASK (UINT64_MAX >> INDEX_BITS)

struct seen handle_seen(const struct qs *qs)
{
    uint64_t seen = atomic_load(&qs->seen);
    return (struct seen){.session = seen >> INDEX_BITS, .index = seen & INDEX_MASK};
}

void handle_saw(struct qs *qs, uint64_t session, uint64_t index)
{
    uint64_t to = session << INDEX_BITS | (index & INDEX_MASK);
    uint64_t seen = atomic_load(&qs->seen);
    while (seen >> INDEX_BITS == to >> INDEX_BITS && seen < to &&
           !atomic_compare_exchange_weak(&qs->seen, &seen, to)) {
    }
}

int qs_token(struct qs *qs, char ret_token[QS_TOKEN_BYTES])
{
    pthread_mutex_lock(&qs->lock);
    bool seen = qs->history[0] != '\0';
    if (seen) {
        snprintf(ret_token, QS_TOKEN_BYTES, "%s:%llu", qs->history,
                 (unsigned long long)handle_seen(qs).index);
    }
    pthread_mutex_unlock(&qs->lock);
    return seen ? OK : fault(ERR_NOT_FOUND, "%s: nothing was seen yet", qs->where);
}

void qs_forget(struct qs *qs)
{
    struct list old;
    list_init(&old);
    pthread_mutex_lock(&qs->lock);
    if (qs->door != NULL) {
        qs->door->calls->forget(qs->door);
    }
    qs->session++;
    qs->history[0] = '\0';
    atomic_store(&qs->seen, qs->session << INDEX_BITS);
    LIST_FOR_EACH(node, &qs->idle) {
        qs->open--;
    }
    list_move_all(&old, &qs->idle);
    pthread_cond_broadcast(&qs->freed);
    pthread_mutex_unlock(&qs->lock);
    close_all(&old);
}

// ---- opening a line ----------------------------------------------------------------------------

static int refused(const struct qs *qs, const struct line *line, const struct answer *item)
{
    struct bytes text = answer_bytes(&line->in, item);
    uint64_t number;
    return fault(fault_of_reply(text, &number), "%s: %.*s", qs->where, (int)text.size,
                 (const char *)text.data);
}

// Reads "history:index", the answer of QS.INDEX TOKEN.
static bool read_token(struct line *line, struct bytes token)
{
    if (token.size < HISTORY_DIGITS + 2 || token.data[HISTORY_DIGITS] != ':') {
        return false;
    }
    memcpy(line->history, token.data, HISTORY_DIGITS);
    struct bytes index = bytes_of(token.data + HISTORY_DIGITS + 1, token.size - HISTORY_DIGITS - 1);
    return parse_u64(index, &line->seen);
}

// Chooses the instance and learns what the daemon shows.
static int greet(struct qs *qs, struct line *line, uint64_t deadline_ns)
{
    unsigned replies = 1;
    if (qs->instance != NULL) {
        replies = 2;
        struct bytes words[] = {bytes_text("SELECT"), bytes_text(qs->instance)};
        line_add(line, 2, words);
    }
    line_add_text(line, "QS.INDEX TOKEN");
    int error = line_exchange(line, replies, deadline_ns);
    const struct answer *no = answers_item(&line->in, 0, '-');
    if (no != NULL) { // it may have closed behind that, as with too many clients
        int code = refused(qs, line, no);
        return code != ERR_REFUSED || qs->instance == NULL
                   ? code
                   : fault(ERR_NO_INSTANCE, "%s: no instance '%s' is served there", qs->where,
                           qs->instance);
    }
    if (error != OK) {
        return fault(error, "%s: no answer to the greeting: %s", qs->where, error_text(error));
    }
    size_t at = line->in.starts[replies - 1];
    no = answers_item(&line->in, at, '-');
    if (no != NULL) {
        return refused(qs, line, no);
    }
    const struct answer *token = answers_item(&line->in, at, '$');
    if (token == NULL || !read_token(line, answer_bytes(&line->in, token))) {
        return fault(ERR_PROTOCOL, "%s: it is no qs that answers there", qs->where);
    }
    line_reset(line);
    return OK;
}

// The first line of a session says which history it is about.
static int join(struct qs *qs, struct line *line)
{
    pthread_mutex_lock(&qs->lock);
    if (qs->history[0] == '\0') {
        memcpy(qs->history, line->history, sizeof qs->history);
    }
    bool same = strcmp(qs->history, line->history) == 0;
    line->session = qs->session;
    pthread_mutex_unlock(&qs->lock);
    return same ? OK
                : fault(ERR_HISTORY, "%s: the data there is of history %s, not of the one seen "
                                     "before", qs->where, line->history);
}

int handle_open_line(struct qs *qs, uint64_t deadline_ns, struct line **ret_line)
{
    struct line *line = mem_zalloc(sizeof *line);
    int error = line_open(line, &qs->address, qs->reply_bytes, deadline_ns);
    if (error != OK) {
        mem_free(line);
        int code = error == ERR_BUSY || error == ERR_TIMEOUT ? error : ERR_CLOSED;
        return fault(code, "%s: cannot connect: %s (is qsd running there?)", qs->where,
                     error_text(error));
    }
    line->spin.for_ns = qs->busy_ns;
    error = greet(qs, line, deadline_ns);
    if (error == OK) {
        error = join(qs, line);
    }
    if (error != OK) {
        close_line(line);
        return error;
    }
    *ret_line = line;
    return OK;
}

// ---- lending lines -----------------------------------------------------------------------------

// Waits for a place. *ret_line is NULL: a new line may be opened, it is counted already.
static int take_place(struct qs *qs, uint64_t deadline_ns, struct line **ret_line)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / NS_PER_S),
                             .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    int code = 0;
    pthread_mutex_lock(&qs->lock);
    while (list_empty(&qs->idle) && qs->open >= qs->connections && code == 0) {
        code = pthread_cond_timedwait(&qs->freed, &qs->lock, &until);
    }
    struct list *node = list_take(&qs->idle);
    bool found = node != NULL || qs->open < qs->connections;
    if (node == NULL && found) {
        qs->open++;
    }
    pthread_mutex_unlock(&qs->lock);
    if (!found) {
        return fault(ERR_TIMEOUT, "%s: all %u connections were in use", qs->where,
                     qs->connections);
    }
    *ret_line = node == NULL ? NULL : CONTAINER_OF(node, struct line, node);
    return OK;
}

static void leave_place(struct qs *qs)
{
    pthread_mutex_lock(&qs->lock);
    qs->open--;
    pthread_cond_signal(&qs->freed);
    pthread_mutex_unlock(&qs->lock);
}

int handle_take(struct qs *qs, uint64_t deadline_ns, struct line **ret_line, uint64_t *ret_newest)
{
    struct line *line = NULL;
    int error = take_place(qs, deadline_ns, &line);
    if (error != OK) {
        return error;
    }
    if (line != NULL && !line_is_quiet(line)) {
        close_line(line);
        line = NULL;
    }
    if (line == NULL) {
        error = handle_open_line(qs, deadline_ns, &line);
        if (error != OK) {
            leave_place(qs);
            return error;
        }
        atomic_fetch_add(&qs->lines, 1);
    }
    struct seen seen = handle_seen(qs);
    *ret_newest = seen.session == (line->session & SESSION_MASK) ? seen.index : 0;
    *ret_line = line;
    return OK;
}

void handle_give(struct qs *qs, struct line *line, bool usable, uint64_t index)
{
    line_reset(line);
    handle_saw(qs, line->session, index);
    pthread_mutex_lock(&qs->lock);
    bool kept = usable && line->session == qs->session;
    if (kept) {
        // In front: the line that was used last is used next, the others stay idle.
        list_append(qs->idle.next, &line->node);
    } else {
        qs->open--;
    }
    pthread_cond_signal(&qs->freed);
    pthread_mutex_unlock(&qs->lock);
    if (!kept) {
        close_line(line);
    }
}
