// SPDX-License-Identifier: Apache-2.0
#include "common/shared/region.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static int map(struct region *region, bool writable)
{
    int access = PROT_READ | (writable ? PROT_WRITE : 0);
    void *memory = mmap(NULL, region->bytes, access, MAP_SHARED, region->fd, 0);
    if (memory == MAP_FAILED) {
        return error_from_errno(errno);
    }
    (void)madvise(memory, region->bytes, MADV_DONTDUMP); // data has no place in others' core files
    region->memory = memory;
    return OK;
}

// Allocated now: whoever is the first to touch a page pays for it otherwise, a reader too, and dies
// if there is none.
static int allocate(const struct region *region)
{
    int code;
    do {
        code = fallocate(region->fd, 0, 0, (off_t)region->bytes);
    } while (code != 0 && errno == EINTR);
    return code == 0 ? OK : errno == ENOSPC ? ERR_MEMORY : error_from_errno(errno);
}

// The seal against writing spares mappings that are there already.
static int shape(struct region *region, enum region_kind kind)
{
    int error = allocate(region);
    if (error == OK) {
        error = map(region, true);
    }
    int seals = SIZE_SEALS | (kind == REGION_WRITE ? 0 : F_SEAL_FUTURE_WRITE);
    if (error == OK && fcntl(region->fd, F_ADD_SEALS, seals) != 0) {
        error = error_from_errno(errno);
    }
    return error;
}

int region_create(struct region *ret_region, enum region_kind kind, size_t bytes)
{
    CHECK(bytes > 0);
    struct region region = {.bytes = bytes};
    region.fd = memfd_create("qs", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (region.fd < 0) {
        return error_from_errno(errno);
    }
    int error = shape(&region, kind);
    if (error != OK) {
        region_close(&region);
        return error;
    }
    *ret_region = region;
    return OK;
}

int region_map(struct region *ret_region, enum region_kind kind, int fd, size_t least)
{
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size < (off_t)least) {
        return ERR_PROTOCOL;
    }
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
        return ERR_PROTOCOL;
    }
    struct region region = {.fd = fd, .bytes = (size_t)info.st_size};
    int error = map(&region, kind == REGION_WRITE);
    if (error == OK) {
        region.fd = -1;
        *ret_region = region;
    }
    return error;
}

void region_close(struct region *region)
{
    if (region->memory != NULL) {
        munmap(region->memory, region->bytes);
    }
    if (region->fd > 0) {
        close(region->fd);
    }
    *region = (struct region){.fd = -1};
}
