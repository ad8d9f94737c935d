// SPDX-License-Identifier: Apache-2.0
// A slot is a seqlock without fences: its words are stored with release and loaded with acquire
// semantics, which costs nothing where it matters (Boehm, "Can Seqlocks Get Along with Programming
// Language Memory Models?", 2012, has this form and others). Each bucket's slots are replaced by
// a clock of their own: a slot that was used since it was considered last gets another chance.
#include "common/shared/board.h"

#include <sys/mman.h>

#include "common/base/mem.h"
#include "common/shared/region.h"

#define FOLD_BYTES (4 * MIB) // of a turn: some ten milliseconds of the thread that applies
#define SWEEP_SLOTS 131072

struct board {
    _Atomic unsigned references;
    struct region region, marks_region; // of a shared one
    size_t own_bytes;                   // of the page of another, 0: it is shared
    struct board_page *page;
    struct hot_bucket *buckets;
    _Atomic uint8_t *marks; // a reader of another process has used the slot; NULL: there are none
    _Atomic uint8_t *used;  // ... before the last sweep, or one of this process, and all since the
                            // clock's hand was there
    uint64_t slot_count;
    uint64_t swept; // the next slot of the sweep
    uint8_t *hands; // the clock's, of each bucket: the way to be considered next
    size_t folded; // bytes on huge pages, or tried
    _Atomic uint64_t keys;
    bool shared, retired;
};

// ---- life --------------------------------------------------------------------------------------

// Held until its thread ends: nobody else ever waits for it.
static void take_ownership(struct board_page *page)
{
    pthread_mutexattr_t robust;
    CHECK(pthread_mutexattr_init(&robust) == 0);
    CHECK(pthread_mutexattr_setpshared(&robust, PTHREAD_PROCESS_SHARED) == 0);
    CHECK(pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST) == 0);
    CHECK(pthread_mutex_init(&page->owner.lock, &robust) == 0);
    pthread_mutexattr_destroy(&robust);
    CHECK(pthread_mutex_trylock(&page->owner.lock) == 0); // it is new: nobody has it
    CHECK(atomic_load(&page->owner.word) != 0); // the word is where readers look for it
}

struct shape {
    uint64_t buckets, slot_bytes;
};

static struct shape shape_of(const struct board_setup *setup)
{
    uint64_t asked = setup->slot_bytes == 0 ? HOT_SLOT_BYTES : setup->slot_bytes;
    uint64_t lines = (asked + SHARED_LINE_BYTES - 1) / SHARED_LINE_BYTES;
    struct shape shape = {.slot_bytes = lines * SHARED_LINE_BYTES};
    CHECK(shape.slot_bytes <= HOT_SLOT_BYTES_MAX);
    uint64_t buckets = setup->hot_bytes / hot_bucket_bytes(shape.slot_bytes);
    shape.buckets = u64_min(u64_max(buckets, 1), UINT32_MAX);
    return shape;
}

static void fill_page(struct board_page *page, const struct board_setup *setup, struct shape shape)
{
    page->magic = BOARD_MAGIC;
    page->version = SHARED_VERSION;
    page->incarnation = setup->incarnation;
    page->buckets = shape.buckets;
    page->slot_bytes = shape.slot_bytes;
    memcpy(page->history, setup->history, SHARED_HISTORY_BYTES);
    atomic_init(&page->visible, setup->index);
    atomic_init(&page->generation, setup->generation);
    atomic_init(&page->retired, 0);
    if (setup->shared) {
        take_ownership(page);
    }
}

static int share(struct board *board, size_t bytes)
{
    int error = region_create(&board->region, REGION_READ, bytes);
    if (error == OK) {
        error = region_create(&board->marks_region, REGION_WRITE, board->slot_count);
    }
    if (error != OK) {
        region_close(&board->region);
        return error;
    }
    board->page = board->region.memory;
    board->marks = board->marks_region.memory;
    return OK;
}

// Pages that nothing was put on take no memory.
static int keep_to_itself(struct board *board, size_t bytes)
{
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return ERR_MEMORY;
    }
    board->page = memory;
    board->own_bytes = bytes;
    return OK;
}

int board_open(struct board **ret_board, const struct board_setup *setup)
{
    struct board *board = mem_zalloc(sizeof *board);
    struct shape shape = shape_of(setup);
    size_t bytes = board_bytes(shape.buckets, shape.slot_bytes);
    board->slot_count = shape.buckets * HOT_WAYS;
    board->shared = setup->shared;
    int error = setup->shared ? share(board, bytes) : keep_to_itself(board, bytes);
    if (error != OK) {
        mem_free(board);
        return error;
    }
    atomic_init(&board->references, 1);
    board->used = mem_zalloc(board->slot_count);
    board->hands = mem_zalloc(shape.buckets);
    fill_page(board->page, setup, shape);
    board->buckets = board_buckets(board->page);
    *ret_board = board;
    return OK;
}

