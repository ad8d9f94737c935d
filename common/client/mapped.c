// SPDX-License-Identifier: Apache-2.0
#include "common/client/mapped.h"

#include <sched.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/client/fault.h"
#include "common/client/handle.h"
#include "common/shared/look.h"

#define ASKED_FIRST 32 // look-ups by the socket before the first mapping: fewer are not worth one
#define GATES 16
#define ASK_NS (250 * NS_PER_MS) // at most, for new descriptors; and half of the call's time
#define RENEW_NS (10 * NS_PER_MS)
#define PAUSE_MIN_NS (50 * NS_PER_MS)
#define PAUSE_MAX_NS (2 * NS_PER_S)

struct gate {
    _Atomic uint64_t inside;
    uint8_t room[SHARED_LINE_BYTES - sizeof(uint64_t)];
};

struct mapped {
    struct gate gates[GATES];
    struct door door;
    struct qs *qs;
    bool stays;
    _Atomic bool shut;
    _Atomic uint64_t session; // counts qs_forget
    _Atomic unsigned asked;   // look-ups that came before there was a mapping
    _Atomic uint64_t next_ns; // no sooner is the daemon asked again
    _Atomic uint64_t refused; // nor while qs->lines is this; 0: it was not refused
    pthread_mutex_t lock;     // whoever exchanges the mapping
    uint64_t pause_ns;        // after a failure; under the lock
    // Changed under the lock while the gates are shut.
    bool has;
    struct look look;
    uint64_t look_session;
};

// ---- gates -------------------------------------------------------------------------------------

static struct gate *enter(struct mapped *mapped)
{
    static _Atomic unsigned threads;
    static _Thread_local unsigned number;
    if (number == 0) {
        number = atomic_fetch_add(&threads, 1) % GATES + 1;
    }
    struct gate *gate = &mapped->gates[number - 1];
    // Either this sees that the gates are shut, or who shuts them sees this: both are in one order.
    atomic_fetch_add(&gate->inside, 1);
    if (atomic_load(&mapped->shut)) {
        atomic_fetch_sub(&gate->inside, 1);
        return NULL;
    }
    return gate;
}

static void leave(struct gate *gate)
{
    atomic_fetch_sub_explicit(&gate->inside, 1, memory_order_release);
}

static void shut(struct mapped *mapped)
{
    atomic_store(&mapped->shut, true);
    for (unsigned i = 0; i < GATES; i++) {
        while (atomic_load(&mapped->gates[i].inside) != 0) {
            sched_yield();
        }
    }
}

// ---- mapping -----------------------------------------------------------------------------------

static bool is_history(const struct look *look, const char *history)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < SHARED_HISTORY_BYTES; i++) {
        uint8_t byte = look->page->history[i];
        if (history[2 * i] != digits[byte >> 4] || history[2 * i + 1] != digits[byte & 15]) {
            return false;
        }
    }
    return true;
}

// What came with the answer.
static int take(struct mapped *mapped, const struct line *line, const int *fds, unsigned count,
                struct look *ret_look)
{
    uint64_t number;
    const struct answer *no = answers_item(&line->in, 0, '-');
    const struct answer *given = answers_item(&line->in, 0, ':');
    if (no != NULL) {
        return fault_of_reply(answer_bytes(&line->in, no), &number);
    }
    if (given == NULL || (uint64_t)given->number != count) {
        return ERR_PROTOCOL;
    }
    int error = look_open(ret_look, fds, count, mapped->stays);
    if (error == OK && !is_history(ret_look, line->history)) {
        look_close(ret_look);
        error = ERR_HISTORY;
    }
    return error;
}

// By a line of its own: of the history that the handle has seen, or it is not opened.
static int ask(struct mapped *mapped, struct look *ret_look)
{
    uint64_t deadline_ns = clock_mono_ns() + u64_min(ASK_NS, mapped->qs->timeout_ns / 2);
    struct line *line;
    int error = handle_open_line(mapped->qs, deadline_ns, &line);
    if (error != OK) {
        return error;
    }
    int fds[LOOK_FDS];
    unsigned count = 0;
    line_add_text(line, "QS.MAP");
    error = line_exchange_fds(line, deadline_ns, fds, LOOK_FDS, &count);
    if (error == OK) {
        error = take(mapped, line, fds, count, ret_look);
    }
    for (unsigned i = 0; i < count; i++) {
        close(fds[i]);
    }
    line_close(line);
    mem_free(line);
    return error;
}

