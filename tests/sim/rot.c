// SPDX-License-Identifier: Apache-2.0
// What disks do to files that lie there for long: bits flip, ends are cut, files go missing. One
// file of a kind is chosen, each as likely as another.
#include <stdio.h>
#include <string.h>

#include "common/data/block.h"
#include "tests/sim/seams.h"

#define PATH_BYTES 96

struct choice {
    bool (*fits)(const struct choice *choice, const struct settled *settled);
    char oldest[PATH_BYTES]; // journal file
    char path[PATH_BYTES];   // chosen
    unsigned seen;
    bool spare; // files without which a node waits for a person
};

static bool ends_with(const char *path, const char *end)
{
    size_t length = strlen(path), size = strlen(end);
    return length > size && strcmp(path + length - size, end) == 0;
}

static void choose(void *own, struct settled *settled)
{
    struct choice *choice = own;
    if (choice->fits(choice, settled) && chance_below(++choice->seen) == 0) {
        snprintf(choice->path, sizeof choice->path, "%s", settled->path);
    }
}

// ---- journals ----------------------------------------------------------------------------------

static void find_oldest(void *own, struct settled *settled)
{
    struct choice *choice = own;
    if (ends_with(settled->path, ".qsj") &&
        (choice->oldest[0] == '\0' || strcmp(settled->path, choice->oldest) < 0)) {
        snprintf(choice->oldest, sizeof choice->oldest, "%s", settled->path);
    }
}

// The copy of a header at the head of the oldest segment says where the journal begins, and nobody
// may have that block any more: bits of it stay as they are.
static size_t first_byte(const struct choice *choice, const struct settled *settled)
{
    return strcmp(settled->path, choice->oldest) == 0 ? BLOCK_HEADER_BYTES : 0;
}

static bool is_journal(const struct choice *choice, const struct settled *settled)
{
    return ends_with(settled->path, ".qsj") && settled->size > first_byte(choice, settled);
}

static void flip_journal(void *own, struct settled *settled)
{
    const struct choice *choice = own;
    if (strcmp(settled->path, choice->path) == 0) {
        size_t at = chance_between(first_byte(choice, settled), settled->size - 1);
        settled->data[at] ^= (uint8_t)(1u << chance_below(8));
    }
}

bool disk_flip(unsigned host)
{
    struct choice choice = {.fits = is_journal};
    disk_each(host, find_oldest, &choice);
    disk_each(host, choose, &choice);
    if (choice.seen == 0) {
        return false;
    }
    disk_each(host, flip_journal, &choice);
    count_add(COUNT_flips_disk, 1);
    return true;
}

// ---- small files -------------------------------------------------------------------------------

static bool is_small(const struct choice *choice, const struct settled *settled)
{
    static const char *const spared[] = {"/STORES", "/IDENTITY", "/commit"};
    bool small = !ends_with(settled->path, ".qsj") && !ends_with(settled->path, "/LOCK");
    for (size_t i = 0; i < ARRAY_LEN(spared); i++) {
        small = small && !(choice->spare && ends_with(settled->path, spared[i]));
    }
    return small;
}

static void damage(void *own, struct settled *settled)
{
    struct choice *choice = own;
    if (strcmp(settled->path, choice->path) != 0) {
        return;
    }
    if (chance_permille(700)) {
        settled->data[chance_below(settled->size)] ^= (uint8_t)(1u << chance_below(8));
    } else {
        settled->size = chance_below(settled->size);
    }
}

bool disk_harm(unsigned host, bool spare)
{
    struct choice choice = {.fits = is_small, .spare = spare};
    disk_each(host, choose, &choice);
    if (choice.seen == 0) {
        return false;
    }
    bool lost = chance_permille(400);
    world_log("disk", "%s is %s", choice.path, lost ? "lost" : "damaged");
    if (lost) {
        disk_lose(host, choice.path);
    } else {
        disk_each(host, damage, &choice);
    }
    count_add(lost ? COUNT_files_lost : COUNT_files_damaged, 1);
    return true;
}
