// SPDX-License-Identifier: Apache-2.0
// Typed messages, derived from common/tables/messages.h: a struct, an encoder and a decoder each.
// Decoded bytes point into the frame. Pure functions.
#ifndef QS_COMMON_WIRE_MESSAGE_H
#define QS_COMMON_WIRE_MESSAGE_H

#include "common/wire/frame.h"

#define PEER_PROTOCOL 3

enum hello_purpose {
    PURPOSE_FOLLOW = 1,
    PURPOSE_FETCH = 2,
    PURPOSE_SNAPSHOT = 3,
    PURPOSE_PROBE = 4, // how would PURPOSE_FOLLOW be answered? The link ends with the welcome
    PURPOSE_STAND = 5, // a root asks another for its log beyond what is committed
    PURPOSE_TALK = 6,  // what the councils of two roots say to each other, from the one that asks
    PURPOSE_REGAIN = 7, // as PURPOSE_FOLLOW, by the only root, which lost the end of its log
};

enum hello_answer {
    ANSWER_RESUME = 1,   // blocks from the child's end on will come
    ANSWER_BEHIND = 2,   // the answering node stands lower
    ANSWER_TOO_OLD = 3,  // its journal no longer reaches back to the child's end
    ANSWER_DIVERGED = 4, // at diverged_at the chains differ
    ANSWER_REFUSED = 5,  // `reason` says why
    ANSWER_FULL = 6,     // it feeds, or gives to, as many as it may: `elsewhere` names others
    ANSWER_WAIT = 7,     // a snapshot: a node of the same site will have one to give
};

enum hello_insists {
    INSISTS_NOT = 0,
    INSISTS = 1,      // who was named gave nothing
    INSISTS_MUCH = 2, // a snapshot: ... and nobody else has, for long
};

enum fetch_status {
    FETCH_EXACT = 0,
    FETCH_BEHIND = 1, // the version is above this replica's visible index
    FETCH_GONE = 2,   // below its history floor
    FETCH_NEVER = 3,  // it never held this version: a divergence
    FETCH_ERROR = 4,  // it could not read its own record
};

enum message_code {
#define MESSAGE(name, code) MESSAGE_##name = (code),
#define RETIRED(code) MESSAGE_RETIRED_##code = (code),
#include "common/tables/messages.h"
};

// One struct a message: struct message_hello { uint64_t protocol; struct bytes cluster; ... }.
typedef uint64_t message_U64;
typedef struct bytes message_BYTES;
typedef struct bytes message_TEXT;

#define MESSAGE_STRUCTS_INCLUDED
#include "common/wire/message_structs.h"

// message_<name>_encode(buf, &message) appends a whole frame; message_<name>_decode(payload,
// &ret_message) returns OK or ERR_PROTOCOL (wrong type, missing or repeated field, trailing bytes).
#define MESSAGE(name, code)                                                                        \
    void message_##name##_encode(struct buf *to, const struct message_##name *message);            \
    int message_##name##_decode(struct bytes payload,                                              \
                                struct message_##name *ret_message) MUST_CHECK;
#include "common/tables/messages.h"

const char *message_text(uint16_t code); // "hello", ...; "unknown"

#endif