// Under the lock: is what is there of no more use? Who refuses is a daemon, and not the one that is
// gone: it may have begun in another directory.
static bool is_over(const struct mapped *mapped, uint64_t session, int error, bool refused)
{
    enum look_state state = look_state(&mapped->look);
    return error == OK || state == LOOK_OVER || (state == LOOK_LEFT && refused) ||
           mapped->look_session != session;
}

// Under the lock. What is there stays if it is of use and there is nothing better.
static void exchange(struct mapped *mapped)
{
    struct look look;
    uint64_t session = atomic_load(&mapped->session);
    uint64_t lines = atomic_load(&mapped->qs->lines);
    int error = ask(mapped, &look);
    bool refused = error == ERR_REFUSED || error == ERR_PROTOCOL;
    shut(mapped);
    if (mapped->has && is_over(mapped, session, error, refused)) {
        look_close(&mapped->look);
        mapped->has = false;
    }
    if (error == OK) {
        mapped->look = look;
        mapped->look_session = session;
        mapped->has = true;
    }
    atomic_store(&mapped->shut, !mapped->has);
    atomic_store(&mapped->refused, refused ? lines : 0);
    mapped->pause_ns = error == OK
                           ? 0
                           : u64_max(PAUSE_MIN_NS, u64_min(2 * mapped->pause_ns, PAUSE_MAX_NS));
    atomic_store(&mapped->next_ns,
                 clock_mono_ns() + (error == OK ? RENEW_NS : mapped->pause_ns));
}

// A daemon that shares nothing, or nothing that this version understands, goes on like that until
// it is another one; and then the handle has to open a line.
static bool is_refused(struct mapped *mapped)
{
    uint64_t refused = atomic_load(&mapped->refused);
    return refused != 0 && refused == atomic_load(&mapped->qs->lines);
}

// One thread tries, now and then; the others ask the socket meanwhile. Returns how long it took.
static uint64_t try_exchange(struct mapped *mapped)
{
    uint64_t began_ns = clock_mono_ns();
    if (is_refused(mapped) || began_ns < atomic_load(&mapped->next_ns) ||
        pthread_mutex_trylock(&mapped->lock) != 0) {
        return 0;
    }
    exchange(mapped);
    pthread_mutex_unlock(&mapped->lock);
    return clock_mono_ns() - began_ns;
}

// ---- the door ----------------------------------------------------------------------------------

// NULL: there is nothing to be looked at now.
static struct gate *come_in(struct mapped *mapped, struct door_answer *ret_answer)
{
    struct gate *gate = enter(mapped);
    *ret_answer = (struct door_answer){0};
    if (gate != NULL) {
        return gate;
    }
    if (atomic_load_explicit(&mapped->asked, memory_order_relaxed) >= ASKED_FIRST ||
        atomic_fetch_add(&mapped->asked, 1) >= ASKED_FIRST) {
        ret_answer->spent_ns = try_exchange(mapped);
    }
    return NULL;
}

static bool is_ours(struct mapped *mapped)
{
    return mapped->look_session == atomic_load(&mapped->session);
}

static void go_out(struct mapped *mapped, struct gate *gate, bool ours, bool answered,
                   struct door_answer *ret_answer)
{
    // One that stays may answer everything, and would never be exchanged.
    bool asks = !answered || mapped->stays;
    bool worn = asks && (!ours || look_state(&mapped->look) != LOOK_CURRENT);
    leave(gate);
    if (worn) {
        ret_answer->spent_ns = try_exchange(mapped);
    }
}

static void tell(struct qs_result *result, int code, const struct look_answer *answer)
{
    bool found = code == OK;
    result_one(result, found ? look_value(answer) : bytes_of(NULL, 0), found ? answer->version : 0,
               answer->index);
}

// `result` may be NULL. It is filled before the gate is left: that needs the answer, and until this
// has come from memory the processor can do the rest.
static int look(struct mapped *mapped, struct bytes key, uint64_t least, struct qs_result *result,
                struct door_answer *ret_answer)
{
    struct look_answer answer;
    struct gate *gate = come_in(mapped, ret_answer);
    if (gate == NULL) {
        return ERR_INCOMPLETE;
    }
    bool ours = is_ours(mapped);
    int code = ours ? look_up(&mapped->look, key, least, &answer) : ERR_INCOMPLETE;
    if (code != ERR_INCOMPLETE && result != NULL) {
        tell(result, code, &answer);
    }
    go_out(mapped, gate, ours, code != ERR_INCOMPLETE, ret_answer);
    ret_answer->index = code == ERR_INCOMPLETE ? 0 : answer.index;
    return code;
}

