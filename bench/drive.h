// SPDX-License-Identifier: Apache-2.0
// One thread that drives a server over many connections to a unix socket, in one of two ways:
//
//   closed loop   each connection sends `depth` requests and, when all are answered, the next so
//                 many. It finds out how much a server can do, and nothing about latency: a
//                 server that stalls is asked less.
//   open loop     requests are due at a fixed rate, whether answers come or not, on connections in
//                 turn; latency counts from when a request was due, so a stall is felt by
//                 everything due meanwhile.
//
// Each answer is compared with the only right one, byte by byte; after a wrong one the connection
// is given up. The same seed asks the same of every server, in the same order.
#ifndef QS_BENCH_DRIVE_H
#define QS_BENCH_DRIVE_H

#include "bench/dialect.h"
#include "bench/histogram.h"
#include "bench/pairs.h"

#define DRIVE_CONNECTIONS_MAX 256
#define DRIVE_DEPTH_MAX 256

enum drive_what {
    DRIVE_ABSENT,  // GET of keys that are not there, out of so many that none comes twice
    DRIVE_ABSENT_ZIPF, // ... out of as many as there are pairs, by Zipf's law
    DRIVE_PRESENT, // GET of keys that are, by Zipf's law over all of them
    DRIVE_MIXED,   // ten absent to one present
    DRIVE_STORE,   // SET of all pairs once
};

struct drive_options {
    const char *socket;
    enum dialect dialect;
    enum drive_what what;
    const struct pairs *pairs; // as they were made first: generation 0
    const struct zipf *zipf;   // over all pairs; NULL where no present key is drawn
    uint64_t seed;             // of the sequence
    unsigned connections;
    unsigned depth;       // closed loop
    uint64_t rate;        // a second, open loop; 0: the loop is closed
    uint64_t duration_ns; // not of DRIVE_STORE
};

struct drive_result {
    uint64_t count;   // answers, all of them right
    uint64_t took_ns; // to the last of them
    uint64_t faults;  // wrong answers, and requests that had none 10 s after the last one was due
    char fault[160];  // the first of them; "" otherwise
    struct histogram latency; // open loop
};

// False: no connection, or a fault.
bool drive_run(const struct drive_options *options, struct drive_result *result) MUST_CHECK;

// Draws of a sequence, for those who ask otherwise than over a connection.
struct drive_keys {
    struct draw draw;
    enum drive_what what;
    const struct pairs *pairs;
    const struct zipf *zipf;
    uint64_t next; // of DRIVE_STORE
};
void drive_keys_open(struct drive_keys *keys, const struct drive_options *options);
uint64_t drive_keys_next(struct drive_keys *keys);

#endif
