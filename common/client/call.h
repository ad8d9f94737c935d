// SPDX-License-Identifier: Apache-2.0
// One call of the library: a command, sent to the daemon until there is an answer or the time is
// over.
//
// Reads are repeated when the connection fails; a write only if the daemon cannot have it: nobody
// listened, not all of it was sent, or the daemon said that it did nothing. And no answer shows
// less than the session has seen: a line that may be behind is told what it has to wait for. The
// caller's thread.
#ifndef QS_COMMON_CLIENT_CALL_H
#define QS_COMMON_CLIENT_CALL_H

#include "common/client/handle.h"

// How a read is kept from showing an earlier state, and how it is known what it has shown.
enum fence {
    FENCE_NONE,   // a write
    FENCE_LEAST,  // the command takes MININDEX, and its answer has the index
    FENCE_INDEX,  // QS.WAITINDEX before it where that is needed; its answer has the index
    FENCE_AROUND, // likewise, but the answer has none: QS.INDEX behind it
    FENCE_BEFORE, // QS.WAITINDEX alone: what it shows is of an index that the caller named
};

struct call {
    struct qs *qs;
    const struct bytes *words;
    size_t count;
    enum fence fence;
    bool writes;
    uint64_t least;         // index that is needed besides
    char history[HISTORY_DIGITS + 1]; // ... and of which history; "": of the session's
    bool timed;             // waits for that no longer than wait_ms, beside the handle's limit
    uint64_t wait_ms;
    uint64_t spent_ns;      // of its time, before it came here
    struct qs_result *result; // takes the reply over; NULL: nobody needs it longer

    // Reads the reply at item `at`: the call's answer, and the index that was shown or written.
    // ERR_PROTOCOL: it has not the shape that it must have.
    int (*decode)(struct call *call, const struct answers *answers, size_t at);
    uint64_t index;
    uint64_t number; // of an answer BEHIND or CONFLICT, 0 else
};

int call_run(struct call *call) MUST_CHECK;

// Reads a token, or an index as text, into `least` and `history`. ERR_USAGE: it is neither.
int call_least(struct call *call, const char *token) MUST_CHECK;

// True for errors after which the same may be tried again.
bool call_may_repeat(int error);

// Waits a little, longer from one attempt to the next. False: the deadline comes first.
bool call_pause(unsigned attempt, uint64_t deadline_ns);

#endif
