// SPDX-License-Identifier: Apache-2.0
#include "common/discovery/inquiry.h"

#include <inttypes.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

#define HTTP_FORBIDDEN 403

uint64_t inquiry_index(uint64_t asked, uint64_t got) { return got < asked ? 0 : got; }

uint64_t inquiry_pause_ms(unsigned failures)
{
    return failures == 0 ? INQUIRY_LEAST_MS
                         : u64_min(INQUIRY_FAILED_MS, (uint64_t)500 << u64_min(failures - 1, 10));
}

static void on_answer(struct consul_call *call, const struct consul_answer *answer)
{
    struct inquiry *inquiry = CONTAINER_OF(call, struct inquiry, call);
    bool good = answer->error == OK;
    inquiry->failures = good ? 0 : inquiry->failures + 1;
    inquiry->index = good ? inquiry_index(inquiry->index, answer->index) : 0;
    uint64_t pause_ms = inquiry_pause_ms(inquiry->failures);
    if (answer->status == HTTP_FORBIDDEN) {
        pause_ms = INQUIRY_DENIED_MS;
    } else if (good && inquiry->every_ms != 0) {
        pause_ms = inquiry->every_ms;
    } else if (good) {
        pause_ms += pause_ms / 2; // jitter takes up to half off
    }
    inquiry->next_ns = clock_mono_ns() + random_jitter_ms(pause_ms) * NS_PER_MS;
    inquiry->answered(inquiry, answer);
}

void inquiry_open(struct inquiry *inquiry, char *path, uint64_t every_ms,
                  void (*answered)(struct inquiry *inquiry, const struct consul_answer *answer))
{
    *inquiry = (struct inquiry){
        .path = path,
        .every_ms = every_ms,
        .answered = answered,
        .call = {.answered = on_answer},
    };
}

void inquiry_close(struct inquiry *inquiry)
{
    consul_cancel(&inquiry->call);
    mem_free(inquiry->path);
}

static void begin_anew(struct inquiry *inquiry, uint64_t now_ns)
{
    consul_cancel(&inquiry->call);
    inquiry->index = 0;
    inquiry->next_ns = now_ns + random_jitter_ms(INQUIRY_LEAST_MS) * NS_PER_MS;
}

uint64_t inquiry_turn(struct inquiry *inquiry, struct consul *consul, uint64_t now_ns)
{
    if (inquiry->life != consul_life(consul) && inquiry->index != 0) {
        begin_anew(inquiry, now_ns);
    }
    inquiry->life = consul_life(consul);
    if (consul_busy(&inquiry->call)) {
        return UINT64_MAX;
    }
    if (now_ns < inquiry->next_ns) {
        return inquiry->next_ns;
    }
    if (inquiry->every_ms != 0 || inquiry->index == 0) {
        consul_get(consul, &inquiry->call, inquiry->path, CONSUL_TIMEOUT_MS);
        return UINT64_MAX;
    }
    char *path = mem_format("%s%cindex=%" PRIu64 "&wait=%us", inquiry->path,
                            strchr(inquiry->path, '?') == NULL ? '?' : '&', inquiry->index,
                            INQUIRY_WAIT_MS / 1000);
    // Consul adds up to a sixteenth of its own.
    consul_get(consul, &inquiry->call, path,
               INQUIRY_WAIT_MS + INQUIRY_WAIT_MS / 16 + CONSUL_TIMEOUT_MS);
    mem_free(path);
    return UINT64_MAX;
}
