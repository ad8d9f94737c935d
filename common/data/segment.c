// SPDX-License-Identifier: Apache-2.0
#include "common/data/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/segment_read.h"

#define SUFFIX ".qsj"
#define NUMBER_DIGITS 16
// Walking from one mark to the next must stay cheap; remembering every block would not be.
#define MARK_SPACING (64 * KIB)

uint64_t segment_number(const char *name)
{
    if (strlen(name) != SEGMENT_NAME_BYTES - 1 || strcmp(name + NUMBER_DIGITS, SUFFIX) != 0 ||
        strspn(name, "0123456789abcdef") != NUMBER_DIGITS) {
        return 0;
    }
    return strtoull(name, NULL, 16);
}

void segment_name(uint64_t first, char to[SEGMENT_NAME_BYTES])
{
    snprintf(to, SEGMENT_NAME_BYTES, "%016llx" SUFFIX, (unsigned long long)first);
}

static int file_failed(const struct segment *segment, const char *what)
{
    int error = error_from_errno(errno);
    log_line(LOG_ERROR, segment->scope, "%s: %s: %s", segment->path, what, strerror(errno));
    return error;
}

static struct segment *segment_new(const struct segment_home *home, uint64_t first)
{
    struct segment *segment = mem_zalloc(sizeof *segment);
    atomic_init(&segment->references, 1);
    atomic_init(&segment->size, 0);
    segment->fd = -1;
    segment->first = first;
    segment->scope = home->scope;
    segment->path = mem_format("%s/%016llx" SUFFIX, home->directory, (unsigned long long)first);
    CHECK(pthread_mutex_init(&segment->marks_lock, NULL) == 0);
    return segment;
}

static const char *file_name(const struct segment *segment)
{
    return segment->path + strlen(segment->path) - (SEGMENT_NAME_BYTES - 1);
}

// Writes the file under a temporary name and gives it its own once its content is on disk: a
// segment that exists has its copy.
static int create_file(struct segment *segment, const struct segment_home *home,
                       const char *temporary, const struct block_header *before)
{
    segment->fd = file_fresh(home->fd, temporary, O_RDWR);
    if (segment->fd < 0) {
        return file_failed(segment, "create");
    }
    int error = segment_write_copy(segment, before);
    if (error != OK) {
        return error;
    }
    if (fsync(segment->fd) != 0) {
        return file_failed(segment, "fsync");
    }
    if (renameat(home->fd, temporary, home->fd, file_name(segment)) != 0) {
        return file_failed(segment, "rename");
    }
    if (fsync(home->fd) != 0) {
        error = file_failed(segment, "fsync of its directory");
        unlinkat(home->fd, file_name(segment), 0);
    }
    return error;
}

int segment_create(struct segment **ret_segment, const struct segment_home *home,
                   const struct block_header *before)
{
    struct segment *segment = segment_new(home, before->number + 1);
    char temporary[SEGMENT_NAME_BYTES + 4];
    snprintf(temporary, sizeof temporary, "%s.tmp", file_name(segment));
    int error = create_file(segment, home, temporary, before);
    if (error != OK) {
        unlinkat(home->fd, temporary, 0);
        segment_release(segment);
        return error;
    }
    *ret_segment = segment;
    return OK;
}

static int read_copy(struct segment *segment)
{
    uint8_t buffer[BLOCK_HEADER_BYTES];
    struct segment_reader reader;
    segment_reader_open(&reader, segment, atomic_load(&segment->size), buffer, sizeof buffer);
    int error = segment_reader_header(&reader, 0, &segment->before);
    segment->before_sound = error == OK && segment->before.number + 1 == segment->first;
    return error == ERR_IO ? ERR_IO : OK;
}

int segment_open(struct segment **ret_segment, const struct segment_home *home, uint64_t first)
{
    struct segment *segment = segment_new(home, first);
    struct stat info;
    int error = OK;
    segment->fd = openat(home->fd, file_name(segment), O_RDWR | O_CLOEXEC);
    if (segment->fd < 0) {
        error = file_failed(segment, "open");
    } else if (fstat(segment->fd, &info) != 0) {
        error = file_failed(segment, "fstat");
    } else {
        atomic_store(&segment->size, (uint64_t)info.st_size);
        error = read_copy(segment);
    }
    if (error != OK) {
        segment_release(segment);
        return error;
    }
    *ret_segment = segment;
    return OK;
}

struct segment *segment_hold(struct segment *segment)
{
    CHECK(atomic_fetch_add_explicit(&segment->references, 1, memory_order_relaxed) > 0);
    return segment;
}

