// SPDX-License-Identifier: Apache-2.0
#include "common/core/children_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define TEXT_BYTES 2048

static struct log_gate gate;

void children_file_write(const char *directory, const char *scope, struct bytes text)
{
    char *path = mem_format("%s/children.txt", directory);
    char *temporary = mem_format("%s/children.txt.new", directory);
    int fd = file_fresh(AT_FDCWD, temporary, O_WRONLY);
    bool written = fd >= 0 && write(fd, text.data, text.size) == (ssize_t)text.size;
    if (fd >= 0 && close(fd) != 0) {
        written = false;
    }
    if (!written || rename(temporary, path) != 0) {
        LOG_GATED(&gate, LOG_WARN, scope, "cannot write %s: %s", path, strerror(errno));
    }
    mem_free(temporary);
    mem_free(path);
}

void children_file_read(const char *directory, struct buf *to)
{
    char *path = mem_format("%s/children.txt", directory);
    char text[TEXT_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd >= 0 ? read(fd, text, sizeof text) : -1;
    if (fd >= 0) {
        close(fd);
    }
    mem_free(path);
    if (size <= 0) {
        buf_append_text(to, "no child is on record");
        return;
    }
    while (size > 0 && text[size - 1] == '\n') {
        size--;
    }
    for (ssize_t i = 0; i < size; i++) {
        buf_append(to, text[i] == '\n' ? "; " : &text[i], text[i] == '\n' ? 2 : 1);
    }
}
