// SPDX-License-Identifier: Apache-2.0
// A way to the data that costs no round trip. What it cannot answer goes to the socket, so a door
// may say so at any time: a value that it does not hold, a daemon that is gone, an index not
// reached.
//
// It answers from the history that the handle has seen, and only at an index of `least` or later;
// it reports that index, and the handle shows nothing older afterwards, at any door. Any thread.
#ifndef QS_COMMON_CLIENT_DOOR_H
#define QS_COMMON_CLIENT_DOOR_H

#include "common/client/qs.h"
#include "common/client/result.h"

struct door {
    const struct door_calls *calls;
};

struct door_answer {
    uint64_t index;    // at which it answers
    uint64_t spent_ns; // of the call's time; set where it does not answer
};

// Several keys, all at one index.
struct door_many {
    const struct qs_bytes *keys;
    size_t count;
    bool *left;   // of each key: the door does not know it
    size_t known; // how many it does; 0: none is to be believed
    const struct qs_result *asked; // rows of those that are left; NULL: nobody was asked yet
};

// Each answers OK, ERR_NOT_FOUND, or ERR_INCOMPLETE: ask the socket.
struct door_calls {
    // A value goes into the result by result_one.
    int (*get)(struct door *door, struct bytes key, uint64_t least, struct qs_result *result,
               struct door_answer *ret_answer);
    int (*exists)(struct door *door, struct bytes key, uint64_t least,
                  struct door_answer *ret_answer);
    // OK: a row for each key is in the result. Called first with nothing asked, which tells what is
    // left; then, where something was, with the rows that a socket gave of these. They name an
    // index: so the others must be known at that one, or all are to be asked for.
    int (*get_many)(struct door *door, struct door_many *many, uint64_t least,
                    struct qs_result *result, struct door_answer *ret_answer);
    // The handle's session ends: from now on it answers nothing of the history that was seen. Under
    // the handle's lock.
    void (*forget)(struct door *door);
    void (*close)(struct door *door);
};

#endif
