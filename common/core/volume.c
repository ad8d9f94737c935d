// SPDX-License-Identifier: Apache-2.0
#include "common/core/volume.h"

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/disk.h"

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

void volume_remove(struct volume *volume)
{
    char *directory = mem_text(volume->directory);
    if (volume_close(volume) && disk_remove(directory) != OK) {
        log_line(LOG_WARN, NULL, "%s could not be removed", directory);
    }
    mem_free(directory);
}

bool volumes_sweep(struct list *retired)
{
    LIST_FOR_EACH(node, retired) {
        struct volume *volume = CONTAINER_OF(node, struct volume, node);
        if (!volume_held(volume)) {
            list_remove(&volume->node);
            volume_remove(volume);
        }
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
