// SPDX-License-Identifier: Apache-2.0
// Which replicas there are: the list in force, to which the pool's members follow. A replica that
// has left the list is asked nothing new, and its link ends once nothing is under way on it; its
// number is then free for another one.
#include "common/base/mem.h"
#include "proxy/fetcher.h"

static struct log_gate crowded_gate;

static bool is_free(const struct source *source) { return source_state(source) == SOURCE_CLOSED; }

// Sources are opened under the lock, for those who look at them from other threads.
static void enter(struct fetcher *fetcher, unsigned number, const struct endpoint *endpoint)
{
    struct source *source = &fetcher->sources[number];
    pthread_mutex_lock(&fetcher->lock);
    source_open(source, fetcher->instance, number, endpoint, fetcher->source_ops, fetcher);
    pool_enter(&fetcher->pool, number);
    fetcher->source_count += number == fetcher->source_count;
    pthread_mutex_unlock(&fetcher->lock);
    flights_forget(&fetcher->flights, number);
    recall_forget(fetcher, number);
    source_start(source);
}

static void add(struct fetcher *fetcher, const struct endpoint *endpoint)
{
    unsigned number = 0;
    while (number < fetcher->source_count && !is_free(&fetcher->sources[number])) {
        number++;
    }
    if (number < POOL_MAX) {
        enter(fetcher, number, endpoint);
    } else {
        LOG_GATED(&crowded_gate, LOG_WARN, fetcher->instance->name,
                  "replica %s is not used: only %u are", endpoint->address, POOL_MAX);
    }
}

static struct source *find(struct fetcher *fetcher, const struct endpoint *endpoint)
{
    for (unsigned i = 0; i < fetcher->source_count; i++) {
        struct source *source = &fetcher->sources[i];
        if (!is_free(source) && strcmp(source->text, endpoint->address) == 0) {
            return source;
        }
    }
    return NULL;
}

// One that was about to be left, and is listed again before its last answer came, is asked again.
// If it is closing already it is opened anew when it has closed.
static void keep(struct fetcher *fetcher, struct source *source)
{
    source->listed = true;
    if (source_state(source) == SOURCE_READY) {
        pool_staying(&fetcher->pool, source->number);
    }
}

void fetcher_take_list(struct fetcher *fetcher)
{
    struct endpoints *list = endpoint_feed_get(&fetcher->instance->replicas);
    for (unsigned i = 0; i < fetcher->source_count; i++) {
        fetcher->sources[i].listed = false;
    }
    for (size_t i = 0; i < list->count; i++) {
        struct source *known = find(fetcher, &list->endpoint[i]);
        if (known != NULL) {
            keep(fetcher, known);
        }
    }
    for (size_t i = 0; i < list->count; i++) {
        if (find(fetcher, &list->endpoint[i]) == NULL) {
            add(fetcher, &list->endpoint[i]);
        }
    }
    fetcher->listed = (unsigned)u64_min(list->count, POOL_MAX);
    endpoints_release(list);
    fetcher_stir(fetcher);
}

void fetcher_retire(struct fetcher *fetcher)
{
    for (unsigned i = 0; i < fetcher->source_count; i++) {
        struct source *source = &fetcher->sources[i];
        if (source->listed || source->closing || is_free(source)) {
            continue;
        }
        pool_leaving(&fetcher->pool, i);
        if (fetcher->pool.members[i].requests == 0) {
            log_line(LOG_INFO, fetcher->instance->name,
                     "replica %s is no longer listed and is left", source->text);
            source_close(source);
        }
    }
}

void fetcher_members_open(struct fetcher *fetcher)
{
    pthread_mutex_init(&fetcher->lock, NULL);
    fetcher->sources = mem_zalloc(POOL_MAX * sizeof *fetcher->sources);
    for (unsigned i = 0; i < POOL_MAX; i++) {
        atomic_store(&fetcher->sources[i].state, SOURCE_CLOSED);
    }
}

void fetcher_members_close(struct fetcher *fetcher)
{
    mem_free(fetcher->sources);
    pthread_mutex_destroy(&fetcher->lock);
}
