// SPDX-License-Identifier: Apache-2.0
// 0 version u8 · 1 floor u64 · 9 check (XXH3-128 of the 9 bytes before)
#include "replica/floor_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/bytes.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define NAME "history_floor"
#define VERSION 1
#define CHECKED_BYTES 9
#define FILE_BYTES (CHECKED_BYTES + HASH128_BYTES)

static int write_synced(const char *path, const uint8_t *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0) {
        return error_from_errno(errno);
    }
    errno = ENOSPC; // what a short write means
    bool written = write(fd, data, size) == (ssize_t)size && fsync(fd) == 0;
    int error = written ? OK : error_from_errno(errno);
    close(fd);
    return error;
}

static int sync_directory(const char *directory)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return error_from_errno(errno);
    }
    int error = fsync(fd) == 0 ? OK : error_from_errno(errno);
    close(fd);
    return error;
}

int floor_file_write(const char *directory, const char *scope, uint64_t floor)
{
    static struct log_gate gate;
    uint8_t data[FILE_BYTES];
    data[0] = VERSION;
    store_u64(data + 1, floor);
    hash128_store(data + CHECKED_BYTES, hash128(bytes_of(data, CHECKED_BYTES), 0));
    char *path = mem_format("%s/" NAME, directory);
    char *temporary = mem_format("%s/" NAME ".new", directory);
    int error = write_synced(temporary, data, sizeof data);
    if (error == OK && rename(temporary, path) != 0) {
        error = error_from_errno(errno);
    }
    if (error == OK) {
        error = sync_directory(directory);
    }
    if (error != OK) {
        LOG_GATED(&gate, LOG_WARN, scope, "cannot write %s: %s", path, error_text(error));
    }
    mem_free(temporary);
    mem_free(path);
    return error;
}

int floor_file_read(const char *directory, uint64_t *ret_floor)
{
    char *path = mem_format("%s/" NAME, directory);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int code = errno;
    mem_free(path);
    if (fd < 0) {
        return code == ENOENT ? ERR_NOT_FOUND : error_from_errno(code);
    }
    uint8_t data[FILE_BYTES + 1];
    ssize_t size = read(fd, data, sizeof data);
    code = errno;
    close(fd);
    if (size < 0) {
        return error_from_errno(code);
    }
    if (size != FILE_BYTES || data[0] != VERSION) {
        return ERR_CORRUPT;
    }
    struct hash128 check = hash128(bytes_of(data, CHECKED_BYTES), 0);
    if (!hash128_equal(check, hash128_load(data + CHECKED_BYTES))) {
        return ERR_CORRUPT;
    }
    *ret_floor = load_u64(data + 1);
    return OK;
}
