// SPDX-License-Identifier: Apache-2.0
// Where the simulator takes the place of the operating system: descriptors of its own for files
// (tests/sim/files.c) and sockets (tests/sim/net.c), which the linker's --wrap sends here
// (tests/sim/wrap.c), and the loop's back end (tests/sim/loop_sim.c).
#ifndef QS_TESTS_SIM_SEAMS_H
#define QS_TESTS_SIM_SEAMS_H

#include "common/io/loop_backend.h"
#include "tests/sim/world.h"

// Descriptors of the simulator begin here, far above those of the process.
#define FD_FIRST 1000000

enum fd_kind { FD_FREE, FD_FILE, FD_FOLDER, FD_SOCKET, FD_LISTENER, FD_EVENT };

struct file;
struct end; // of a connection

struct fd {
    enum fd_kind kind;
    struct host *host;
    struct watch *watch; // under a loop
    struct loop *loop;   // a loop's own wake-up
    struct file *file;
    struct end *end;
    uint64_t offset;     // of a file
    unsigned port;       // of a listener
    struct list backlog; // of a listener: struct end
};

int fd_new(enum fd_kind kind);         // of the running host
struct fd *fd_of(int number);          // NULL: none of the simulator's
void fd_free(int number);
int fd_number(const struct fd *fd);
void fds_reset(void);
struct fd *fd_listener(unsigned host, unsigned port); // NULL: nobody listens there
// Calls `each` for every descriptor of a host.
void fds_each(struct host *host, void (*each)(struct fd *fd));

// ---- time --------------------------------------------------------------------------------------

uint64_t host_to_world_ns(const struct host *host, uint64_t ns);

// ---- loops (tests/sim/loop_sim.c) --------------------------------------------------------------

void loop_stir(struct loop *loop);     // something may have become ready
void watch_stir(const struct fd *fd);  // ... for the watch of this descriptor

// ---- sockets (tests/sim/net.c) -----------------------------------------------------------------

void net_open(unsigned hosts);
// Bytes that a receive would give now; *ret_end: the end or an error comes after them.
size_t socket_readable(const struct fd *fd, bool *ret_end);
bool socket_writable(const struct fd *fd);
// Takes bytes: up to `size`; 0 = end of file; negative = errno.
ssize_t socket_take(struct fd *fd, uint8_t *to, size_t size);
ssize_t socket_put(struct fd *fd, struct bytes data); // negative errno
int socket_connect(struct fd *fd, unsigned host, unsigned port);
int socket_error(struct fd *fd);
int socket_accept(struct fd *listener); // a descriptor, or -EAGAIN
void socket_close(struct fd *fd);
unsigned socket_peer(const struct fd *fd); // number of the host at the other side

// Where hosts stand. With a map latencies come from it alone, what leaves a host in one moment
// arrives together, and blocks are between places; without one each host is a place of its own.
struct net_map {
    unsigned (*place)(unsigned host);
    uint64_t (*latency_ns)(unsigned from, unsigned to); // one way
    void (*carried)(unsigned from, unsigned to, size_t size);
};
void net_set_map(const struct net_map *map); // until the next net_open

// All sockets of a host go: with a reset on the wire, or silently (the power went).
void net_drop(struct host *host, bool silently);

// Faults. Nothing passes from `from` to `to` before `until_ns`.
void net_block(unsigned from, unsigned to, uint64_t until_ns);
bool net_blocked(unsigned from, unsigned to);
void net_unplug(unsigned number, uint64_t until_ns); // ... nor anything to or from that host
void net_heal(void);
bool net_reset_one(void); // some connection
void net_weather(unsigned flips_per_million, unsigned refuse_permille, uint64_t delay_max_ns);

// ---- files (tests/sim/files.c) -----------------------------------------------------------------

struct disk;
void disks_open(unsigned hosts);
// What a power cut leaves.
void disk_power_cut(unsigned host);
void disk_wipe(unsigned host);
void disk_set_full(unsigned host, bool full);
bool disk_is_full(unsigned host);
// What others leave free of it.
void disk_set_free(unsigned host, unsigned permille);
unsigned disk_free_permille(unsigned host);
// The next sync (or read, or write) of a host fails once.
enum disk_fault { DISK_FAULT_NONE, DISK_FAULT_SYNC, DISK_FAULT_READ, DISK_FAULT_WRITE };
void disk_set_fault(unsigned host, enum disk_fault fault);
// Calls `each` for every file that holds something, all of it synced; its bytes may be changed, its
// end cut.
struct settled {
    const char *path;
    uint8_t *data;
    size_t size;
};
void disk_each(unsigned host, void (*each)(void *own, struct settled *settled), void *own);
void disk_lose(unsigned host, const char *path); // the file's name goes

// ---- files that rot (tests/sim/rot.c) ----------------------------------------------------------

// Flips a bit in a synced part of a journal file; false: there is none.
bool disk_flip(unsigned host);
// Damages or removes a file that is kept beside journal and store, of a host that is down. `spare`:
// not those without which a node waits for a person.
bool disk_harm(unsigned host, bool spare);

// ---- files, continued --------------------------------------------------------------------------

int file_open(const char *path, int flags);              // negative errno, as all below
int file_open_at(int folder, const char *name, int flags);
ssize_t file_read(struct fd *fd, void *to, size_t size, uint64_t offset);
ssize_t file_write(struct fd *fd, const void *from, size_t size, uint64_t offset);
int file_truncate(struct fd *fd, uint64_t size);
int file_sync(struct fd *fd);
uint64_t file_size(const struct fd *fd);
void file_reread(struct fd *fd); // what a failed sync left in memory is gone
int file_rename(const char *from, const char *to);
int file_unlink(const char *path);
int file_mkdir(const char *path);
void file_have_folder(const char *path); // a store's: made and synced by itself
bool file_exists(const char *path);
void file_close(struct fd *fd);
int file_lock(struct fd *fd);
// The path of a name in a folder; in static memory.
const char *path_in(const struct fd *folder, const char *name);
// Entry number `at` of a folder, NULL after the last.
const char *folder_entry(const struct fd *folder, size_t at);

#endif
