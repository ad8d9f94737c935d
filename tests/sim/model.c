// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "tests/sim/commits.h"
#include "tests/sim/seams.h"

#define VALUE_MAX (64 * KIB)

struct state_at {
    unsigned __int128 digest;
    uint64_t keys;
    uint64_t journal_bytes; // of all blocks up to the one that holds it
    uint32_t entries;       // of the batch that made it
};

static struct {
    struct model_key keys[MODEL_KEYS_MAX];
    unsigned key_count;
    struct block_header last;
    struct state_at *states; // by index
    size_t capacity;
    uint64_t index;
    uint64_t journal_bytes, block_max; // stored
} model;

unsigned model_key_count(void) { return model.key_count; }
const struct model_key *model_key(unsigned at) { return &model.keys[at]; }
struct bytes model_name(const struct model_key *key) { return bytes_of(key->name, key->size); }
uint64_t model_index(void) { return model.index; }

// ---- keys --------------------------------------------------------------------------------------

static int compare_keys(const void *a, const void *b)
{
    return bytes_compare(model_name(a), model_name(b));
}

// Keys that are prefixes of each other, with the bytes that encodings treat specially.
static void make_key(struct model_key *key)
{
    static const char alphabet[] = {0, 1, 2, 'a', 'b', '/', (char)0xff};
    key->size = (size_t)chance_between(1, chance_permille(900) ? 5 : MODEL_KEY_BYTES);
    for (size_t i = 0; i < key->size; i++) {
        key->name[i] = (uint8_t)alphabet[chance_below(sizeof alphabet)];
    }
}

void model_open(unsigned keys)
{
    memset(&model, 0, sizeof model);
    commits_open();
    while (model.key_count < keys) {
        struct model_key *key = &model.keys[model.key_count];
        make_key(key);
        bool known = false;
        for (unsigned i = 0; i < model.key_count; i++) {
            known = known || bytes_equal(model_name(&model.keys[i]), model_name(key));
        }
        model.key_count += known ? 0 : 1;
    }
    qsort(model.keys, model.key_count, sizeof model.keys[0], compare_keys);
    model.capacity = 1024;
    model.states = world_zalloc(model.capacity * sizeof *model.states);
}

