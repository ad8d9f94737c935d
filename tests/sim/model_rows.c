// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/model_rows.h"

struct blob *blob_new(struct bytes content)
{
    struct blob *blob = disk_alloc(sizeof *blob + content.size);
    blob->references = 1;
    blob->size = content.size;
    if (content.size > 0) {
        memcpy(blob->data, content.data, content.size);
    }
    return blob;
}

struct blob *blob_hold(struct blob *blob)
{
    blob->references++;
    return blob;
}

void blob_release(struct blob *blob)
{
    if (blob != NULL && --blob->references == 0) {
        mem_free(blob);
    }
}

uint64_t model_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

struct bytes row_key(const struct row *row)
{
    return bytes_of(row->next + row->height, row->key_size);
}

// At each level, the pointer that a row with this key is or would be linked from.
static void find_places(struct rows *rows, struct bytes key, struct row **places[ROWS_HEIGHT_MAX])
{
    struct row **next = rows->first, *above = NULL; // known to be at or after the key
    for (int level = ROWS_HEIGHT_MAX - 1; level >= 0; level--) {
        while (next[level] != above && bytes_compare(row_key(next[level]), key) < 0) {
            next = next[level]->next;
        }
        above = next[level];
        places[level] = &next[level];
    }
}

struct row *rows_seek(const struct rows *rows, struct bytes key)
{
    struct row *const *next = rows->first, *above = NULL;
    for (int level = ROWS_HEIGHT_MAX - 1; level >= 0; level--) {
        while (next[level] != above && bytes_compare(row_key(next[level]), key) < 0) {
            next = next[level]->next;
        }
        above = next[level];
    }
    return above;
}

struct row *rows_find(const struct rows *rows, struct bytes key)
{
    struct row *row = rows_seek(rows, key);
    return row != NULL && bytes_equal(row_key(row), key) ? row : NULL;
}

struct row *rows_add(struct rows *rows, struct bytes key)
{
    struct row **places[ROWS_HEIGHT_MAX];
    find_places(rows, key, places);
    if (*places[0] != NULL && bytes_equal(row_key(*places[0]), key)) {
        return *places[0];
    }
    unsigned height = 1;
    uint64_t bits = model_random(&rows->shape);
    while (height < ROWS_HEIGHT_MAX && (bits & 3) == 0) { // one in four is a level higher
        height++;
        bits >>= 2;
    }
    struct row *row = disk_alloc(sizeof *row + height * sizeof row->next[0] + key.size);
    *row = (struct row){.height = (uint8_t)height, .key_size = (uint32_t)key.size};
    if (key.size > 0) {
        memcpy(row->next + height, key.data, key.size);
    }
    for (unsigned level = 0; level < height; level++) {
        row->next[level] = *places[level];
        *places[level] = row;
    }
    rows->count++;
    return row;
}

void rows_remove(struct rows *rows, struct row *row)
{
    CHECK(row->newest == NULL);
    struct row **places[ROWS_HEIGHT_MAX];
    find_places(rows, row_key(row), places);
    for (unsigned level = 0; level < row->height; level++) {
        CHECK(*places[level] == row);
        *places[level] = row->next[level];
    }
    rows->count--;
    mem_free(row);
}

// Goes down the levels; at each, stays or takes one of the few rows before the next higher one.
struct row *rows_any(const struct rows *rows, uint64_t *random)
{
    struct row *const *next = rows->first;
    struct row *row = NULL, *end = NULL;
    for (int level = ROWS_HEIGHT_MAX - 1; level >= 0; level--) {
        uint64_t count = 0;
        for (struct row *at = next[level]; at != end; at = at->next[level]) {
            count++;
        }
        uint64_t left = count > 0 ? model_random(random) % (count + 1) : 0;
        for (; left > 0; left--) {
            row = next[level];
            next = row->next;
        }
        end = next[level];
    }
    return row != NULL ? row : rows->first[0];
}

void rows_free(struct rows *rows)
{
    struct row *row = rows->first[0];
    while (row != NULL) {
        struct row *next = row->next[0];
        while (row->newest != NULL) {
            row_take(rows, row, &row->newest);
        }
        mem_free(row);
        row = next;
    }
    CHECK(rows->bytes == 0);
    *rows = (struct rows){0};
}

static uint64_t version_bytes(const struct row *row, const struct row_version *version)
{
    return row->key_size + (version->blob != NULL ? version->blob->size : 0);
}

void row_add(struct rows *rows, struct row *row, struct row_version **place,
             struct row_version version)
{
    struct row_version *added = disk_alloc(sizeof *added);
    *added = version;
    added->older = *place;
    *place = added;
    rows->bytes += version_bytes(row, added);
}

void row_take(struct rows *rows, struct row *row, struct row_version **place)
{
    struct row_version *version = *place;
    *place = version->older;
    rows->bytes -= version_bytes(row, version);
    blob_release(version->blob);
    mem_free(version);
}

struct row_version *row_at(const struct row *row, uint64_t sequence, uint64_t filterings)
{
    struct row_version *version = row->newest;
    while (version != NULL) {
        bool exists = filterings == FOR_EVER
                          ? version->until == FOR_EVER
                          : version->from <= filterings && filterings < version->until;
        if (exists && version->sequence <= sequence) {
            return version;
        }
        version = version->older;
    }
    return NULL;
}
