// SPDX-License-Identifier: Apache-2.0
#include "common/tree/parents.h"

#include <string.h>

#include "common/base/mem.h"

#define BAD_TWICE 2 // a parent whose same block is bad this often is left

static struct parent *find(const struct parents *parents, const char *address)
{
    for (unsigned i = 0; i < parents->count; i++) {
        if (strcmp(parents->all[i]->endpoint.address, address) == 0) {
            return parents->all[i];
        }
    }
    return NULL;
}

static void drop_unlisted(struct parents *parents)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < parents->count; i++) {
        struct parent *parent = parents->all[i];
        if (parent->listed || parent->holders > 0) {
            parents->all[kept++] = parent;
        } else {
            mem_free(parent);
        }
    }
    parents->count = kept;
}

void parents_close(struct parents *parents)
{
    for (unsigned i = 0; i < parents->count; i++) {
        CHECK(parents->all[i]->holders == 0);
        mem_free(parents->all[i]);
    }
    *parents = (struct parents){0};
}

bool parents_take(struct parents *parents, const struct endpoints *list)
{
    struct parents before = *parents;
    bool added = false;
    for (unsigned i = 0; i < before.count; i++) {
        before.all[i]->listed = false;
    }
    parents->count = 0;
    for (size_t i = 0; i < list->count && parents->count < PARENTS_MAX; i++) {
        const struct endpoint *endpoint = &list->endpoint[i];
        struct parent *parent = find(&before, endpoint->address);
        if (find(parents, endpoint->address) != NULL) {
            continue; // listed twice
        }
        if (parent == NULL) {
            parent = mem_zalloc(sizeof *parent);
            added = true;
        }
        parent->listed = true;
        parent->endpoint = *endpoint;
        parents->all[parents->count++] = parent;
    }
    parents->listed = parents->count;
    for (unsigned i = 0; i < before.count; i++) {
        if (!before.all[i]->listed && before.all[i]->holders > 0) {
            parents->all[parents->count++] = before.all[i];
        } else if (!before.all[i]->listed) {
            mem_free(before.all[i]);
        }
    }
    return added;
}

void parents_hold(struct parents *parents, struct parent **holder, struct parent *parent)
{
    if (parent != NULL) {
        parent->holders++;
    }
    if (*holder != NULL) {
        CHECK((*holder)->holders > 0);
        (*holder)->holders--;
    }
    *holder = parent;
    drop_unlisted(parents);
}

struct parent *parents_after(const struct parents *parents, const struct parent *parent)
{
    unsigned at = 0;
    while (at < parents->listed && parents->all[at] != parent) {
        at++;
    }
    unsigned next = at + 1 < parents->listed ? at + 1 : 0;
    return parents->listed == 0 ? NULL : parents->all[next];
}

bool parent_is_left(const struct parent *parent, uint64_t damaged)
{
    return parent->bad_count >= BAD_TWICE || (damaged != 0 && parent->no_repair == damaged);
}

struct parent *parents_choose(const struct parents *parents, uint64_t damaged)
{
    struct parent *best = NULL;
    for (unsigned i = 0; i < parents->listed; i++) {
        struct parent *parent = parents->all[i];
        bool usable = !parent->tried && !parent_is_left(parent, damaged);
        if (usable && (best == NULL || parent->lost_ns < best->lost_ns)) {
            best = parent;
        }
    }
    return best;
}

void parents_new_round(struct parents *parents, uint64_t damaged)
{
    bool all_left = true;
    for (unsigned i = 0; i < parents->listed; i++) {
        parents->all[i]->tried = false;
        all_left = all_left && parent_is_left(parents->all[i], damaged);
    }
    for (unsigned i = 0; i < parents->listed && all_left; i++) {
        parents->all[i]->bad_count = 0;
        parents->all[i]->no_repair = 0;
    }
}
