// SPDX-License-Identifier: Apache-2.0
// `qs-bench peers`: qs side by side with what people would use in its place, in one run, as ratios
// of interleaved rounds. Each section is complete by itself, starts what it needs below a temporary
// directory, and puts its rows on the sheet:
//   sockets   look-ups over a unix socket: a root, a proxy, Redis, memcached, Valkey
//   engines   one client's look-ups: libqs by shared memory and by its socket, LMDB and RocksDB
//             in process, Redis
//   writers   reads of 20 small keys while nobody, one, two write values of 40 kB: Kyoto Tycoon's
//             table
//   hops      from a write at the root to a leaf three hops away, beside a chain of Redis and one
//             member of etcd
//   children  what a source pays for 64 that it feeds, beside Redis
//   apply     a replica and a proxy that catch up, beside the same calls of the store alone
// Limits that were set for qs are claims, printed as held or NOT HELD. One thread, but for writers.
#ifndef QS_BENCH_PEERS_H
#define QS_BENCH_PEERS_H

#include "bench/sheet.h"
#include "bench/cores.h"
#include "bench/drive.h"
#include "bench/nodes.h"
#include "bench/rivals.h"

#define PEERS_SECTIONS "sockets, engines, writers, hops, children, apply"
#define PEERS_SECTIONS_MAX 8
#define PEERS_PAIRS_LEAST 1000

struct peers_options {
    const struct pairs *pairs; // made ones
    uint64_t rounds;
    uint64_t run_ms; // of one side in one round
    uint64_t rate;   // a second, of open loops
    uint64_t connections, depth;
    uint64_t writes; // a second, at the root of a chain
    const char *sections[PEERS_SECTIONS_MAX]; // none: all
    size_t section_count;
    const char *io;
    const char *valkey; // its program; NULL or empty: none, it is left out
    const char *out;  // directory for results, NULL: none
    const char *name; // of its files there, before the dot
};

// Servers that two sections have in common, each with all pairs.
struct peers_stage {
    bool open;
    struct nodes nodes;   // a root and a proxy
    char *options;        // of both, owned
    uint64_t cache_bytes; // of blocks, of each
    struct rival redis;
};

struct peers {
    const struct peers_options *options;
    struct peers_stage stage;
    uint64_t loading_ns; // of a section: what was spent without measuring anything
    struct sheet sheet;
    struct cores cores;
    struct zipf zipf; // over all pairs
    uint64_t answers, faults; // of all sections
};

// Everything; results on standard output and in options.out. The exit code: 0 when no answer was
// wrong, missing or an error.
int peers_run(const struct peers_options *options);

// A section. False: it could not be carried out, said on standard error.
bool peers_sockets(struct peers *peers) MUST_CHECK;
bool peers_engines(struct peers *peers) MUST_CHECK;
bool peers_writers(struct peers *peers) MUST_CHECK;
bool peers_hops(struct peers *peers) MUST_CHECK;
bool peers_children(struct peers *peers) MUST_CHECK;
bool peers_apply(struct peers *peers) MUST_CHECK;

// The servers of the stage, loaded if they are not yet. Root and proxy are started again, each with
// one network thread, which looks for more for so many microseconds before it sleeps, and with
// these further options of their instances (NULL: none); that brings everything onto the disk. The
// proxy holds every value. Takes the caller off its core.
bool peers_stage(struct peers *peers, unsigned busy_us, const char *root_options,
                 const char *proxy_options) MUST_CHECK;
// False: a node did not end in order.
bool peers_stage_close(struct peers *peers) MUST_CHECK;

// All pairs into a server.
bool peers_store(struct peers *peers, const struct rival *rival) MUST_CHECK;

// Counts what a load was answered, and says its fault; returns `fine`.
bool peers_count(struct peers *peers, const struct drive_result *result, bool fine) MUST_CHECK;

// Which of `count` sides is the turn-th in a round: every other round goes the other way.
size_t peers_turn(uint64_t round, size_t turn, size_t count);

#endif