struct board *board_hold(struct board *board)
{
    if (board != NULL) {
        atomic_fetch_add_explicit(&board->references, 1, memory_order_relaxed);
    }
    return board;
}

void board_release(struct board *board)
{
    if (board == NULL) {
        return;
    }
    unsigned before = atomic_fetch_sub_explicit(&board->references, 1, memory_order_acq_rel);
    CHECK(before > 0);
    if (before == 1) {
        region_close(&board->region);
        region_close(&board->marks_region);
        if (board->own_bytes > 0) {
            munmap(board->page, board->own_bytes);
        }
        mem_free(board->used);
        mem_free(board->hands);
        mem_free(board);
    }
}

int board_fd(const struct board *board) { return board->region.fd; }

int board_marks_fd(const struct board *board) { return board->marks_region.fd; }

void board_retire(struct board *board)
{
    CHECK(!board->retired);
    board->retired = true;
    atomic_store_explicit(&board->page->retired, 1, memory_order_release);
    if (board->shared) {
        CHECK(pthread_mutex_unlock(&board->page->owner.lock) == 0);
    }
}

// Whoever sees the index sees all that was stored before it: the filter's bits, keys forgotten,
// which filter is fed.
void board_show(struct board *board, uint64_t index, uint64_t generation)
{
    struct board_page *page = board->page;
    CHECK(!board->retired);
    CHECK(index >= atomic_load_explicit(&page->visible, memory_order_relaxed));
    atomic_store_explicit(&page->generation, generation, memory_order_release);
    atomic_store_explicit(&page->visible, index, memory_order_release);
}

// ---- slots -------------------------------------------------------------------------------------

struct place {
    uint64_t tag;
    struct hot_bucket *bucket;
    uint64_t first; // slot of the bucket
};

static struct place place_of(const struct board *board, struct bytes key)
{
    struct hash128 hash = hash128(key, 0);
    uint64_t bucket = hot_bucket_of(hash, board->page->buckets);
    return (struct place){.tag = hot_tag(hash),
                          .bucket = &board->buckets[bucket],
                          .first = bucket * HOT_WAYS};
}

static uint64_t tag_at(const struct place *place, unsigned way)
{
    return atomic_load_explicit(&place->bucket->tags[way], memory_order_relaxed);
}

static struct hot_slot *slot_of(const struct board *board, uint64_t slot)
{
    return board_slot(board->page, slot);
}

static size_t key_bytes(uint64_t sizes) { return (size_t)(sizes & UINT32_MAX); }

// What nobody writes to now.
static void slot_copy(const struct hot_slot *slot, uint64_t *words, size_t bytes)
{
    for (size_t i = 0; i < (bytes + 7) / 8; i++) {
        words[i] = atomic_load_explicit(&slot->words[i], memory_order_relaxed);
    }
}

static bool slot_is(const struct hot_slot *slot, struct bytes key)
{
    uint64_t words[HOT_DATA_WORDS_MAX];
    uint64_t sizes = atomic_load_explicit(&slot->sizes, memory_order_relaxed);
    if (key_bytes(sizes) != key.size) {
        return false;
    }
    slot_copy(slot, words, key.size);
    return memcmp(words, key.data, key.size) == 0;
}

// The way that has the key; HOT_WAYS: none.
static unsigned find(const struct board *board, const struct place *place, struct bytes key)
{
    unsigned way = 0;
    while (way < HOT_WAYS && (tag_at(place, way) != place->tag ||
                              !slot_is(slot_of(board, place->first + way), key))) {
        way++;
    }
    return way;
}

static uint64_t slot_begin(struct hot_slot *slot)
{
    uint64_t sequence = atomic_load_explicit(&slot->sequence, memory_order_relaxed) + 1;
    atomic_store_explicit(&slot->sequence, sequence, memory_order_relaxed);
    return sequence;
}

static void slot_end(struct hot_slot *slot, uint64_t sequence)
{
    atomic_store_explicit(&slot->sequence, sequence + 1, memory_order_release);
}

static void slot_empty(struct board *board, const struct place *place, unsigned way)
{
    struct hot_slot *slot = slot_of(board, place->first + way);
    uint64_t sequence = slot_begin(slot);
    atomic_store_explicit(&slot->sizes, 0, memory_order_release);
    slot_end(slot, sequence);
    atomic_store_explicit(&place->bucket->tags[way], 0, memory_order_relaxed);
    atomic_fetch_sub_explicit(&board->keys, 1, memory_order_relaxed);
}

void board_forget(struct board *board, struct bytes key)
{
    struct place place = place_of(board, key);
    unsigned way = find(board, &place, key);
    if (way < HOT_WAYS) {
        slot_empty(board, &place, way);
    }
}

// True once after the slot was used.
static bool take_use(struct board *board, uint64_t slot)
{
    bool used = atomic_exchange_explicit(&board->used[slot], 0, memory_order_relaxed) != 0;
    return used || (board->marks != NULL &&
                    atomic_load_explicit(&board->marks[slot], memory_order_relaxed) != 0);
}