static int mapped_get(struct door *door, struct bytes key, uint64_t least,
                      struct qs_result *result, struct door_answer *ret_answer)
{
    return look(CONTAINER_OF(door, struct mapped, door), key, least, result, ret_answer);
}

static int mapped_exists(struct door *door, struct bytes key, uint64_t least,
                         struct door_answer *ret_answer)
{
    return look(CONTAINER_OF(door, struct mapped, door), key, least, NULL, ret_answer);
}

static void add_asked(const struct door_many *many, size_t row, struct qs_result *result)
{
    struct qs_bytes value = {0};
    uint64_t version = qs_value(many->asked, row, &value) == OK ? qs_version(many->asked, row) : 0;
    result_add(result, bytes_of(value.data, value.size), version);
}

// The rows as far as they are known from the first one on; false: not all are.
static bool add_rows(const struct look *look, struct door_many *many, uint64_t index,
                     struct qs_result *result)
{
    struct look_answer answer;
    bool whole = true;
    size_t row = 0;
    many->known = 0;
    for (size_t i = 0; i < many->count; i++) {
        if (many->asked != NULL && many->left[i]) {
            add_asked(many, row++, result);
            continue;
        }
        int code = look_key(look, bytes_of(many->keys[i].data, many->keys[i].size), index, &answer);
        many->left[i] = code == ERR_INCOMPLETE;
        many->known += code == ERR_INCOMPLETE ? 0 : 1;
        whole = whole && code != ERR_INCOMPLETE;
        if (whole) {
            bool found = code == OK;
            result_add(result, found ? look_value(&answer) : bytes_of(NULL, 0),
                       found ? answer.version : 0);
        }
    }
    return whole;
}

// All at the visible index; or, with rows that were asked for, all at the index of these, which the
// memory must have reached.
static int look_at_all(const struct look *look, struct door_many *many, uint64_t least,
                       struct qs_result *result, uint64_t *ret_index)
{
    uint64_t visible = look_visible(look);
    uint64_t index = many->asked == NULL ? visible : many->asked->index;
    many->known = 0;
    if (visible < u64_max(index, least)) {
        return ERR_INCOMPLETE;
    }
    result_begin(result, many->count);
    bool whole = add_rows(look, many, index, result);
    if (!look_counts(look)) {
        many->known = 0;
        return ERR_INCOMPLETE;
    }
    if (!whole) {
        return ERR_INCOMPLETE;
    }
    result_end(result, many->count, index);
    *ret_index = index;
    return OK;
}

static int mapped_get_many(struct door *door, struct door_many *many, uint64_t least,
                           struct qs_result *result, struct door_answer *ret_answer)
{
    struct mapped *mapped = CONTAINER_OF(door, struct mapped, door);
    struct gate *gate = come_in(mapped, ret_answer);
    if (gate == NULL) {
        return ERR_INCOMPLETE;
    }
    bool ours = is_ours(mapped);
    uint64_t index = 0;
    int code = ours ? look_at_all(&mapped->look, many, least, result, &index) : ERR_INCOMPLETE;
    go_out(mapped, gate, ours, code == OK, ret_answer);
    ret_answer->index = index;
    return code;
}

static void mapped_forget(struct door *door)
{
    atomic_fetch_add(&CONTAINER_OF(door, struct mapped, door)->session, 1);
}

static void mapped_close(struct door *door)
{
    struct mapped *mapped = CONTAINER_OF(door, struct mapped, door);
    if (mapped->has) {
        look_close(&mapped->look);
    }
    pthread_mutex_destroy(&mapped->lock);
    mem_free(mapped);
}

struct door *mapped_open(struct qs *qs, bool stays)
{
    static const struct door_calls calls = {.get = mapped_get,
                                            .exists = mapped_exists,
                                            .get_many = mapped_get_many,
                                            .forget = mapped_forget,
                                            .close = mapped_close};
    struct mapped *mapped = mem_zalloc(sizeof *mapped);
    mapped->door.calls = &calls;
    mapped->qs = qs;
    mapped->stays = stays;
    atomic_init(&mapped->shut, true);
    CHECK(pthread_mutex_init(&mapped->lock, NULL) == 0);
    return &mapped->door;
}
