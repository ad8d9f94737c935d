// SPDX-License-Identifier: Apache-2.0
// The order of loads: the visible index first, with acquire; then what the filter or a slot says of
// it, each of which tells since when; whether all of this still counts comes last. So an answer is
// that of the index loaded first, whatever the daemon does meanwhile; and of any index before it
// that is not before what it was found in.
#include "common/shared/look.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <unistd.h>

// ---- mapping -----------------------------------------------------------------------------------

// Of what was read once: it is not looked up in the page again.
static bool is_table(const struct hot_table *table, size_t bytes)
{
    return table->bucket_count > 0 && table->bucket_count <= UINT32_MAX &&
           table->slot_bytes >= SHARED_LINE_BYTES && table->slot_bytes <= HOT_SLOT_BYTES_MAX &&
           table->slot_bytes % SHARED_LINE_BYTES == 0 &&
           board_bytes(table->bucket_count, table->slot_bytes) == bytes;
}

static bool is_filter(const struct filter_page *page, uint64_t lines, size_t bytes)
{
    return page->magic == FILTER_MAGIC && page->version == SHARED_VERSION && lines > 0 &&
           lines <= UINT32_MAX && page->generation != 0 &&
           SHARED_HEAD_BYTES + lines * BLOOM_LINE_BYTES == bytes;
}

static bool fits_together(struct look *look)
{
    const struct region *filter = &look->regions[LOOK_FILTER];
    look->page = look->regions[LOOK_BOARD].memory;
    look->marks = look->regions[LOOK_MARKS].memory;
    look->filter = filter->memory;
    look->hot = hot_table_of(look->page);
    if (look->page->magic != BOARD_MAGIC || look->page->version != SHARED_VERSION ||
        !is_table(&look->hot, look->regions[LOOK_BOARD].bytes) ||
        look->regions[LOOK_MARKS].bytes < look->hot.bucket_count * HOT_WAYS) {
        return false;
    }
    if (look->filter == NULL) {
        return true;
    }
    const volatile struct filter_page *said = look->filter;
    look->bloom = (struct bloom){
        .lines = (struct bloom_line *)((uint8_t *)filter->memory + SHARED_HEAD_BYTES),
        .count = said->lines};
    return is_filter(look->filter, look->bloom.count, filter->bytes);
}

static int keep_file(struct look *look, int fd)
{
    look->file = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return look->file < 0 ? error_from_errno(errno) : OK;
}

int look_open(struct look *look, const int *fds, unsigned count, bool stays)
{
    static const enum region_kind kinds[] = {[LOOK_MARKS] = REGION_WRITE,
                                             [LOOK_FILTER] = REGION_READ};
    *look = (struct look){.stays = stays, .file = -1};
    if (count != LOOK_FILTER && count != LOOK_FDS) {
        return ERR_PROTOCOL;
    }
    int error = stays ? keep_file(look, fds[LOOK_INCARNATION]) : OK;
    for (unsigned i = LOOK_BOARD; i < count && error == OK; i++) {
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
    if (look->file >= 0) {
        close(look->file);
        look->file = -1;
    }
}

// ---- whether it counts -------------------------------------------------------------------------

static bool is_alive(const struct look *look)
{
    uint32_t word = atomic_load_explicit(&look->page->owner.word, memory_order_acquire);
    return (word & FUTEX_TID_MASK) != 0 && (word & FUTEX_OWNER_DIED) == 0;
}

// Read, and not mapped: whoever restores a directory may cut the file, and to look at memory that
// is not there any more is fatal.
static bool is_last_start(const struct look *look)
{
    struct incarnation_page page;
    return pread(look->file, (void *)&page, sizeof page, 0) == (ssize_t)sizeof page &&
           page.magic == INCARNATION_MAGIC && page.version == SHARED_VERSION &&
           atomic_load(&page.number) == look->page->incarnation;
}

// While the daemon lives there is no other.
bool look_counts(const struct look *look)
{
    return atomic_load_explicit(&look->page->retired, memory_order_acquire) == 0 &&
           (is_alive(look) || (look->stays && is_last_start(look)));
}

static bool is_fed(const struct look *look)
{
    return atomic_load_explicit(&look->page->generation, memory_order_acquire) ==
           look->filter->generation;
}

enum look_state look_state(const struct look *look)
{
    if (!look_counts(look)) {
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

uint64_t look_visible(const struct look *look)
{
    return atomic_load_explicit(&look->page->visible, memory_order_acquire);
}

int look_key(const struct look *look, struct bytes key, uint64_t index,
             struct look_answer *ret_answer)
{
    if (key.size == 0 || key.size > SHARED_KEY_BYTES_MAX) {
        return ERR_INCOMPLETE;
    }
    int code = absent_by_filter(look, key, index) ? ERR_NOT_FOUND
                                                  : look_hot(look, key, index, ret_answer);
    ret_answer->index = index;
    return code;
}

int look_up(const struct look *look, struct bytes key, uint64_t least,
            struct look_answer *ret_answer)
{
    uint64_t index = look_visible(look);
    int code = index < least ? ERR_INCOMPLETE : look_key(look, key, index, ret_answer);
    return code != ERR_INCOMPLETE && look_counts(look) ? code : ERR_INCOMPLETE;
}