// An empty slot, or the next one under the bucket's hand that has not been used. The marks stay for
// the sweep, so after a round that takes all second chances the hand takes what it finds. With one
// hand for all buckets, chance would choose: what nobody asks for would stay for long.
static unsigned make_room(struct board *board, const struct place *place)
{
    for (unsigned way = 0; way < HOT_WAYS; way++) {
        if (tag_at(place, way) == 0) {
            return way;
        }
    }
    uint8_t *hand = &board->hands[place->first / HOT_WAYS];
    unsigned way = *hand;
    for (unsigned i = 0; i < HOT_WAYS && take_use(board, place->first + way); i++) {
        way = (way + 1) % HOT_WAYS;
    }
    *hand = (uint8_t)((way + 1) % HOT_WAYS);
    slot_empty(board, place, way);
    return way;
}

bool board_put(struct board *board, struct bytes key, uint64_t since, uint64_t version,
               struct bytes value)
{
    size_t bytes = key.size + value.size;
    if (bytes > board_data_bytes(board)) {
        return false;
    }
    struct place place = place_of(board, key);
    unsigned way = find(board, &place, key);
    if (way < HOT_WAYS) {
        slot_empty(board, &place, way);
    } else {
        way = make_room(board, &place);
    }
    CHECK(key.size > 0);
    uint64_t words[HOT_DATA_WORDS_MAX];
    words[(bytes + 7) / 8 - 1] = 0;
    memcpy(words, key.data, key.size);
    if (value.size > 0) {
        memcpy((uint8_t *)words + key.size, value.data, value.size);
    }
    struct hot_slot *slot = slot_of(board, place.first + way);
    uint64_t sequence = slot_begin(slot);
    atomic_store_explicit(&slot->since, since, memory_order_release);
    atomic_store_explicit(&slot->version, version, memory_order_release);
    atomic_store_explicit(&slot->sizes, key.size | (uint64_t)value.size << 32,
                          memory_order_release);
    for (size_t i = 0; i < (bytes + 7) / 8; i++) {
        atomic_store_explicit(&slot->words[i], words[i], memory_order_release);
    }
    slot_end(slot, sequence);
    atomic_store_explicit(&place.bucket->tags[way], place.tag, memory_order_relaxed);
    atomic_fetch_add_explicit(&board->keys, 1, memory_order_relaxed);
    return true;
}

uint64_t board_keys(const struct board *board)
{
    return atomic_load_explicit(&board->keys, memory_order_relaxed);
}

uint64_t board_room(const struct board *board) { return board->slot_count; }

size_t board_data_bytes(const struct board *board)
{
    return hot_data_bytes(board->page->slot_bytes);
}

int board_look(const struct board *board, struct hash128 hash, struct bytes key, uint64_t index,
               struct look_answer *ret_answer)
{
    const struct hot_table table = hot_table_of(board->page);
    uint64_t slot = hot_find(&table, hash, key, index, ret_answer);
    if (slot == HOT_NONE) {
        return ERR_INCOMPLETE;
    }
    ret_answer->index = index;
    if (atomic_load_explicit(&board->used[slot], memory_order_relaxed) == 0) {
        atomic_store_explicit(&board->used[slot], 1, memory_order_relaxed);
    }
    return ret_answer->version == 0 ? ERR_NOT_FOUND : OK;
}

// ---- use ---------------------------------------------------------------------------------------

static bool tell(const struct board *board, uint64_t at, board_used *used, void *argument)
{
    const struct hot_slot *slot = slot_of(board, at);
    uint64_t sizes = atomic_load_explicit(&slot->sizes, memory_order_relaxed);
    if (sizes == 0 || atomic_load_explicit(&slot->version, memory_order_relaxed) == 0) {
        return false;
    }
    uint64_t words[HOT_DATA_WORDS_MAX];
    slot_copy(slot, words, key_bytes(sizes));
    used(argument, bytes_of(words, key_bytes(sizes)), sizes >> 32);
    return true;
}

uint64_t board_sweep(struct board *board, board_used *used, void *argument)
{
    uint64_t told = 0;
    uint64_t count = board->marks == NULL ? 0 : u64_min(SWEEP_SLOTS, board->slot_count);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = board->swept;
        board->swept = at + 1 < board->slot_count ? at + 1 : 0;
        // What stands there is whatever a reader has written: it says yes or no.
        if (atomic_load_explicit(&board->marks[at], memory_order_relaxed) != 0) {
            atomic_store_explicit(&board->marks[at], 0, memory_order_relaxed);
            atomic_store_explicit(&board->used[at], 1, memory_order_relaxed);
            told += tell(board, at, used, argument) ? 1 : 0;
        }
    }
    return told;
}

void board_fold(struct board *board)
{
    if (board->shared) {
        board->folded = region_fold(&board->region, board->folded, FOLD_BYTES);
    }
}
