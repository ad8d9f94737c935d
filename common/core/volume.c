// SPDX-License-Identifier: Apache-2.0
#include "common/core/volume.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/disk.h"

#define CLOSE_AGAIN_NS (30 * NS_PER_S)

int volume_open(struct volume **ret_volume, const struct store_options *options)
{
    struct volume *volume = mem_zalloc(sizeof *volume);
    int error = store_open(&volume->store, options);
    if (error != OK) {
        mem_free(volume);
        return error;
    }
    volume->directory = mem_text(options->directory);
    list_init(&volume->node);
    *ret_volume = volume;
    return OK;
}

bool volume_close(struct volume *volume)
{
    CHECK(!volume_held(volume));
    if (!store_close(volume->store)) {
        return false;
    }
    mem_free(volume->directory);
    mem_free(volume);
    return true;
}

// False: it had to stay open.
static bool close_retired(struct volume *volume)
{
    char *directory = mem_text(volume->directory);
    bool kept = volume->kept;
    bool closed = volume_close(volume);
    if (closed && !kept && disk_remove(directory) != OK) {
        log_line(LOG_WARN, NULL, "%s could not be removed", directory);
    }
    mem_free(directory);
    return closed;
}

bool volumes_sweep(struct list *retired, bool last)
{
    struct list all, *node;
    list_init(&all);
    list_move_all(&all, retired);
    while ((node = list_take(&all)) != NULL) {
        struct volume *volume = CONTAINER_OF(node, struct volume, node);
        bool due = last || clock_mono_ns() >= volume->again_ns;
        if (!volume_held(volume) && due) {
            if (close_retired(volume)) {
                continue;
            }
            volume->again_ns = clock_mono_ns() + CLOSE_AGAIN_NS;
        }
        list_append(retired, node);
    }
    return list_empty(retired);
}

struct volume *volume_hold(struct volume *volume)
{
    atomic_fetch_add_explicit(&volume->references, 1, memory_order_relaxed);
    return volume;
}

void volume_release(struct volume *volume)
{
    if (volume != NULL) {
        unsigned before = atomic_fetch_sub_explicit(&volume->references, 1, memory_order_acq_rel);
        CHECK(before > 0);
    }
}

bool volume_held(const struct volume *volume)
{
    return atomic_load_explicit(&volume->references, memory_order_acquire) > 0;
}
