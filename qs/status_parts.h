// SPDX-License-Identifier: Apache-2.0
// Inside the telling of the state, for qs/status*.c only: one snapshot of an instance, taken once
// and shown as JSON (status.c) or as INFO text (status_info.c). Any thread.
#ifndef QS_QS_STATUS_PARTS_H
#define QS_QS_STATUS_PARTS_H

#include <jansson.h>

#include "common/core/space.h"
#include "qs/status.h"

#define STATUS_CHILDREN_MAX 256
#define STATUS_REPLICAS_MAX 64

struct instance_status {
    const struct instance_options *options;
    enum instance_state state;
    bool has_view, has_history;
    const char *store; // how its store is: "unproven", "proven", "unsound", "rebuilding"
    uint64_t visible, epoch, history_floor;
    struct digest digest;
    char history[2 * HISTORY_ID_BYTES + 1]; // hexadecimal, "" without one
    char digest_text[HASH128_TEXT_BYTES];
    uint64_t synced;
    uint64_t age_ns; // UINT64_MAX = unknown
    struct space_state space;
};

void instance_status_take(struct instance_status *ret_status, const struct daemon_instance *each);

const char *instance_state_text(enum instance_state state); // "loading", "serving", "stopped"

// Milliseconds, UINT64_MAX stays UINT64_MAX.
uint64_t status_ms(uint64_t ns);

// JSON: text whose bytes nobody vouches for; members; a duration that may be unknown.
json_t *status_text(const char *text, size_t size) MUST_CHECK;
void status_set_text(json_t *object, const char *name, const char *text); // NULL = null
void status_set_number(json_t *object, const char *name, uint64_t number);
void status_set_ms(json_t *object, const char *name, uint64_t ns);
void status_append_json(json_t *value, struct buf *to); // takes the value over
json_t *status_place_json(struct daemon_instance *each) MUST_CHECK;

#endif
