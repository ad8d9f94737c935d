// SPDX-License-Identifier: Apache-2.0
// A file that cannot be read or understood is taken as naming the store in use: a walk costs
// little. The same for one that comes back after a crash because its removal was not synced.
#include "common/core/proof.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define FORMAT "qs store %" PRIu64 " is not proven by a walk\n"
#define FILE_BYTES 80

static char *file_path(const struct instance *instance)
{
    return mem_format("%s/UNPROVEN", instance->directory);
}

void proof_open(struct instance *instance)
{
    uint8_t text[FILE_BYTES];
    size_t size = 0;
    char *path = file_path(instance);
    int error = file_load(path, text, sizeof text, &size);
    mem_free(path);
    if (error == ERR_NOT_FOUND) {
        return;
    }
    uint64_t number = instance->shelf.serving;
    if (error == OK && size < sizeof text) {
        text[size] = '\0';
        (void)sscanf((const char *)text, FORMAT, &number);
    }
    atomic_store(&instance->unproven, number == instance->shelf.serving);
}

int proof_owe(struct instance *instance, uint64_t number)
{
    char *path = file_path(instance);
    char *text = mem_format(FORMAT, number);
    int error = file_save(path, bytes_text(text));
    if (error != OK) {
        log_line(LOG_ERROR, instance->name, "cannot write %s: %s", path, strerror(errno));
    } else {
        atomic_store(&instance->unproven, true);
    }
    mem_free(text);
    mem_free(path);
    return error;
}

void proof_give(struct instance *instance)
{
    if (atomic_exchange(&instance->unproven, false)) {
        char *path = file_path(instance);
        if (unlink(path) != 0) {
            log_line(LOG_WARN, instance->name, "cannot remove %s: %s", path, strerror(errno));
        }
        mem_free(path);
    }
}
