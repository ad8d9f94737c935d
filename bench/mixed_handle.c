// SPDX-License-Identifier: Apache-2.0
// A handle of libqs that reads at one node, over its socket at the readers' rate, or with the
// memory that it shares as fast as it goes. Most keys are never written, others are hot, and some
// are just being written, one after another: whoever finds one must find the one before it. What
// the memory answered is counted at the handle's own door.
#include <inttypes.h>

#include "bench/mixed_judge.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/client/handle.h"
#include "common/client/qs.h"

#define TIMEOUT_MS 2000
#define MANY 4         // keys of one qs_get_many
#define COUNT_EVERY 256 // look-ups
#define AHEAD 2        // fresh keys that are yet to be written
#define BACK_BITS 12   // ... and how far behind the newest one
#define PAUSE_NS NS_PER_MS

struct counting {
    struct door door, *inner;
    uint64_t answered; // keys
};

struct reader {
    struct mixed *mixed;
    unsigned number; // as a session's, behind all of them
    size_t node;
    bool maps;
    struct qs *qs;
    struct qs_result *result;
    struct draw draw;
    struct zipf zipf;
    struct mixed_judge judge;
    struct counting counting;
    uint64_t seen; // index
    uint64_t began_ns;
    uint64_t looked, counted, absent, answered; // so far, and of it in the common counts
};

// ---- the door, counted --------------------------------------------------------------------------

static struct counting *counting_of(struct door *door)
{
    return CONTAINER_OF(door, struct counting, door);
}

static int count_get(struct door *door, struct bytes key, uint64_t least, struct qs_result *result,
                     struct door_answer *ret_answer)
{
    struct counting *counting = counting_of(door);
    int code = counting->inner->calls->get(counting->inner, key, least, result, ret_answer);
    counting->answered += code != ERR_INCOMPLETE;
    return code;
}

static int count_exists(struct door *door, struct bytes key, uint64_t least,
                        struct door_answer *ret_answer)
{
    struct counting *counting = counting_of(door);
    int code = counting->inner->calls->exists(counting->inner, key, least, ret_answer);
    counting->answered += code != ERR_INCOMPLETE;
    return code;
}

static int count_many(struct door *door, struct door_many *many, uint64_t least,
                      struct qs_result *result, struct door_answer *ret_answer)
{
    struct counting *counting = counting_of(door);
    int code = counting->inner->calls->get_many(counting->inner, many, least, result, ret_answer);
    counting->answered += code == OK ? many->known : 0;
    return code;
}

static void count_forget(struct door *door)
{
    struct counting *counting = counting_of(door);
    counting->inner->calls->forget(counting->inner);
}

static void count_close(struct door *door)
{
    struct counting *counting = counting_of(door);
    counting->inner->calls->close(counting->inner);
}

static void count_door(struct reader *reader)
{
    static const struct door_calls calls = {.get = count_get,
                                            .exists = count_exists,
                                            .get_many = count_many,
                                            .forget = count_forget,
                                            .close = count_close};
    CHECK(reader->qs->door != NULL);
    reader->counting = (struct counting){.door.calls = &calls, .inner = reader->qs->door};
    reader->qs->door = &reader->counting.door;
}

// ---- answers ------------------------------------------------------------------------------------

// Only what the contract lets a node, or a handle without one, say.
static void on_error(struct reader *reader, const char *call, int error)
{
    struct mixed *mixed = reader->mixed;
    switch (error) {
    case QS_UNAVAILABLE:
        atomic_fetch_add(&mixed->unavailable, 1);
        return;
    case QS_CLOSED:
    case QS_TIMEOUT:
    case QS_BUSY:
    case QS_LOADING:
    case QS_BEHIND:
    case QS_CLIENTS_LIMIT:
    case QS_IO:
        atomic_fetch_add(&mixed->refused, 1);
        clock_sleep_ns(PAUSE_NS);
        return;
    default:
        atomic_fetch_add(&mixed->wrong, 1);
        mixed_fault(mixed, "session %u at %s: %s: %s (%s)", reader->number,
                    mixed->options->nodes[reader->node], call, qs_error_text(error),
                    qs_last_error());
    }
}

