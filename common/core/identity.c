// SPDX-License-Identifier: Apache-2.0
#include "common/core/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define IDENTITY_BYTES 512

static int fail(const char *scope, const char *what, const char *path)
{
    int code = errno;
    log_line(LOG_ERROR, scope, "cannot %s %s: %s", what, path, strerror(code));
    return error_from_errno(code);
}

static int lock(const char *directory, const char *scope, int *ret_fd)
{
    char *path = mem_format("%s/LOCK", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    int error = OK;
    if (fd < 0) {
        error = fail(scope, "open", path);
    } else if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        log_line(LOG_ERROR, scope, "the data directory %s is in use by another process", directory);
        close(fd);
        error = ERR_IDENTITY;
    } else {
        *ret_fd = fd;
    }
    mem_free(path);
    return error;
}

// Compares line by line, so that the log can name what differs.
static int compare(const char *found, const char *wanted, const char *directory, const char *scope)
{
    while (*wanted != 0) {
        size_t wanted_line = strcspn(wanted, "\n");
        size_t found_line = strcspn(found, "\n");
        if (wanted_line != found_line || strncmp(wanted, found, wanted_line) != 0) {
            log_line(LOG_ERROR, scope,
                     "the data directory %s belongs to another: it says \"%.*s\", the "
                     "configuration says \"%.*s\"",
                     directory, (int)found_line, found, (int)wanted_line, wanted);
            return ERR_IDENTITY;
        }
        wanted += wanted_line + (wanted[wanted_line] == '\n');
        found += found_line + (found[found_line] == '\n');
    }
    return OK;
}

static int check_identity(const char *path, const char *wanted, const char *directory,
                          const char *scope)
{
    char found[IDENTITY_BYTES + 1] = "";
    size_t size;
    int error = file_load(path, (uint8_t *)found, IDENTITY_BYTES, &size);
    if (error == ERR_NOT_FOUND) {
        return file_save(path, bytes_text(wanted)) == OK ? OK : fail(scope, "write", path);
    }
    if (error == ERR_IO) {
        return fail(scope, "read", path);
    }
    return compare(found, wanted, directory, scope);
}

int identity_claim(const char *directory, const struct node_options *node,
                   const struct instance_options *options, int *ret_lock_fd)
{
    if (mkdir(directory, 0750) != 0 && errno != EEXIST) {
        return fail(options->name, "create the data directory", directory);
    }
    int fd = -1;
    int error = lock(directory, options->name, &fd);
    if (error != OK) {
        return error;
    }
    char *path = mem_format("%s/IDENTITY", directory);
    char *wanted = mem_format("qs data directory, format 1\ncluster %s\ninstance %s\nrole %s\n",
                              node->cluster, options->name, role_text((int)options->role));
    error = check_identity(path, wanted, directory, options->name);
    mem_free(wanted);
    mem_free(path);
    if (error != OK) {
        close(fd);
        return error;
    }
    *ret_lock_fd = fd;
    return OK;
}
