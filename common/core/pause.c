// SPDX-License-Identifier: Apache-2.0
#include "common/core/pause.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/mem.h"

#define FORMAT "qs nothing behind block %" PRIu64 " was shown\n"
#define FILE_BYTES 80

static char *file_path(const struct instance *instance)
{
    return mem_format("%s/PAUSED", instance->directory);
}

void pause_open(struct pause *pause, const struct instance *instance)
{
    uint8_t text[FILE_BYTES];
    size_t size = 0;
    char *path = file_path(instance);
    int error = file_load(path, text, sizeof text - 1, &size);
    mem_free(path);
    *pause = (struct pause){.kept = error != ERR_NOT_FOUND, .block = UINT64_MAX};
    uint64_t block;
    if (error == OK) {
        text[size] = '\0';
        if (sscanf((const char *)text, FORMAT, &block) == 1) {
            pause->block = block;
        }
    }
}

void pause_begin(struct pause *pause, struct instance *instance, uint64_t block)
{
    if ((pause->kept && pause->block == block) || store_flush(instance->store) != OK) {
        return;
    }
    char *path = file_path(instance);
    char *text = mem_format(FORMAT, block);
    int error = file_save(path, bytes_text(text));
    pause->kept = true; // even a failed one may have left it
    pause->block = error == OK ? block : UINT64_MAX;
    if (error != OK) {
        LOG_GATED(&pause->gate, LOG_WARN, instance->name, "cannot write %s: %s", path,
                  strerror(errno));
    }
    mem_free(text);
    mem_free(path);
}

int pause_end(struct pause *pause, struct instance *instance, uint64_t block)
{
    if (!pause->kept || (pause->block != UINT64_MAX && block <= pause->block)) {
        return OK;
    }
    char *path = file_path(instance);
    int error = unlink(path) == 0 || errno == ENOENT ? file_sync_directory(instance->directory)
                                                     : error_from_errno(errno);
    pause->kept = error != OK;
    if (error != OK) {
        LOG_GATED(&pause->gate, LOG_ERROR, instance->name, "cannot remove %s: %s", path,
                  strerror(errno));
    }
    mem_free(path);
    return error;
}

bool pause_covers(const struct pause *pause, uint64_t block)
{
    return pause->kept && block >= pause->block; // UINT64_MAX: it says nothing
}