static struct model_key *find_key(struct bytes name)
{
    size_t low = 0;
    size_t high = model.key_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (bytes_compare(model_name(&model.keys[middle]), name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    WORLD_CHECK(low < model.key_count && bytes_equal(model_name(&model.keys[low]), name),
                "the log holds a key that nobody wrote");
    return &model.keys[low];
}

const struct model_version *model_at(const struct model_key *key, uint64_t index)
{
    size_t low = 0;
    size_t high = key->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (key->versions[middle].index <= index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 && key->versions[low - 1].put ? &key->versions[low - 1] : NULL;
}

// ---- values ------------------------------------------------------------------------------------

struct bytes write_value(const struct write *write, unsigned at)
{
    static uint8_t value[VALUE_MAX];
    size_t size = write->operations[at].size;
    uint64_t word = write->id * 0x9e3779b97f4a7c15ull + at;
    CHECK(size <= VALUE_MAX);
    for (size_t i = 0; i < size; i += 8) {
        // Half of each value compresses.
        word = (i / 64) % 2 == 0 ? word * 6364136223846793005ull + 1442695040888963407ull : 7;
        memcpy(value + i, &word, u64_min(8, size - i));
    }
    return bytes_of(value, size);
}

// ---- the log -----------------------------------------------------------------------------------

static unsigned __int128 term(uint64_t version, struct bytes name)
{
    uint8_t data[8 + MODEL_KEY_BYTES];
    memcpy(data, &version, 8);
    memcpy(data + 8, name.data, name.size);
    struct hash128 hash = hash128(bytes_of(data, 8 + name.size), 1);
    return ((unsigned __int128)hash.high << 64) | hash.low;
}

static void add_entry(const struct entry *entry, struct state_at *state)
{
    struct model_key *key = find_key(entry->key);
    const struct model_version *before = model_at(key, entry->index - 1);
    uint64_t replaced = before != NULL ? before->index : 0;
    WORLD_CHECK(entry->replaced == replaced, "index %llu says that it replaces %llu, it is %llu",
                (unsigned long long)entry->index, (unsigned long long)entry->replaced,
                (unsigned long long)replaced);
    WORLD_CHECK(key->count == 0 || key->versions[key->count - 1].index < entry->index,
                "index %llu holds a key twice", (unsigned long long)entry->index);
    WORLD_CHECK(entry->op == ENTRY_PUT || before != NULL, "index %llu deletes what is absent",
                (unsigned long long)entry->index);
    if (key->count == key->capacity) {
        key->capacity = key->capacity == 0 ? 8 : key->capacity * 2;
        key->versions = world_realloc(key->versions, key->capacity * sizeof *key->versions);
    }
    struct model_version *version = &key->versions[key->count++];
    *version = (struct model_version){.index = entry->index, .put = entry->op == ENTRY_PUT};
    if (version->put) {
        uint8_t *value = world_alloc(entry->value.size);
        if (entry->value.size > 0) {
            memcpy(value, entry->value.data, entry->value.size);
        }
        version->value = bytes_of(value, entry->value.size);
        commits_check(version->value, entry->index);
        state->digest += term(entry->index, entry->key);
    }
    state->digest -= replaced != 0 ? term(replaced, entry->key) : 0;
    state->keys += version->put && replaced == 0 ? 1 : 0;
    state->keys -= !version->put && replaced != 0 ? 1 : 0;
    state->entries++;
}

// A history goes on from another one: that had committed the block it goes on from. What anybody
// knows to be committed behind that stays so, in the new one too: nothing is lost here but roots.
static void fork_from(const struct block *block)
{
    struct birth birth;
    WORLD_CHECK(birth_decode(&birth, block->stored) == OK, "a birth block is none");
    commits_know(birth.ancestor, birth.from.number, birth.from.chain);
    model.last = (struct block_header){.number = birth.from.number,
                                       .first_index = birth.from.index + 1,
                                       .chain = birth.from.chain};
    memcpy(model.last.history, birth.history, HISTORY_ID_BYTES);
    count_add(COUNT_forks, 1);
}

static void check_same(const struct entry *entry)
{
    const struct model_version *at = model_at(find_key(entry->key), entry->index);
    bool put = entry->op == ENTRY_PUT;
    WORLD_CHECK(put ? at != NULL && at->index == entry->index &&
                          bytes_equal(at->value, entry->value)
                    : at == NULL,
                "index %llu of a history that forked holds something else than was committed",
                (unsigned long long)entry->index);
}

void model_add(const struct block *block)
{
    const struct block_header *header = &block->header;
    commits_know(header->history, header->number, header->chain);
    if (model.last.number == 0) {
        block_genesis(&model.last, header->history);
    }
    if (memcmp(header->history, model.last.history, HISTORY_ID_BYTES) != 0) {
        if (!birth_continues(block, model.last.history)) {
            return; // of one that has ended
        }
        fork_from(block);
    }
    if (header->number <= model.last.number) {
        return;
    }
    uint64_t known = model.index;
    WORLD_CHECK(block_follows(&model.last, block) == OK,
                "block %llu of the root does not follow block %llu",
                (unsigned long long)header->number, (unsigned long long)model.last.number);
    model.journal_bytes += block->stored.size;
    model.block_max = u64_max(model.block_max, block->stored.size);
    struct block_walk walk;
    struct entry entry;
    block_walk_start(&walk, block);
    while (block_walk_next(&walk, &entry)) {
        if (entry.index <= known) {
            check_same(&entry);
            continue;
        }
        if (entry.index > model.index) {
            WORLD_CHECK(entry.index == model.index + 1, "index %llu follows index %llu",
                        (unsigned long long)entry.index, (unsigned long long)model.index);
            model.index = entry.index;
            if (model.index >= model.capacity) {
                model.capacity *= 2;
                model.states =
                    world_realloc(model.states, model.capacity * sizeof *model.states);
            }
            model.states[model.index] = model.states[model.index - 1];
            model.states[model.index].entries = 0;
            model.states[model.index].journal_bytes = model.journal_bytes;
        }
        add_entry(&entry, &model.states[model.index]);
    }
    WORLD_CHECK(block_end(header) == model.index || block_end(header) < known,
                "block %llu ends at another index than it says",
                (unsigned long long)header->number);
    model.last = *header;
}

static void read_on(struct journal *journal, uint64_t first, uint64_t last)
{
    struct journal_cursor cursor;
    if (first > last || journal_cursor_open(journal, &cursor, first) != OK) {
        return;
    }
    struct block *block;
    while (first++ <= last && journal_cursor_next(&cursor, &block) == OK) {
        model_add(block);
        block_release(block);
    }
    journal_cursor_close(&cursor);
}

void model_catch_up(struct journal *journal, uint64_t last)
{
    struct block_header header;
    bool same = model.last.number > 0 && journal_has_history(journal) &&
                memcmp(journal_history(journal), model.last.history, HISTORY_ID_BYTES) == 0;
    if (same && journal_header(journal, model.last.number, &header) == OK) {
        WORLD_CHECK(hash128_equal(header.chain, model.last.chain),
                    "the root's journal holds another block %llu than was committed",
                    (unsigned long long)model.last.number);
    }
    // A planted fault may hit one read of this, which is not the root's own.
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        bool begun = model.last.number > 0 && journal_has_history(journal) &&
                     memcmp(journal_history(journal), model.last.history, HISTORY_ID_BYTES) == 0;
        bool other = model.last.number > 0 && !begun;
        read_on(journal, (other ? journal_oldest(journal).number : model.last.number) + 1, last);
    }
}

void model_check_end(struct journal *journal)
{
    struct journal_place end = journal_end(journal);
    WORLD_CHECK(end.number >= model.last.number,
                "the root's journal ends at block %llu, block %llu was committed",
                (unsigned long long)end.number, (unsigned long long)model.last.number);
}

void __real_applier_hand(struct instance *instance, struct block *block);
void __wrap_applier_hand(struct instance *instance, struct block *block);
void __wrap_applier_hand(struct instance *instance, struct block *block)
{
    if (instance->options->role == ROLE_ROOT) {
        model_add(block);
    }
    commits_know(block->header.history, block->header.number, block->header.chain);
    __real_applier_hand(instance, block);
}

// ---- checks ------------------------------------------------------------------------------------

void model_acknowledged(const struct write *write, uint64_t index)
{
    WORLD_CHECK(index <= model.index, "a write was acknowledged at %llu, the log ends at %llu",
                (unsigned long long)index, (unsigned long long)model.index);
    unsigned changes = 0;
    unsigned found = 0;
    for (unsigned i = 0; i < write->count; i++) {
        const struct write_operation *operation = &write->operations[i];
        bool last = true;
        for (unsigned j = i + 1; j < write->count; j++) {
            last = last && write->operations[j].key != operation->key;
        }
        if (!last) {
            continue;
        }
        const struct model_key *key = &model.keys[operation->key];
        const struct model_version *at = model_at(key, index);
        if (operation->put) {
            WORLD_CHECK(at != NULL && at->index == index &&
                            bytes_equal(at->value, write_value(write, i)),
                        "an acknowledged value is not in the log at %llu",
                        (unsigned long long)index);
            changes++;
            found++;
            continue;
        }
        WORLD_CHECK(at == NULL, "an acknowledged delete at %llu left its key there",
                    (unsigned long long)index);
        changes += index > 0 && model_at(key, index - 1) != NULL ? 1 : 0;
    }
    bool own = found > 0 || (index > 0 && changes == model.states[index].entries && changes > 0);
    if (own) {
        WORLD_CHECK(model.states[index].entries == changes,
                    "index %llu holds %u entries, its transaction made %u",
                    (unsigned long long)index, model.states[index].entries, changes);
        count_add(COUNT_writes_acked, 1);
    } else {
        count_add(COUNT_writes_empty, 1);
    }
}

void model_check_view(struct node *node, const struct view *view)
{
    uint64_t index = view->place.index;
    WORLD_CHECK(index <= model.index, "n%u shows index %llu, the log ends at %llu", node->number,
                (unsigned long long)index, (unsigned long long)model.index);
    // A bad block among the last that it may have had unsynced counts as torn, whatever made it
    // bad: then the node is back at an older state, and its sessions must wait.
    uint64_t lost = model.states[node->visible].journal_bytes - model.states[index].journal_bytes;
    if (index < node->visible && node->rotten &&
        lost <= 2 * (JOURNAL_GROUP_BYTES + model.block_max)) {
        node->visible = index;
        node->rotten = false;
        count_add(COUNT_rot_cut, 1);
    }
    // It serves what its store has, which may be less than what was shown from the journal.
    node->visible = node->host.held ? u64_min(index, node->visible) : node->visible;
    WORLD_CHECK(index >= node->visible, "n%u went back from index %llu to %llu", node->number,
                (unsigned long long)node->visible, (unsigned long long)index);
    const struct state_at *state = &model.states[index];
    unsigned __int128 digest =
        ((unsigned __int128)view->digest.sum.high << 64) | view->digest.sum.low;
    WORLD_CHECK(digest == state->digest && view->digest.keys == state->keys,
                "n%u at index %llu: the digest differs, %llu keys, %llu wanted", node->number,
                (unsigned long long)index, (unsigned long long)view->digest.keys,
                (unsigned long long)state->keys);
    if (!node->shown && METRIC_GET(&node->metrics, instance, entries_applied) > 0) {
        count_add(COUNT_replays, 1);
    }
    node->shown = true;
    node->visible = index;
    count_add(COUNT_views, 1);
    world_note(index * 31 + node->number);
}

void __real_views_publish(struct views *views, struct view *view);
void __wrap_views_publish(struct views *views, struct view *view);
void __wrap_views_publish(struct views *views, struct view *view)
{
    model_check_view(node_of(world_host()), view);
    __real_views_publish(views, view);
}
