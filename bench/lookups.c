// SPDX-License-Identifier: Apache-2.0
#include "bench/lookups.h"

#include "common/base/mem.h"

#define WORD_BITS 64

static size_t read_bytes(const struct lookups *lookups)
{
    return (lookups->limit / WORD_BITS + 1) * sizeof *lookups->read;
}

// Whether this is the first time.
static bool note_read(struct lookups *lookups, uint64_t number)
{
    uint64_t bit = UINT64_C(1) << (number % WORD_BITS);
    bool first = (lookups->read[number / WORD_BITS] & bit) == 0;
    lookups->read[number / WORD_BITS] |= bit;
    return first;
}

void lookups_open(struct lookups *lookups, const struct lookups_options *options)
{
    CHECK(options->working_set >= 2 && options->working_set < options->limit);
    CHECK(options->limit <= options->pairs && options->pairs < UINT32_MAX);
    *lookups = (struct lookups){
        .draw = {.state = draw_mix(options->seed)},
        .uniform = options->uniform,
        .pairs = options->pairs,
        .slots = mem_alloc(options->working_set * sizeof *lookups->slots),
        .count = options->working_set,
        .next = options->working_set,
        .limit = options->limit,
        .renewal = options->renewal,
    };
    zipf_open(&lookups->zipf, lookups->count);
    lookups->read = mem_zalloc(read_bytes(lookups));
    for (uint64_t i = 0; i < lookups->count; i++) {
        lookups->slots[i] = (uint32_t)i;
        (void)note_read(lookups, i);
    }
}

void lookups_copy(struct lookups *to, const struct lookups *from)
{
    *to = *from;
    to->slots = mem_copy(from->slots, from->count * sizeof *from->slots);
    to->read = mem_copy(from->read, read_bytes(from));
}

void lookups_close(struct lookups *lookups)
{
    mem_free(lookups->slots);
    mem_free(lookups->read);
}

static void renew(struct lookups *lookups)
{
    lookups->due += lookups->renewal;
    for (; lookups->due >= 1; lookups->due--) {
        uint64_t slot = draw_below(&lookups->draw, lookups->count);
        lookups->slots[slot] = (uint32_t)lookups->next;
        lookups->next = lookups->next + 1 < lookups->limit ? lookups->next + 1 : 0;
    }
}

struct lookup lookups_next(struct lookups *lookups)
{
    struct draw *draw = &lookups->draw;
    renew(lookups);
    if (draw_below(draw, ABSENT_PER_PRESENT + 1) > 0) {
        uint64_t number = lookups->pairs + draw_below(draw, ABSENT_SPACE * lookups->pairs);
        return (struct lookup){.number = number};
    }
    uint64_t rank = lookups->uniform ? draw_below(draw, lookups->count)
                                     : zipf_draw(&lookups->zipf, draw);
    uint64_t number = lookups->slots[rank];
    return (struct lookup){
        .number = number, .present = true, .first = note_read(lookups, number)};
}
