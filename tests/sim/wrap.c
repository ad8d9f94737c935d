// SPDX-License-Identifier: Apache-2.0
// The system calls of the linked modules, as the linker's --wrap hands them over: descriptors and
// paths of the simulator go to its files and sockets. Everything runs on one thread.
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/data/store.h"
#include "tests/sim/seams.h"

// The compiler wants a declaration of each, and nobody calls them by these names.
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

// The result of a call: what the simulator says, or -1 and errno.
static ssize_t result(ssize_t value)
{
    if (value >= 0) {
        return value;
    }
    errno = (int)-value;
    return -1;
}

// ---- files -------------------------------------------------------------------------------------

int __wrap_open(const char *path, int flags, ...) { return (int)result(file_open(path, flags)); }

int __wrap_openat(int folder, const char *name, int flags, ...)
{
    return (int)result(folder == AT_FDCWD ? file_open(name, flags)
                                          : file_open_at(folder, name, flags));
}

int __wrap_close(int number)
{
    struct fd *fd = fd_of(number);
    CHECK(fd != NULL);
    if (fd->kind == FD_SOCKET || fd->kind == FD_LISTENER) {
        socket_close(fd);
    } else if (fd->kind == FD_FILE || fd->kind == FD_FOLDER) {
        file_close(fd);
    }
    fd_free(number);
    return 0;
}

ssize_t __wrap_read(int number, void *to, size_t size)
{
    struct fd *fd = fd_of(number);
    CHECK(fd != NULL && fd->kind == FD_FILE);
    ssize_t taken = file_read(fd, to, size, fd->offset);
    fd->offset += taken > 0 ? (uint64_t)taken : 0;
    return result(taken);
}

ssize_t __wrap_write(int number, const void *from, size_t size)
{
    struct fd *fd = fd_of(number);
    CHECK(fd != NULL);
    if (fd->kind == FD_EVENT) {
        loop_stir(fd->loop);
        return (ssize_t)size;
    }
    ssize_t written = file_write(fd, from, size, fd->offset);
    fd->offset += written > 0 ? (uint64_t)written : 0;
    return result(written);
}

off_t __wrap_lseek(int number, off_t offset, int whence)
{
    CHECK(whence == SEEK_SET);
    fd_of(number)->offset = (uint64_t)offset;
    return offset;
}

ssize_t __wrap_pread(int number, void *to, size_t size, off_t offset)
{
    return result(file_read(fd_of(number), to, size, (uint64_t)offset));
}

ssize_t __wrap_pwrite(int number, const void *from, size_t size, off_t offset)
{
    return result(file_write(fd_of(number), from, size, (uint64_t)offset));
}

int __wrap_ftruncate(int number, off_t size)
{
    return (int)result(file_truncate(fd_of(number), (uint64_t)size));
}

int __wrap_fsync(int number) { return (int)result(file_sync(fd_of(number))); }
int __wrap_fdatasync(int number) { return (int)result(file_sync(fd_of(number))); }

int __wrap_posix_fadvise(int number, off_t offset, off_t size, int advice)
{
    CHECK(offset == 0 && size == 0 && advice == POSIX_FADV_DONTNEED);
    file_reread(fd_of(number));
    return 0;
}

int __wrap_fstat(int number, struct stat *info)
{
    *info = (struct stat){.st_size = (off_t)file_size(fd_of(number))};
    return 0;
}

int __wrap_rename(const char *from, const char *to) { return (int)result(file_rename(from, to)); }

static const char *path_at(int folder, const char *name)
{
    return folder == AT_FDCWD ? name : path_in(fd_of(folder), name);
}

int __wrap_renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    char old[256];
    snprintf(old, sizeof old, "%s", path_at(from_folder, from));
    return (int)result(file_rename(old, path_at(to_folder, to)));
}

int __wrap_unlink(const char *path) { return (int)result(file_unlink(path)); }

int __wrap_unlinkat(int folder, const char *name, int flags)
{
    (void)flags;
    return (int)result(file_unlink(path_at(folder, name)));
}

int __wrap_mkdir(const char *path, mode_t mode)
{
    (void)mode;
    return (int)result(file_mkdir(path));
}

int __wrap_flock(int number, int operation)
{
    (void)operation;
    return (int)result(file_lock(fd_of(number)));
}

DIR *__wrap_fdopendir(int number);

// A listing: the descriptor and the place in it.
struct listing {
    int number;
    size_t at;
    struct dirent entry;
};

DIR *__wrap_opendir(const char *path)
{
    int number = file_open(path, O_RDONLY);
    return number < 0 ? (result(number), NULL) : __wrap_fdopendir(number);
}

int __wrap_access(const char *path, int mode)
{
    (void)mode;
    return (int)result(file_exists(path) ? 0 : -ENOENT);
}

DIR *__wrap_fdopendir(int number)
{
    struct listing *listing = mem_zalloc(sizeof *listing);
    listing->number = number;
    return (DIR *)listing;
}

