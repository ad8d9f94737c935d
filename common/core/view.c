// SPDX-License-Identifier: Apache-2.0
#include "common/core/view.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/shared/board.h"

void views_open(struct views *views)
{
    pthread_mutex_init(&views->lock, NULL);
    views->current = NULL;
    atomic_init(&views->forks, 0);
}

void views_close(struct views *views)
{
    view_release(views->current);
    views->current = NULL;
    pthread_mutex_destroy(&views->lock);
}

void views_publish(struct views *views, struct view *view)
{
    pthread_mutex_lock(&views->lock);
    struct view *previous = views->current;
    bool first = previous == NULL || previous->place.number == 0;
    bool forked = !first && memcmp(previous->history, view->history, HISTORY_ID_BYTES) != 0;
    CHECK(first || forked || view->place.index >= previous->place.index);
    view->forks = atomic_load(&views->forks) + forked;
    views->current = view;
    atomic_store(&views->forks, view->forks);
    pthread_mutex_unlock(&views->lock);
    view_release(previous);
}

unsigned views_forks(const struct views *views) { return atomic_load(&views->forks); }

struct view *views_pin(struct views *views)
{
    pthread_mutex_lock(&views->lock);
    struct view *view = views->current != NULL ? view_hold(views->current) : NULL;
    pthread_mutex_unlock(&views->lock);
    return view;
}

struct view *view_hold(struct view *view)
{
    unsigned before = atomic_fetch_add_explicit(&view->references, 1, memory_order_relaxed);
    CHECK(before > 0);
    return view;
}

void view_release(struct view *view)
{
    if (view == NULL) {
        return;
    }
    unsigned before = atomic_fetch_sub_explicit(&view->references, 1, memory_order_acq_rel);
    CHECK(before > 0);
    if (before == 1) {
        store_snapshot_release(view->store, view->snapshot);
        volume_release(view->volume);
        front_release(view->front);
        board_release(view->board);
        mem_free(view);
    }
}