static void take_row(struct reader *reader, uint64_t key, size_t at)
{
    struct mixed *mixed = reader->mixed;
    struct qs_bytes value;
    struct mixed_row row = {.key = key,
                            .version = qs_version(reader->result, at),
                            .index = qs_result_index(reader->result),
                            .session = reader->number,
                            .node = reader->node};
    bool found = qs_value(reader->result, at, &value) == QS_OK;
    if (found) {
        row.serial = mixed_serial(mixed, key, bytes_of(value.data, value.size));
    }
    if (found != (row.serial != 0) || found != (row.version != 0)) {
        atomic_fetch_add(&mixed->wrong, 1);
        mixed_fault(mixed, "session %u at %s: key %" PRIu64 " at index %" PRIu64
                    ": not a value of this key", reader->number,
                    mixed->options->nodes[reader->node], key, row.index);
    } else if (key < mixed_keys(mixed) || found) {
        mixed_judge_add(&reader->judge, &row);
    }
    reader->absent += found ? 0 : 1;
    reader->looked++;
}

static void see(struct reader *reader, const char *call)
{
    mixed_see(reader->mixed, reader->number, reader->node, &reader->seen,
              qs_result_index(reader->result), call);
}

// QS_OK, QS_NOT_FOUND: judged. Others are counted.
static int get(struct reader *reader, uint64_t key)
{
    char text[MIXED_KEY_BYTES];
    struct bytes name = mixed_key(key, text);
    int code = qs_get(reader->qs, name.data, name.size, reader->result);
    if (code == QS_OK || code == QS_NOT_FOUND) {
        see(reader, "qs_get");
        take_row(reader, key, 0);
    } else {
        on_error(reader, "qs_get", code);
    }
    return code;
}

// ---- look-ups -----------------------------------------------------------------------------------

// As often a few keys back as many: how far behind the newest one what is visible ends depends on
// how fast everything is.
static uint64_t near_newest(struct reader *reader)
{
    uint64_t fresh = atomic_load(&reader->mixed->fresh) + AHEAD;
    uint64_t back = draw_below(&reader->draw, UINT64_C(1) << draw_below(&reader->draw, BACK_BITS));
    uint64_t first = reader->mixed->options->keys;
    return u64_max(first, fresh - u64_min(back, fresh - first));
}

static uint64_t choose_key(struct reader *reader)
{
    uint64_t keys = reader->mixed->options->keys;
    uint64_t kind = draw_below(&reader->draw, 100);
    if (kind < 84) {
        return mixed_keys(reader->mixed) + draw_below(&reader->draw, 1000 * keys);
    }
    if (kind < 98) {
        return draw_below(&reader->draw, u64_min(MIXED_HOT_KEYS, keys));
    }
    return kind < 99 ? zipf_draw(&reader->zipf, &reader->draw) : near_newest(reader);
}

// Of two keys that were written in this order: who sees the second sees the first, at any door.
static void look_at_pair(struct reader *reader)
{
    uint64_t second = near_newest(reader);
    char text[MIXED_KEY_BYTES];
    if (second == reader->mixed->options->keys || get(reader, second) != QS_OK) {
        return;
    }
    uint64_t first = second - 1 - draw_below(&reader->draw, second - reader->mixed->options->keys);
    struct bytes name = mixed_key(first, text);
    bool looks = draw_below(&reader->draw, 2) == 0;
    int code = looks ? qs_exists(reader->qs, name.data, name.size) : get(reader, first);
    if (code == QS_NOT_FOUND) {
        atomic_fetch_add(&reader->mixed->b_without_a, 1);
        mixed_fault(reader->mixed, "B without A: session %u at %s: key %" PRIu64
                    " is there, key %" PRIu64 " before it is not", reader->number,
                    reader->mixed->options->nodes[reader->node], second, first);
    } else if (code == QS_OK) {
        atomic_fetch_add(&reader->mixed->pairs, 1);
        reader->looked += looks ? 1 : 0;
    } else if (looks) {
        on_error(reader, "qs_exists", code);
    }
}

