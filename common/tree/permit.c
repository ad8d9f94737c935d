// SPDX-License-Identifier: Apache-2.0
#include "common/tree/permit.h"

#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/data/limits.h"
#include "common/discovery/endpoints.h"

struct permit {
    struct list node;
    char holder[NODE_NAME_MAX + 1], site[ENDPOINT_SITE_MAX + 1];
    bool keys_only;
    uint64_t since_ns;
    uint64_t asked_ns; // a slice, or the permit
    uint64_t given_ns; // the last slice, 0 = not yet
};

static struct permit *permit_at(struct list *node)
{
    return CONTAINER_OF(node, struct permit, node);
}

static bool lapsed(const struct permit *permit, uint64_t now_ns)
{
    if (permit->given_ns != 0) {
        uint64_t took_ns = permit->given_ns - permit->since_ns;
        return now_ns - permit->given_ns >= took_ns + PERMIT_GRACE_NS;
    }
    return now_ns - permit->asked_ns >= PERMIT_IDLE_NS ||
           now_ns - permit->since_ns >= PERMIT_LONGEST_NS;
}

static void drop(struct permits *permits, struct permit *permit)
{
    list_remove(&permit->node);
    permits->count--;
    mem_free(permit);
}

static bool is_holder(const struct permit *permit, const struct permit_ask *ask)
{
    return strcmp(permit->holder, ask->node) == 0 && strcmp(permit->site, ask->site) == 0 &&
           permit->keys_only == ask->keys_only;
}

static struct permit *find(const struct permits *permits, const struct permit_ask *ask)
{
    LIST_FOR_EACH(node, &permits->all) {
        if (is_holder(permit_at(node), ask)) {
            return permit_at(node);
        }
    }
    return NULL;
}

void permits_open(struct permits *permits)
{
    *permits = (struct permits){0};
    list_init(&permits->all);
}

void permits_close(struct permits *permits)
{
    LIST_FOR_EACH(node, &permits->all) {
        drop(permits, permit_at(node));
    }
}

bool permits_wait(struct permits *permits, const struct permit_ask *ask, uint64_t now_ns)
{
    bool wait = false, holds = false;
    LIST_FOR_EACH(node, &permits->all) {
        struct permit *permit = permit_at(node);
        if (lapsed(permit, now_ns)) {
            drop(permits, permit);
        } else if (is_holder(permit, ask)) {
            holds = true;
        } else if (strcmp(permit->site, ask->site) == 0) {
            wait = wait || ask->keys_only || !permit->keys_only;
        }
    }
    return wait && !holds;
}

bool permits_take(struct permits *permits, const struct permit_ask *ask, uint64_t now_ns)
{
    struct permit *permit = find(permits, ask);
    if (permit == NULL) {
        if (permits->count == PERMITS_MAX) {
            return false;
        }
        permit = mem_zalloc(sizeof *permit);
        snprintf(permit->holder, sizeof permit->holder, "%s", ask->node);
        snprintf(permit->site, sizeof permit->site, "%s", ask->site);
        permit->keys_only = ask->keys_only;
        permit->since_ns = now_ns;
        list_append(&permits->all, &permit->node);
        permits->count++;
    }
    // Who comes again after the last slice has built in vain; the time since the first one counts.
    permit->given_ns = 0;
    permit->asked_ns = now_ns;
    return true;
}

void permits_asked(struct permits *permits, const struct permit_ask *ask, uint64_t now_ns)
{
    struct permit *permit = find(permits, ask);
    if (permit != NULL) {
        permit->asked_ns = now_ns;
    }
}

void permits_given(struct permits *permits, const struct permit_ask *ask, uint64_t now_ns)
{
    struct permit *permit = find(permits, ask);
    if (permit != NULL) {
        permit->given_ns = now_ns;
    }
}
