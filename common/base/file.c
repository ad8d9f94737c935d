// SPDX-License-Identifier: Apache-2.0
#include "common/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/mem.h"

// The next part of a transfer went as `done` says. OK: go on.
static int judge(ssize_t done, int error_at_end)
{
    if (done > 0 || (done < 0 && errno == EINTR)) {
        return OK;
    }
    return done == 0 ? error_at_end : error_from_errno(errno);
}

int file_write_all(int fd, struct bytes content)
{
    int error = OK;
    while (error == OK && content.size > 0) {
        errno = ENOSPC; // what it means that nothing was written
        ssize_t written = write(fd, content.data, content.size);
        error = judge(written, ERR_DISK_FULL);
        if (written > 0) {
            content = bytes_of(content.data + written, content.size - (size_t)written);
        }
    }
    return error;
}

int file_read_all(int fd, uint8_t *to, size_t size)
{
    int error = OK;
    while (error == OK && size > 0) {
        ssize_t got = read(fd, to, size);
        error = judge(got, ERR_CORRUPT);
        if (got > 0) {
            to += got;
            size -= (size_t)got;
        }
    }
    return error;
}

int file_sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = fd >= 0 && fsync(fd) == 0 ? OK : error_from_errno(errno);
    int code = errno;
    if (fd >= 0) {
        close(fd);
    }
    errno = code;
    return error;
}

static int sync_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    CHECK(slash != NULL && slash != path);
    char *directory = mem_format("%.*s", (int)(slash - path), path);
    int error = file_sync_directory(directory);
    mem_free(directory);
    return error;
}

int file_fresh(int folder, const char *name, int access)
{
    if (unlinkat(folder, name, 0) != 0 && errno != ENOENT) {
        return -1;
    }
    return openat(folder, name, access | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
}

int file_save(const char *path, struct bytes content)
{
    char *temporary = mem_format("%s.new", path);
    int fd = file_fresh(AT_FDCWD, temporary, O_WRONLY);
    int error = fd >= 0 ? file_write_all(fd, content) : error_from_errno(errno);
    if (error == OK && (fsync(fd) != 0 || rename(temporary, path) != 0)) {
        error = error_from_errno(errno);
    }
    int code = errno;
    if (fd >= 0) {
        close(fd);
    }
    mem_free(temporary);
    errno = code;
    return error == OK ? sync_name(path) : error;
}

int file_load(const char *path, uint8_t *to, size_t limit, size_t *ret_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? ERR_NOT_FOUND : error_from_errno(errno);
    }
    size_t size = 0;
    uint8_t beyond;
    ssize_t got = 1;
    while (got > 0 && size < limit) {
        got = read(fd, to + size, limit - size);
        size += got > 0 ? (size_t)got : 0;
    }
    bool longer = got > 0 && read(fd, &beyond, 1) > 0;
    int error = got < 0 ? error_from_errno(errno) : longer ? ERR_CORRUPT : OK;
    int code = errno;
    close(fd);
    errno = code;
    if (error == OK) {
        *ret_size = size;
    }
    return error;
}
