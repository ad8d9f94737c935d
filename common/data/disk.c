// SPDX-License-Identifier: Apache-2.0
#include "common/data/disk.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/statvfs.h>

#define OPEN_DIRECTORIES_MAX 4
#define STAT_BLOCK_BYTES 512

// nftw's callbacks have no argument of ours.
static _Thread_local uint64_t used_now;

int disk_free(const char *path, uint64_t *ret_bytes)
{
    struct statvfs system;
    if (statvfs(path, &system) != 0) {
        return error_from_errno(errno);
    }
    *ret_bytes = (uint64_t)system.f_bavail * system.f_frsize;
    return OK;
}

int disk_total(const char *path, uint64_t *ret_bytes)
{
    struct statvfs system;
    if (statvfs(path, &system) != 0) {
        return error_from_errno(errno);
    }
    *ret_bytes = (uint64_t)system.f_blocks * system.f_frsize;
    return OK;
}

// The names of one file share its bytes.
static int count_one(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
    (void)path, (void)walk;
    if (type != FTW_NS && stat->st_nlink > 0) {
        uint64_t names = S_ISDIR(stat->st_mode) ? 1 : (uint64_t)stat->st_nlink;
        used_now += (uint64_t)stat->st_blocks * STAT_BLOCK_BYTES / names;
    }
    return 0;
}

int disk_used(const char *path, uint64_t *ret_bytes)
{
    used_now = 0;
    if (nftw(path, count_one, OPEN_DIRECTORIES_MAX, FTW_PHYS) != 0) {
        return errno == ENOENT ? ERR_NOT_FOUND : error_from_errno(errno);
    }
    *ret_bytes = used_now;
    return OK;
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *walk)
{
    (void)stat, (void)type, (void)walk;
    return remove(path);
}

int disk_remove(const char *path)
{
    int code = nftw(path, remove_one, OPEN_DIRECTORIES_MAX, FTW_DEPTH | FTW_PHYS);
    return code == 0 || errno == ENOENT ? OK : error_from_errno(errno);
}
