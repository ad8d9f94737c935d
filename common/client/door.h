// SPDX-License-Identifier: Apache-2.0
// A way to the data that costs no round trip. What it cannot answer goes to the socket, so a door
// may say so at any time: a value that it does not hold, a daemon that is gone, an index not
// reached.
//
// It answers from the history that the handle has seen, and only at an index of `least` or later;
// it reports that index, and the handle shows nothing older afterwards, at any door. Any thread.
#ifndef QS_COMMON_CLIENT_DOOR_H
#define QS_COMMON_CLIENT_DOOR_H

#include "common/client/result.h"

struct door {
    const struct door_calls *calls;
};

struct door_answer {
    uint64_t index;    // at which it answers
    uint64_t spent_ns; // of the call's time; set where it does not answer
};

// Each answers OK, ERR_NOT_FOUND, or ERR_INCOMPLETE: ask the socket.
struct door_calls {
    // A value goes into the result by result_one.
    int (*get)(struct door *door, struct bytes key, uint64_t least, struct qs_result *result,
               struct door_answer *ret_answer);
    int (*exists)(struct door *door, struct bytes key, uint64_t least,
                  struct door_answer *ret_answer);
    // The handle's session ends: from now on it answers nothing of the history that was seen. Under
    // the handle's lock.
    void (*forget)(struct door *door);
    void (*close)(struct door *door);
};

#endif
