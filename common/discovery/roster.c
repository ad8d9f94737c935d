// SPDX-License-Identifier: Apache-2.0
#include "common/discovery/roster.h"

#include "common/base/mem.h"

void roster_free(struct roster *roster)
{
    mem_free(roster->entries);
    *roster = (struct roster){0};
}

static struct roster_entry *find(const struct roster *roster, const char *address)
{
    for (size_t i = 0; i < roster->count; i++) {
        if (strcmp(roster->entries[i].endpoint.address, address) == 0) {
            return &roster->entries[i];
        }
    }
    return NULL;
}

const struct endpoint *roster_find(const struct roster *roster, const char *address)
{
    const struct roster_entry *entry = find(roster, address);
    return entry == NULL ? NULL : &entry->endpoint;
}

static void append(struct roster *roster, const struct roster_entry *entry)
{
    if (roster->count < ROSTER_MAX) {
        roster->entries =
            mem_realloc(roster->entries, (roster->count + 1) * sizeof *roster->entries);
        roster->entries[roster->count++] = *entry;
        roster->missed += entry->missed;
    }
}

void roster_remember(struct roster *roster, const struct endpoint *endpoint)
{
    if (find(roster, endpoint->address) == NULL) {
        append(roster, &(struct roster_entry){.endpoint = *endpoint, .missed = true});
    }
}

void roster_take(struct roster *roster, const struct endpoints *named, bool whole,
                 uint64_t now_ns)
{
    if (named->count == 0) {
        return;
    }
    struct roster next = {.heard_ns = whole ? now_ns : roster->heard_ns};
    for (size_t i = 0; i < named->count; i++) {
        if (find(&next, named->endpoint[i].address) == NULL) {
            append(&next, &(struct roster_entry){.endpoint = named->endpoint[i]});
        }
    }
    uint64_t passed_ns =
        roster->heard_ns == 0 ? 0 : u64_min(now_ns - roster->heard_ns, ROSTER_STEP_NS);
    size_t leaving = roster->count < 3 ? 1 : roster->count / 3;
    for (size_t i = 0; i < roster->count; i++) {
        struct roster_entry entry = roster->entries[i];
        if (find(&next, entry.endpoint.address) != NULL) {
            continue;
        }
        if (whole) {
            entry.missed_ns += entry.missed ? passed_ns : 0;
            entry.missed = true;
        }
        if (entry.missed_ns >= ROSTER_KEPT_NS && whole && leaving > 0) {
            leaving--;
        } else {
            append(&next, &entry);
        }
    }
    roster_free(roster);
    *roster = next;
}