struct dirent *__wrap_readdir(DIR *directory)
{
    struct listing *listing = (struct listing *)directory;
    const char *name = folder_entry(fd_of(listing->number), listing->at++);
    if (name == NULL) {
        return NULL;
    }
    snprintf(listing->entry.d_name, sizeof listing->entry.d_name, "%s", name);
    return &listing->entry;
}

int __wrap_closedir(DIR *directory)
{
    struct listing *listing = (struct listing *)directory;
    __wrap_close(listing->number);
    mem_free(listing);
    return 0;
}

// ---- the store: it may die before and after each step -------------------------------------------

int __real_store_open(struct store **ret_store, const struct store_options *options);
int __wrap_store_open(struct store **ret_store, const struct store_options *options)
{
    world_touch_disk();
    file_have_folder(options->directory);
    return __real_store_open(ret_store, options);
}

int __real_store_write(struct store *store, struct store_batch *batch, struct bytes state);
int __wrap_store_write(struct store *store, struct store_batch *batch, struct bytes state)
{
    world_touch_disk();
    int error = disk_is_full(world_host()->number) ? ERR_DISK_FULL
                                                   : __real_store_write(store, batch, state);
    world_touch_disk();
    return error;
}

int __real_store_flush(struct store *store);
int __wrap_store_flush(struct store *store)
{
    world_touch_disk();
    int error = disk_is_full(world_host()->number) ? ERR_DISK_FULL
                                                   : __real_store_flush(store);
    world_touch_disk();
    return error;
}

int __real_store_compact(struct store *store, unsigned family, struct bytes lower,
                         struct bytes upper);
int __wrap_store_compact(struct store *store, unsigned family, struct bytes lower,
                         struct bytes upper)
{
    world_touch_disk();
    bool full = disk_is_full(world_host()->number);
    int error = full ? ERR_DISK_FULL : __real_store_compact(store, family, lower, upper);
    world_touch_disk();
    return error;
}

// ---- compression -------------------------------------------------------------------------------

size_t __real_block_compress(uint8_t *to, size_t room, struct bytes raw);
size_t __wrap_block_compress(uint8_t *to, size_t room, struct bytes raw)
{
    bool tries = chance_permille(COMPRESS_PERMILLE);
    return tries ? __real_block_compress(to, room, raw) : 0;
}

// ---- sockets -----------------------------------------------------------------------------------

int __wrap_eventfd(unsigned value, int flags)
{
    (void)value, (void)flags;
    return fd_new(FD_EVENT);
}

int __wrap_socket(int family, int type, int protocol)
{
    (void)family, (void)type, (void)protocol;
    return fd_new(FD_SOCKET);
}

int __wrap_setsockopt(int number, int level, int option, const void *value, socklen_t size)
{
    (void)number, (void)level, (void)option, (void)value, (void)size;
    return 0;
}

int __wrap_bind(int number, const struct sockaddr *name, socklen_t size)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)name;
    CHECK(size == sizeof *v4);
    fd_of(number)->port = ntohs(v4->sin_port);
    return 0;
}

int __wrap_listen(int number, int backlog)
{
    (void)backlog;
    fd_of(number)->kind = FD_LISTENER;
    return 0;
}

// The host number is the last part of an address.
int __wrap_connect(int number, const struct sockaddr *name, socklen_t size)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)name;
    CHECK(size == sizeof *v4);
    unsigned host = ntohl(v4->sin_addr.s_addr) & 0xffff;
    return (int)result(socket_connect(fd_of(number), host, ntohs(v4->sin_port)));
}

int __wrap_getsockopt(int number, int level, int option, void *value, socklen_t *size)
{
    (void)level, (void)size;
    CHECK(option == SO_ERROR);
    *(int *)value = socket_error(fd_of(number));
    return 0;
}

static int name_of(unsigned host, unsigned port, struct sockaddr *name, socklen_t *size)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    v4.sin_addr.s_addr = htonl(0x0a000000 | host);
    memcpy(name, &v4, sizeof v4);
    *size = sizeof v4;
    return 0;
}

int __wrap_getsockname(int number, struct sockaddr *name, socklen_t *size)
{
    const struct fd *fd = fd_of(number);
    return name_of(fd->host->number, fd->port, name, size);
}

int __wrap_getpeername(int number, struct sockaddr *name, socklen_t *size)
{
    return name_of(socket_peer(fd_of(number)), 1, name, size);
}

ssize_t __wrap_send(int number, const void *data, size_t size, int flags)
{
    (void)flags;
    return result(socket_put(fd_of(number), bytes_of(data, size)));
}

ssize_t __wrap_sendfile(int to, int from, off_t *offset, size_t size)
{
    uint8_t piece[16384];
    bool small = chance_permille(SHORT_SEND_PERMILLE);
    size = u64_min(size, small ? chance_between(1, 400) : sizeof piece);
    ssize_t read = file_read(fd_of(from), piece, size, (uint64_t)*offset);
    if (read <= 0) {
        return result(read);
    }
    ssize_t sent = socket_put(fd_of(to), bytes_of(piece, (size_t)read));
    if (sent > 0) {
        *offset += sent;
    }
    return result(sent);
}

int __wrap_shutdown(int number, int how)
{
    (void)number, (void)how; // a close follows as soon as nothing is in flight
    return 0;
}
