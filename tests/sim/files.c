// SPDX-License-Identifier: Apache-2.0
// A disk for each host: files and folders by their paths, with what a power cut may take. Every
// change since the last sync is remembered with what it replaced, so that a cut can undo any end
// of them: of one file a tail of its writes, the last one in part, or any of its pages; of one
// folder a tail of its names. A failed sync leaves all that in doubt for good, as Linux does.
//
// Disks belong to the world: they outlive processes.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/data/disk.h"
#include "tests/sim/seams.h"
#include "tests/sim/store_model.h"

#define PATH_BYTES 96
#define PAGE_BYTES 4096
#define SECTOR_BYTES 512

struct undo {
    struct undo *before; // older
    uint64_t size;       // of the file before
    uint64_t offset;
    size_t length;
    size_t written; // bytes from offset on
    uint8_t old[];  // what stood at offset, `length` bytes
};

struct file {
    unsigned references; // names and descriptors
    bool folder;
    bool doubtful; // a sync failed
    uint8_t *data;
    size_t size, capacity;
    struct undo *undo;
    struct fd *lock;
};

struct name {
    struct list node;
    char path[PATH_BYTES];
    struct file *file;
};

// A change of a name: a power cut puts `file` (NULL = nothing) back under `path`.
struct rename_undo {
    struct list node; // newest first
    char path[PATH_BYTES];
    struct file *file;
};

struct disk {
    struct list names;
    struct list undos;
    bool full;
    unsigned free_permille;
    enum disk_fault fault;
};

static struct disk disks[HOSTS_MAX];

static struct disk *disk_now(void) { return &disks[world_host()->number]; }

void disk_set_free(unsigned host, unsigned permille) { disks[host].free_permille = permille; }
unsigned disk_free_permille(unsigned host)
{
    return disks[host].full ? 0 : disks[host].free_permille;
}
void disk_set_full(unsigned host, bool full) { disks[host].full = full; }
bool disk_is_full(unsigned host) { return disks[host].full; }
void disk_set_fault(unsigned host, enum disk_fault fault) { disks[host].fault = fault; }

// ---- files and names ---------------------------------------------------------------------------

static void file_forget(struct file *file)
{
    while (file->undo != NULL) {
        struct undo *undo = file->undo;
        file->undo = undo->before;
        mem_free(undo);
    }
}

static void file_release(struct file *file)
{
    if (--file->references == 0) {
        file_forget(file);
        mem_free(file->data);
        mem_free(file);
    }
}

static struct name *name_find(const struct disk *disk, const char *path)
{
    LIST_FOR_EACH(node, &disk->names) {
        struct name *name = CONTAINER_OF(node, struct name, node);
        if (strcmp(name->path, path) == 0) {
            return name;
        }
    }
    return NULL;
}

// Sets what stands under a path: NULL = nothing.
static void name_set(struct disk *disk, const char *path, struct file *file)
{
    struct name *name = name_find(disk, path);
    if (file != NULL) {
        file->references++;
    }
    if (name == NULL && file == NULL) {
        return;
    }
    if (name == NULL) {
        name = world_zalloc(sizeof *name);
        snprintf(name->path, sizeof name->path, "%s", path);
        list_append(&disk->names, &name->node);
    } else {
        file_release(name->file);
    }
    name->file = file;
    if (file == NULL) {
        list_remove(&name->node);
        mem_free(name);
    }
}

// As name_set, until a sync of the folder undone by a power cut.
static void name_change(struct disk *disk, const char *path, struct file *file)
{
    struct rename_undo *undo = world_zalloc(sizeof *undo);
    const struct name *before = name_find(disk, path);
    snprintf(undo->path, sizeof undo->path, "%s", path);
    undo->file = before != NULL ? before->file : NULL;
    if (undo->file != NULL) {
        undo->file->references++;
    }
    list_append(disk->undos.next, &undo->node); // before the first: the newest stands in front
    name_set(disk, path, file);
}

static void undo_forget(struct rename_undo *undo)
{
    list_remove(&undo->node);
    if (undo->file != NULL) {
        file_release(undo->file);
    }
    mem_free(undo);
}

static bool is_inside(const char *path, const char *folder)
{
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && path[length] == '/' &&
           strchr(path + length + 1, '/') == NULL;
}

