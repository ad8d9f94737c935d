// SPDX-License-Identifier: Apache-2.0
#include "common/shared/incarnation.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/shared/layout.h"

// By a write and not through a mapping, which could not say that the disk is full. Whatever the
// page says, it says something else afterwards. Not synced: no reader outlives the machine.
static int raise_page(int fd, uint64_t *ret_number)
{
    uint8_t page[SHARED_HEAD_BYTES] = {0};
    size_t at = offsetof(struct incarnation_page, number);
    if (pread(fd, page, sizeof page, 0) < 0) {
        return error_from_errno(errno);
    }
    uint64_t number = load_u64(page + at) + 1 + (random_u64() & UINT32_MAX);
    store_u32(page, INCARNATION_MAGIC);
    store_u32(page + offsetof(struct incarnation_page, version), SHARED_VERSION);
    store_u64(page + at, number);
    ssize_t size = pwrite(fd, page, sizeof page, 0);
    if (size != sizeof page) {
        return size < 0 ? error_from_errno(errno) : ERR_DISK_FULL;
    }
    *ret_number = number;
    return OK;
}

static int raise_file(const char *path, bool create, struct incarnation *incarnation)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
    if (fd < 0) {
        return errno == ENOENT ? ERR_NOT_FOUND : error_from_errno(errno);
    }
    int error = raise_page(fd, &incarnation->number);
    close(fd);
    if (error == OK && create) {
        incarnation->fd = open(path, O_RDONLY | O_CLOEXEC);
        error = incarnation->fd < 0 ? error_from_errno(errno) : OK;
    }
    return error;
}

int incarnation_raise(struct incarnation *ret_incarnation, const char *directory, bool create)
{
    struct incarnation incarnation = {.fd = -1};
    char *path = mem_format("%s/incarnation", directory);
    int error = raise_file(path, create, &incarnation);
    mem_free(path);
    if (error == OK) {
        *ret_incarnation = incarnation;
    }
    return error;
}

void incarnation_close(struct incarnation *incarnation)
{
    if (incarnation->fd >= 0) {
        close(incarnation->fd);
        incarnation->fd = -1;
    }
}
