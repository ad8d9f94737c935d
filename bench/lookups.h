// SPDX-License-Identifier: Apache-2.0
// The sequence of look-ups of a site: ten absent keys to one present; present ones out of a
// working set, by Zipf's law or uniformly, of which a share is renewed all the time. Absent keys
// come from a thousand times as many as there are pairs, so that hardly one is asked for twice.
// A copy gives the same sequence again: two roles can be asked exactly the same. One thread.
#ifndef QS_BENCH_LOOKUPS_H
#define QS_BENCH_LOOKUPS_H

#include "bench/draw.h"

#define ABSENT_PER_PRESENT 10
#define ABSENT_SPACE 1000 // times the number of pairs

struct lookup {
    uint64_t number; // of pairs.h
    bool present;
    bool first; // of a number that has joined: no cache can have its value
};

struct lookups {
    struct draw draw;
    struct zipf zipf;
    bool uniform;
    uint64_t pairs;  // numbers below it are present
    uint32_t *slots; // the numbers in the working set; a slot's place is its rank
    uint64_t count;
    uint64_t next;  // the number that joins next
    uint64_t limit; // numbers from here on never join
    uint64_t *read; // a bit for each number below `limit`: looked up, or there from the beginning
    double renewal; // slots renewed per look-up
    double due;     // ... and not yet renewed
};

struct lookups_options {
    uint64_t seed;
    uint64_t pairs, working_set; // working_set in [2, limit), limit <= pairs < 2^32
    uint64_t limit;
    double renewal; // slots renewed per look-up
    bool uniform;
};

void lookups_open(struct lookups *lookups, const struct lookups_options *options);
void lookups_copy(struct lookups *to, const struct lookups *from);
void lookups_close(struct lookups *lookups);
struct lookup lookups_next(struct lookups *lookups);

#endif