static struct file *file_new(bool folder)
{
    struct file *file = world_zalloc(sizeof *file);
    file->folder = folder;
    return file;
}

static const char *path_of(const struct file *file)
{
    const struct disk *disk = disk_now();
    LIST_FOR_EACH(node, &disk->names) {
        const struct name *name = CONTAINER_OF(node, struct name, node);
        if (name->file == file) {
            return name->path;
        }
    }
    return "";
}

const char *path_in(const struct fd *folder, const char *name)
{
    static char path[PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s/%s", path_of(folder->file), name);
    CHECK(length < (int)sizeof path);
    return path;
}

const char *folder_entry(const struct fd *folder, size_t at)
{
    const char *path = path_of(folder->file);
    const struct disk *disk = disk_now();
    LIST_FOR_EACH(node, &disk->names) {
        const struct name *name = CONTAINER_OF(node, struct name, node);
        if (is_inside(name->path, path) && at-- == 0) {
            return name->path + strlen(path) + 1;
        }
    }
    return NULL;
}

void disks_open(unsigned hosts)
{
    CHECK(hosts <= HOSTS_MAX);
    for (unsigned i = 0; i < hosts; i++) {
        disks[i] = (struct disk){.free_permille = 500};
        list_init(&disks[i].names);
        list_init(&disks[i].undos);
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "/n%u", i);
        name_set(&disks[i], path, file_new(true));
    }
}

// ---- losing what was not synced ----------------------------------------------------------------

static void file_resize(struct file *file, size_t size)
{
    if (size > file->capacity) {
        file->capacity = 2 * size;
        file->data = world_realloc(file->data, file->capacity);
    }
    if (size > file->size) {
        memset(file->data + file->size, 0, size - file->size);
    }
    file->size = size;
}

// Takes back the newest write of a file: whole, or only some of its sectors.
static void undo_write(struct file *file, bool whole)
{
    struct undo *undo = file->undo;
    file->undo = undo->before;
    count_add(COUNT_torn_writes, 1);
    if (whole || undo->written == 0) {
        file_resize(file, u64_max(file->size, undo->offset + undo->length));
        memcpy(file->data + undo->offset, undo->old, undo->length);
        file_resize(file, undo->size);
    } else {
        bool tail = chance_permille(700); // torn at one place, else in any sector
        uint64_t end = undo->offset + undo->written;
        uint64_t kept = undo->offset + chance_below(undo->written + 1);
        for (uint64_t at = undo->offset; at < end;) {
            uint64_t next = u64_min(end, at / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES);
            if (tail ? at >= kept : chance_permille(500)) {
                size_t size = next - at;
                size_t known = at - undo->offset < undo->length
                                   ? u64_min(size, undo->length - (at - undo->offset))
                                   : 0;
                memcpy(file->data + at, undo->old + (at - undo->offset), known);
                memset(file->data + at + known, 0, size - known);
            }
            at = next;
        }
        if (tail && chance_permille(500)) {
            file_resize(file, u64_max(undo->size, kept));
        }
    }
    mem_free(undo);
}

static void cut_file(struct file *file)
{
    size_t count = 0;
    for (const struct undo *undo = file->undo; undo != NULL; undo = undo->before) {
        count++;
    }
    if (count > 0) {
        uint64_t kept = chance_below(count + 1);
        while (count > kept + 1) {
            undo_write(file, true);
            count--;
        }
        if (count > kept) {
            undo_write(file, chance_permille(500));
        }
        file_forget(file);
    }
    file->doubtful = false;
    file->lock = NULL;
}

// ---- calls -------------------------------------------------------------------------------------

static bool fault_due(enum disk_fault fault)
{
    struct disk *disk = disk_now();
    if (disk->fault != fault) {
        return false;
    }
    disk->fault = DISK_FAULT_NONE;
    count_add(fault == DISK_FAULT_SYNC ? COUNT_sync_errors : COUNT_io_errors, 1);
    world_log("disk", "n%u: a %s fails", world_host()->number,
              fault == DISK_FAULT_SYNC   ? "sync"
              : fault == DISK_FAULT_READ ? "read"
                                         : "write");
    return true;
}

