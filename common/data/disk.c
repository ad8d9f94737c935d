// SPDX-License-Identifier: Apache-2.0
#include "common/data/disk.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/statvfs.h>

#define OPEN_DIRECTORIES_MAX 4

int disk_free(const char *path, uint64_t *ret_bytes)
{
    struct statvfs system;
    if (statvfs(path, &system) != 0) {
        return error_from_errno(errno);
    }
    *ret_bytes = (uint64_t)system.f_bavail * system.f_frsize;
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
