// SPDX-License-Identifier: Apache-2.0
#include "common/client/mapped.h"

#include <sched.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/client/handle.h"
#include "common/shared/look.h"

#define ASKED_FIRST 32 // look-ups by the socket before the first mapping: fewer are not worth one
#define GATES 16
#define ASK_NS (250 * NS_PER_MS) // at most, for new descriptors
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

// By a line of its own: of the history that the handle has seen, or it is not opened.
static int ask(struct mapped *mapped, struct look *ret_look)
{
    uint64_t deadline_ns = clock_mono_ns() + u64_min(ASK_NS, mapped->qs->timeout_ns);
    struct line *line;
    int error = handle_open_line(mapped->qs, deadline_ns, &line);
    if (error != OK) {
        return error;
    }
    int fds[LOOK_FDS];
    unsigned count = 0;
    line_add_text(line, "QS.MAP");
    error = line_exchange_fds(line, deadline_ns, fds, LOOK_FDS, &count);
    const struct answer *given = answers_item(&line->in, 0, ':');
    if (error == OK && (given == NULL || (uint64_t)given->number != count)) {
        error = ERR_REFUSED;
    }
    if (error == OK) {
        error = look_open(ret_look, fds, count, mapped->stays);
    }
    if (error == OK && !is_history(ret_look, line->history)) {
        look_close(ret_look);
        error = ERR_HISTORY;
    }
    for (unsigned i = 0; i < count; i++) {
        close(fds[i]);
    }
    line_close(line);
    mem_free(line);
    return error;
}

// Under the lock. What is there stays if it is of use and there is nothing better.
static void exchange(struct mapped *mapped)
{
    struct look look;
    uint64_t session = atomic_load(&mapped->session);
    int error = ask(mapped, &look);
    shut(mapped);
    bool worn = mapped->has && (error == OK || look_state(&mapped->look) == LOOK_OVER ||
                                mapped->look_session != session);
    if (worn) {
        look_close(&mapped->look);
        mapped->has = false;
    }
    if (error == OK) {
        mapped->look = look;
        mapped->look_session = session;
        mapped->has = true;
    }
    atomic_store(&mapped->shut, !mapped->has);
    mapped->pause_ns = error == OK
                           ? 0
                           : u64_max(PAUSE_MIN_NS, u64_min(2 * mapped->pause_ns, PAUSE_MAX_NS));
    atomic_store(&mapped->next_ns,
                 clock_mono_ns() + (error == OK ? RENEW_NS : mapped->pause_ns));
}

// One thread tries, now and then; the others ask the socket meanwhile.
static void try_exchange(struct mapped *mapped)
{
    if (clock_mono_ns() < atomic_load(&mapped->next_ns) ||
        pthread_mutex_trylock(&mapped->lock) != 0) {
        return;
    }
    exchange(mapped);
    pthread_mutex_unlock(&mapped->lock);
}

// ---- the door ----------------------------------------------------------------------------------

static int look(struct mapped *mapped, struct bytes key, uint64_t least, struct look_answer *answer)
{
    struct gate *gate = enter(mapped);
    if (gate == NULL) {
        if (atomic_load_explicit(&mapped->asked, memory_order_relaxed) >= ASKED_FIRST ||
            atomic_fetch_add(&mapped->asked, 1) >= ASKED_FIRST) {
            try_exchange(mapped);
        }
        return ERR_INCOMPLETE;
    }
    bool ours = mapped->look_session == atomic_load(&mapped->session);
    int code = ours ? look_up(&mapped->look, key, least, answer) : ERR_INCOMPLETE;
    bool worn = code == ERR_INCOMPLETE && (!ours || look_state(&mapped->look) != LOOK_CURRENT);
    leave(gate);
    if (worn) {
        try_exchange(mapped);
    }
    return code;
}

static int mapped_get(struct door *door, struct bytes key, uint64_t least,
                      struct qs_result *result, uint64_t *ret_index)
{
    struct mapped *mapped = CONTAINER_OF(door, struct mapped, door);
    struct look_answer answer;
    int code = look(mapped, key, least, &answer);
    if (code == ERR_INCOMPLETE) {
        return code;
    }
    bool found = code == OK;
    result_one(result, found ? look_value(&answer) : bytes_of(NULL, 0),
               found ? answer.version : 0, answer.index);
    *ret_index = answer.index;
    return code;
}

static int mapped_exists(struct door *door, struct bytes key, uint64_t least, uint64_t *ret_index)
{
    struct mapped *mapped = CONTAINER_OF(door, struct mapped, door);
    struct look_answer answer;
    int code = look(mapped, key, least, &answer);
    if (code != ERR_INCOMPLETE) {
        *ret_index = answer.index;
    }
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
