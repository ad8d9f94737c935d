// SPDX-License-Identifier: Apache-2.0
#include "common/core/window.h"

#define SPANS_PER_LIMIT 1024

void window_open(struct window *window, uint64_t age_ns, uint64_t limit_bytes, uint64_t index)
{
    window->age_ns = age_ns;
    window->limit_bytes = limit_bytes;
    window->floor = index;
    window->newest = index;
    window->bytes = 0;
    window->first = 0;
    window->count = 0;
}

static struct window_span *span_at(struct window *window, unsigned i)
{
    CHECK(i < window->count);
    return &window->spans[(window->first + i) % WINDOW_SPANS];
}

static bool joins(const struct window *window, const struct window_span *span, uint64_t bytes,
                  uint64_t now_ns)
{
    return now_ns - span->begun_ns < window->age_ns / SPANS_PER_LIMIT &&
           span->bytes + bytes <= window->limit_bytes / SPANS_PER_LIMIT;
}

static void drop_oldest(struct window *window)
{
    struct window_span *oldest = span_at(window, 0);
    CHECK(oldest->end >= window->floor && oldest->bytes <= window->bytes);
    window->floor = oldest->end;
    window->bytes -= oldest->bytes;
    window->first = (window->first + 1) % WINDOW_SPANS;
    window->count--;
}

void window_add(struct window *window, uint64_t index, uint64_t bytes, uint64_t now_ns)
{
    CHECK(index >= window->newest);
    window->newest = index;
    window->bytes += bytes;
    struct window_span *last = window->count > 0 ? span_at(window, window->count - 1) : NULL;
    // A full ring (the caller has not advanced for long) keeps more, never less, than asked.
    if (last != NULL && (joins(window, last, bytes, now_ns) || window->count == WINDOW_SPANS)) {
        last->end = index;
        last->bytes += bytes;
        last->ended_ns = now_ns;
        return;
    }
    window->count++;
    *span_at(window, window->count - 1) = (struct window_span){
        .end = index, .bytes = bytes, .begun_ns = now_ns, .ended_ns = now_ns};
}

void window_limit(struct window *window, uint64_t limit_bytes)
{
    window->limit_bytes = limit_bytes;
}

// Whoever looks may have read the clock before a span was added by another thread.
static bool is_aged(const struct window *window, const struct window_span *span, uint64_t now_ns)
{
    return now_ns >= span->ended_ns && now_ns - span->ended_ns >= window->age_ns;
}

uint64_t window_advance(struct window *window, uint64_t now_ns)
{
    while (window->count > 0 && (window->bytes > window->limit_bytes ||
                                 is_aged(window, span_at(window, 0), now_ns))) {
        drop_oldest(window);
    }
    return window->floor;
}

void window_raise(struct window *window, uint64_t index)
{
    CHECK(index <= window->newest);
    while (window->count > 0 && span_at(window, 0)->end <= index) {
        drop_oldest(window);
    }
    window->floor = u64_max(window->floor, index);
}
