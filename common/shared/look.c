// SPDX-License-Identifier: Apache-2.0
// The order of loads: the visible index first, with acquire; then what the filter or a slot says of
// it, each of which tells since when; whether all of this still counts comes last. So an answer is
// that of the index loaded first, whatever the daemon does meanwhile.
#include "common/shared/look.h"

#include <linux/futex.h>

// ---- mapping -----------------------------------------------------------------------------------

static bool is_board(const struct board_page *page, size_t bytes)
{
    return page->magic == BOARD_MAGIC && page->version == SHARED_VERSION && page->buckets > 0 &&
           page->buckets <= UINT32_MAX && board_bytes(page->buckets) == bytes;
}

static bool is_filter(const struct filter_page *page, size_t bytes)
{
    return page->magic == FILTER_MAGIC && page->version == SHARED_VERSION && page->lines > 0 &&
           page->lines <= UINT32_MAX && page->generation != 0 &&
           SHARED_HEAD_BYTES + page->lines * BLOOM_LINE_BYTES == bytes;
}

static bool fits_together(struct look *look)
{
    const struct region *filter = &look->regions[LOOK_FILTER];
    look->incarnation = look->regions[LOOK_INCARNATION].memory;
    look->page = look->regions[LOOK_BOARD].memory;
    look->marks = look->regions[LOOK_MARKS].memory;
    look->filter = filter->memory;
    if (look->incarnation->magic != INCARNATION_MAGIC ||
        look->incarnation->version != SHARED_VERSION ||
        !is_board(look->page, look->regions[LOOK_BOARD].bytes) ||
        look->regions[LOOK_MARKS].bytes < look->page->buckets * HOT_WAYS) {
        return false;
    }
    look->hot = hot_table_of(look->page);
    if (look->filter == NULL) {
        return true;
    }
    look->bloom = (struct bloom){
        .lines = (struct bloom_line *)((uint8_t *)filter->memory + SHARED_HEAD_BYTES),
        .count = look->filter->lines};
    return is_filter(look->filter, filter->bytes);
}

int look_open(struct look *look, const int *fds, unsigned count, bool stays)
{
    static const enum region_kind kinds[] = {[LOOK_INCARNATION] = REGION_FILE,
                                             [LOOK_MARKS] = REGION_WRITE,
                                             [LOOK_FILTER] = REGION_READ};
    *look = (struct look){.stays = stays};
    if (count != LOOK_FILTER && count != LOOK_FDS) {
        return ERR_PROTOCOL;
    }
    int error = OK;
    for (unsigned i = 0; i < count && error == OK; i++) {
        size_t least = i == LOOK_MARKS ? 1 : SHARED_HEAD_BYTES;
        error = region_map(&look->regions[i], kinds[i], fds[i], least);
    }
    if (error == OK && !fits_together(look)) {
        error = ERR_PROTOCOL;
    }
    if (error != OK) {
        look_close(look);
    }
    return error;
}

void look_close(struct look *look)
{
    for (unsigned i = 0; i < LOOK_FDS; i++) {
        region_close(&look->regions[i]);
    }
}

// ---- whether it counts -------------------------------------------------------------------------

static bool is_alive(const struct look *look)
{
    uint32_t word = atomic_load_explicit(&look->page->owner.word, memory_order_acquire);
    return (word & FUTEX_TID_MASK) != 0 && (word & FUTEX_OWNER_DIED) == 0;
}

// The file comes last: whoever restores a directory may cut it, and to look at it then is fatal.
// While a daemon lives nobody does.
static bool counts(const struct look *look)
{
    return atomic_load_explicit(&look->page->retired, memory_order_acquire) == 0 &&
           (look->stays || is_alive(look)) &&
           atomic_load_explicit(&look->incarnation->number, memory_order_acquire) ==
               look->page->incarnation;
}

static bool is_fed(const struct look *look)
{
    return atomic_load_explicit(&look->page->generation, memory_order_acquire) ==
           look->filter->generation;
}

enum look_state look_state(const struct look *look)
{
    if (!counts(look)) {
        return LOOK_OVER;
    }
    if (!is_alive(look)) {
        return LOOK_LEFT;
    }
    uint64_t fed = atomic_load_explicit(&look->page->generation, memory_order_acquire);
    uint64_t mine = look->filter == NULL ? 0 : look->filter->generation;
    return fed == mine || fed == 0 ? LOOK_CURRENT : LOOK_OUTGROWN;
}

// ---- looking -----------------------------------------------------------------------------------

static bool absent_by_filter(const struct look *look, struct bytes key, uint64_t index)
{
    return look->filter != NULL && index >= look->filter->since &&
           !bloom_maybe(&look->bloom, key) && is_fed(look);
}

static int look_hot(const struct look *look, struct bytes key, uint64_t index,
                    struct look_answer *answer)
{
    uint64_t slot = hot_find(&look->hot, hash128(key, 0), key, index, answer);
    if (slot == HOT_NONE) {
        return ERR_INCOMPLETE;
    }
    // What is read all the time costs a load alone.
    if (atomic_load_explicit(&look->marks[slot], memory_order_relaxed) == 0) {
        atomic_store_explicit(&look->marks[slot], 1, memory_order_relaxed);
    }
    return answer->version == 0 ? ERR_NOT_FOUND : OK;
}

int look_up(const struct look *look, struct bytes key, uint64_t least,
            struct look_answer *ret_answer)
{
    uint64_t index = atomic_load_explicit(&look->page->visible, memory_order_acquire);
    if (index < least || key.size == 0 || key.size > SHARED_KEY_BYTES_MAX) {
        return ERR_INCOMPLETE;
    }
    int code = absent_by_filter(look, key, index) ? ERR_NOT_FOUND
                                                  : look_hot(look, key, index, ret_answer);
    if (code == ERR_INCOMPLETE || !counts(look)) {
        return ERR_INCOMPLETE;
    }
    ret_answer->index = index;
    return code;
}