int file_open(const char *path, int flags)
{
    world_touch_disk();
    struct disk *disk = disk_now();
    struct name *name = name_find(disk, path);
    if (name == NULL && (flags & O_CREAT) == 0) {
        return -ENOENT;
    }
    if (name == NULL) {
        if (disk->full) {
            count_add(COUNT_full_refusals, 1);
            return -ENOSPC;
        }
        name_change(disk, path, file_new(false));
        name = name_find(disk, path);
    }
    int number = fd_new(name->file->folder ? FD_FOLDER : FD_FILE);
    struct fd *fd = fd_of(number);
    fd->file = name->file;
    fd->file->references++;
    if ((flags & O_TRUNC) && fd->file->size > 0) {
        (void)file_truncate(fd, 0);
    }
    return number;
}

int file_open_at(int folder, const char *name, int flags)
{
    const struct fd *fd = fd_of(folder);
    if (strcmp(name, ".") == 0) {
        return file_open(path_of(fd->file), flags);
    }
    if (flags & O_CREAT) {
        size_t length = strlen(name);
        count_add(COUNT_rotations, length > 4 && strcmp(name + length - 4, ".tmp") == 0);
    }
    return file_open(path_in(fd, name), flags);
}

void file_close(struct fd *fd)
{
    if (fd->file->lock == fd) {
        fd->file->lock = NULL;
    }
    file_release(fd->file);
}

int file_lock(struct fd *fd)
{
    if (fd->file->lock != NULL) {
        return -EWOULDBLOCK;
    }
    fd->file->lock = fd;
    return 0;
}

ssize_t file_read(struct fd *fd, void *to, size_t size, uint64_t offset)
{
    world_touch_disk();
    const struct file *file = fd->file;
    if (fault_due(DISK_FAULT_READ)) {
        return -EIO;
    }
    if (offset >= file->size) {
        return 0;
    }
    size = u64_min(size, file->size - offset);
    memcpy(to, file->data + offset, size);
    return (ssize_t)size;
}

static void remember(struct file *file, uint64_t offset, size_t written)
{
    size_t length = offset < file->size ? u64_min(written, file->size - offset) : 0;
    struct undo *undo = world_alloc(sizeof *undo + length);
    *undo = (struct undo){.before = file->undo,
                          .size = file->size,
                          .offset = offset,
                          .length = length,
                          .written = written};
    if (length > 0) {
        memcpy(undo->old, file->data + offset, length);
    }
    file->undo = undo;
}

ssize_t file_write(struct fd *fd, const void *from, size_t size, uint64_t offset)
{
    world_touch_disk();
    struct file *file = fd->file;
    if (fault_due(DISK_FAULT_WRITE)) {
        return -EIO;
    }
    if (size == 0) {
        return 0;
    }
    if (disk_now()->full && offset + size > file->size) {
        count_add(COUNT_full_refusals, 1);
        // What still fits into the file's last page is written.
        uint64_t room = (file->size + SECTOR_BYTES - 1) / SECTOR_BYTES * SECTOR_BYTES;
        if (offset >= room) {
            return -ENOSPC;
        }
        size = u64_min(size, room - offset);
    }
    remember(file, offset, size);
    file_resize(file, u64_max(file->size, offset + size));
    memcpy(file->data + offset, from, size);
    return (ssize_t)size;
}

int file_truncate(struct fd *fd, uint64_t size)
{
    world_touch_disk();
    struct file *file = fd->file;
    if (size < file->size) {
        remember(file, size, file->size - size);
        file->undo->written = 0;
    }
    file->doubtful = file->doubtful && size > 0; // nothing is left that a sync could pass over
    file_resize(file, size);
    return 0;
}

int file_sync(struct fd *fd)
{
    world_touch_disk();
    struct file *file = fd->file;
    if (fault_due(DISK_FAULT_SYNC)) {
        file->doubtful = true;
        return -EIO;
    }
    if (file->folder) {
        const char *path = path_of(file);
        LIST_FOR_EACH(node, &disk_now()->undos) {
            struct rename_undo *undo = CONTAINER_OF(node, struct rename_undo, node);
            if (is_inside(undo->path, path)) {
                undo_forget(undo);
            }
        }
    } else if (!file->doubtful) {
        file_forget(file);
    }
    world_touch_disk(); // it may also die just afterwards
    return 0;
}