void segment_release(struct segment *segment)
{
    if (segment == NULL ||
        atomic_fetch_sub_explicit(&segment->references, 1, memory_order_acq_rel) > 1) {
        return;
    }
    if (segment->fd >= 0) {
        close(segment->fd);
    }
    pthread_mutex_destroy(&segment->marks_lock);
    mem_free(segment->marks);
    mem_free(segment->path);
    mem_free(segment);
}

int segment_write(struct segment *segment, uint64_t offset, struct bytes bytes)
{
    while (bytes.size > 0) {
        ssize_t written = pwrite(segment->fd, bytes.data, bytes.size, (off_t)offset);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            errno = written == 0 ? EIO : errno;
            return file_failed(segment, "write");
        }
        offset += (uint64_t)written;
        bytes = bytes_of(bytes.data + written, bytes.size - (size_t)written);
    }
    if (offset > atomic_load(&segment->size)) {
        atomic_store(&segment->size, offset);
    }
    return OK;
}

int segment_write_copy(struct segment *segment, const struct block_header *before)
{
    uint8_t copy[BLOCK_HEADER_BYTES];
    CHECK(before->number + 1 == segment->first);
    block_header_encode(before, copy);
    int error = segment_write(segment, 0, bytes_of(copy, sizeof copy));
    if (error == OK) {
        segment->before = *before;
        segment->before_sound = true;
    }
    return error;
}

static void marks_cut(struct segment *segment, uint64_t size)
{
    pthread_mutex_lock(&segment->marks_lock);
    while (segment->mark_count > 0 && segment->marks[segment->mark_count - 1].offset >= size) {
        segment->mark_count--;
    }
    pthread_mutex_unlock(&segment->marks_lock);
}

int segment_truncate(struct segment *segment, uint64_t size)
{
    if (ftruncate(segment->fd, (off_t)size) != 0) {
        return file_failed(segment, "ftruncate");
    }
    atomic_store(&segment->size, size);
    marks_cut(segment, size);
    return OK;
}

int segment_sync(struct segment *segment)
{
    return fdatasync(segment->fd) == 0 ? OK : file_failed(segment, "fdatasync");
}

int segment_distrust(struct segment *segment)
{
    // A failure costs the certainty only: the bytes are then read from memory, as they always were.
    int code = posix_fadvise(segment->fd, 0, 0, POSIX_FADV_DONTNEED);
    if (code != 0) {
        log_line(LOG_WARN, segment->scope, "%s: fadvise: %s", segment->path, strerror(code));
    }
    struct stat info;
    if (fstat(segment->fd, &info) != 0) {
        return file_failed(segment, "fstat");
    }
    atomic_store(&segment->size, (uint64_t)info.st_size);
    return OK;
}

int segment_unlink(struct segment *segment, const struct segment_home *home)
{
    if (unlinkat(home->fd, file_name(segment), 0) != 0) {
        return file_failed(segment, "unlink");
    }
    return fsync(home->fd) == 0 ? OK : file_failed(segment, "fsync of its directory");
}

static void marks_reserve(struct segment *segment)
{
    if (segment->mark_count == segment->mark_capacity) {
        segment->mark_capacity = segment->mark_capacity == 0 ? 16 : segment->mark_capacity * 2;
        segment->marks =
            mem_realloc(segment->marks, segment->mark_capacity * sizeof *segment->marks);
    }
}

// The number of marks at or below `number`. Under the marks' lock.
static size_t marks_below(const struct segment *segment, uint64_t number)
{
    size_t low = 0;
    size_t high = segment->mark_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (segment->marks[middle].number <= number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void segment_mark_add(struct segment *segment, uint64_t number, uint64_t offset)
{
    pthread_mutex_lock(&segment->marks_lock);
    struct segment_mark *marks = segment->marks;
    size_t at = marks_below(segment, number);
    uint64_t before = at == 0 ? BLOCK_HEADER_BYTES : marks[at - 1].offset;
    bool far = offset >= before + MARK_SPACING;
    bool room = at == segment->mark_count || offset + MARK_SPACING <= marks[at].offset;
    if (far && room) {
        marks_reserve(segment);
        marks = segment->marks;
        memmove(&marks[at + 1], &marks[at], (segment->mark_count - at) * sizeof *marks);
        marks[at] = (struct segment_mark){.number = number, .offset = offset};
        segment->mark_count++;
    }
    pthread_mutex_unlock(&segment->marks_lock);
}

struct segment_mark segment_mark_find(struct segment *segment, uint64_t number)
{
    struct segment_mark mark = {.number = segment->first, .offset = BLOCK_HEADER_BYTES};
    pthread_mutex_lock(&segment->marks_lock);
    size_t at = marks_below(segment, number);
    if (at > 0) {
        mark = segment->marks[at - 1];
    }
    pthread_mutex_unlock(&segment->marks_lock);
    return mark;
}
