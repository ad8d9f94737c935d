// SPDX-License-Identifier: Apache-2.0
#include "common/shared/region.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HUGE_BYTES (2 * MIB) // a page of x86-64 and of most others that has a table of its own
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 // Linux 6.1
#endif
#define SIZE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

// An address for `bytes` at which huge pages can lie, with room behind them; NULL: errno says why.
static uint8_t *reserve(size_t bytes)
{
    size_t all = bytes + HUGE_BYTES;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    uint8_t *memory = mmap(NULL, all, PROT_NONE, flags, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    size_t before = (HUGE_BYTES - (uintptr_t)memory % HUGE_BYTES) % HUGE_BYTES;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t end = before + (bytes + page - 1) / page * page;
    if (before > 0) {
        munmap(memory, before);
    }
    munmap(memory + end, all - end);
    return memory + before;
}

// A look touches a line or two anywhere in it: with small pages the walk to it costs more than it.
static int map(struct region *region, bool writable)
{
    int access = PROT_READ | (writable ? PROT_WRITE : 0);
    uint8_t *place = reserve(region->bytes);
    if (place == NULL) {
        return error_from_errno(errno);
    }
    void *memory = mmap(place, region->bytes, access, MAP_SHARED | MAP_FIXED, region->fd, 0);
    if (memory == MAP_FAILED) {
        int error = error_from_errno(errno);
        munmap(place, region->bytes);
        return error;
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

size_t region_fold(const struct region *region, size_t from, size_t most)
{
    size_t end = u64_min(region->bytes, from + u64_min(most, region->bytes));
    end = end / HUGE_BYTES * HUGE_BYTES;
    if (end > from) {
        (void)madvise((uint8_t *)region->memory + from, end - from, MADV_COLLAPSE);
    }
    return end;
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