void file_reread(struct fd *fd)
{
    struct file *file = fd->file;
    if (file->doubtful) {
        struct fd *lock = file->lock;
        cut_file(file);
        file->lock = lock;
    }
}

uint64_t file_size(const struct fd *fd) { return fd->file->size; }

int file_rename(const char *from, const char *to)
{
    world_touch_disk();
    struct disk *disk = disk_now();
    struct name *name = name_find(disk, from);
    if (name == NULL) {
        return -ENOENT;
    }
    struct file *file = name->file;
    name_change(disk, to, file);
    name_change(disk, from, NULL);
    return 0;
}

int file_unlink(const char *path)
{
    world_touch_disk();
    struct disk *disk = disk_now();
    if (name_find(disk, path) == NULL) {
        return -ENOENT;
    }
    size_t length = strlen(path);
    count_add(COUNT_trims, length > 4 && strcmp(path + length - 4, ".qsj") == 0);
    name_change(disk, path, NULL);
    return 0;
}

int file_mkdir(const char *path)
{
    world_touch_disk();
    struct disk *disk = disk_now();
    if (name_find(disk, path) != NULL) {
        return -EEXIST;
    }
    if (disk->full) {
        return -ENOSPC;
    }
    name_change(disk, path, file_new(true));
    return 0;
}

void file_have_folder(const char *path)
{
    struct disk *disk = disk_now();
    if (name_find(disk, path) == NULL) {
        name_set(disk, path, file_new(true));
    }
}

bool file_exists(const char *path) { return name_find(disk_now(), path) != NULL; }

int disk_remove(const char *path)
{
    struct disk *disk = disk_now();
    size_t length = strlen(path);
    world_touch_disk();
    store_model_wipe(path, false);
    LIST_FOR_EACH(node, &disk->names) {
        struct name *name = CONTAINER_OF(node, struct name, node);
        if (strncmp(name->path, path, length) == 0 &&
            (name->path[length] == '/' || name->path[length] == 0)) {
            char gone[PATH_BYTES];
            snprintf(gone, sizeof gone, "%s", name->path);
            name_change(disk, gone, NULL);
        }
    }
    return OK;
}

// ---- faults ------------------------------------------------------------------------------------

void disk_power_cut(unsigned host)
{
    struct disk *disk = &disks[host];
    uint64_t count = 0;
    LIST_FOR_EACH(node, &disk->undos) {
        count++;
    }
    uint64_t undone = count > 0 ? chance_below(count + 1) : 0;
    LIST_FOR_EACH(node, &disk->undos) {
        struct rename_undo *undo = CONTAINER_OF(node, struct rename_undo, node);
        if (undone > 0) {
            undone--;
            name_set(disk, undo->path, undo->file);
            count_add(COUNT_names_lost, 1);
        }
        undo_forget(undo);
    }
    LIST_FOR_EACH(node, &disk->names) {
        const struct name *name = CONTAINER_OF(node, struct name, node);
        size_t before = name->file->size;
        if (name->file->undo != NULL) {
            cut_file(name->file);
            world_log("disk", "%s: %zu bytes before the power cut, %zu after", name->path, before,
                      name->file->size);
        }
    }
}

void disk_wipe(unsigned host)
{
    struct disk *disk = &disks[host];
    LIST_FOR_EACH(node, &disk->undos) {
        undo_forget(CONTAINER_OF(node, struct rename_undo, node));
    }
    LIST_FOR_EACH(node, &disk->names) {
        struct name *name = CONTAINER_OF(node, struct name, node);
        if (strchr(name->path + 1, '/') != NULL) {
            list_remove(&name->node);
            file_release(name->file);
            mem_free(name);
        }
    }
}

void disk_each(unsigned host, void (*each)(void *own, struct settled *settled), void *own)
{
    LIST_FOR_EACH(node, &disks[host].names) {
        struct name *name = CONTAINER_OF(node, struct name, node);
        struct file *file = name->file;
        if (!file->folder && file->size > 0 && file->undo == NULL) {
            struct settled settled = {.path = name->path, .data = file->data, .size = file->size};
            each(own, &settled);
            file->size = settled.size;
        }
    }
}

void disk_lose(unsigned host, const char *path) { name_set(&disks[host], path, NULL); }