static void look_at_many(struct reader *reader)
{
    char texts[MANY][MIXED_KEY_BYTES];
    struct qs_bytes names[MANY];
    uint64_t keys[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        keys[i] = choose_key(reader);
        struct bytes name = mixed_key(keys[i], texts[i]);
        names[i] = (struct qs_bytes){.data = name.data, .size = name.size};
    }
    int code = qs_get_many(reader->qs, MANY, names, reader->result);
    if (code != QS_OK) {
        on_error(reader, "qs_get_many", code);
        return;
    }
    see(reader, "qs_get_many");
    for (unsigned i = 0; i < MANY; i++) {
        take_row(reader, keys[i], i);
    }
}

static void look(struct reader *reader)
{
    uint64_t kind = draw_below(&reader->draw, 256);
    if (kind == 0) {
        look_at_pair(reader);
    } else if (kind < 8) {
        look_at_many(reader);
    } else {
        (void)get(reader, choose_key(reader));
    }
}

// ---- a thread -----------------------------------------------------------------------------------

static void tell(struct reader *reader)
{
    struct mixed *mixed = reader->mixed;
    uint64_t more = reader->looked - reader->counted;
    atomic_fetch_add(&mixed->reads, more);
    atomic_fetch_add(reader->maps ? &mixed->mapped_reads : &mixed->handle_reads, more);
    atomic_fetch_add(&mixed->absent, reader->absent);
    atomic_fetch_add(&mixed->by_map, reader->counting.answered - reader->answered);
    reader->counted = reader->looked;
    reader->absent = 0;
    reader->answered = reader->counting.answered;
    mixed_judge_known(&reader->judge);
}

// What goes over the socket keeps to its part of the rate.
static void keep_rate(const struct reader *reader)
{
    const struct mixed_options *options = reader->mixed->options;
    double rate = (double)options->read_rate / (double)u64_max(options->handles, 1);
    double due = (double)(clock_mono_ns() - reader->began_ns) / 1e9 * rate;
    if (!reader->maps && (double)reader->looked > due) {
        clock_sleep_ns(PAUSE_NS);
    }
}

static void open_handle(struct reader *reader)
{
    struct qs_options options = {.size = sizeof options,
                                 .timeout_ms = TIMEOUT_MS,
                                 .shared = reader->maps ? QS_SHARED_LIVE : QS_SHARED_NONE};
    char *address = mem_format("unix:%s", reader->mixed->options->nodes[reader->node]);
    CHECK(qs_open(&reader->qs, address, &options) == QS_OK);
    mem_free(address);
    reader->result = qs_result_new();
    if (reader->maps) {
        count_door(reader);
    }
}

void mixed_handle_run(struct mixed *mixed, uint64_t number)
{
    const struct mixed_options *options = mixed->options;
    struct reader *reader = mem_zalloc(sizeof *reader);
    reader->mixed = mixed;
    reader->number = (unsigned)(options->sessions + number);
    reader->maps = number >= options->handles;
    reader->node = (reader->maps ? number - options->handles : number) % options->node_count;
    reader->draw = (struct draw){.state = draw_mix(options->seed ^ draw_mix(reader->number + 1))};
    reader->began_ns = clock_mono_ns();
    zipf_open(&reader->zipf, options->keys);
    mixed_judge_open(&reader->judge, mixed);
    open_handle(reader);
    while (!atomic_load_explicit(&mixed->stop_reading, memory_order_relaxed)) {
        look(reader);
        if (reader->looked - reader->counted >= COUNT_EVERY || !reader->maps) {
            tell(reader);
            keep_rate(reader);
        }
    }
    tell(reader);
    qs_result_free(reader->result);
    qs_close(reader->qs);
    mixed_judge_close(&reader->judge);
    mem_free(reader);
}
