// SPDX-License-Identifier: Apache-2.0
// The message structs, in the order of common/tables/messages.h. C cannot open and close a struct
// from two kinds of rows, so they are written out here; message.c refuses to compile when a row
// has no field here.
#ifndef MESSAGE_STRUCTS_INCLUDED
#error "include common/wire/message.h"
#endif

struct message_hello {
    message_U64 protocol;
    message_TEXT cluster;
    message_TEXT instance;
    message_TEXT node;
    message_U64 role;
    message_U64 purpose;
    message_BYTES history;
    message_U64 index;
    message_U64 block;
    message_BYTES chain;
    message_U64 digest_algorithm;
    message_BYTES authentication;
    message_TEXT address;
    message_TEXT site;
    message_U64 insists;
};

struct message_welcome {
    message_U64 protocol;
    message_U64 answer;
    message_TEXT reason;
    message_TEXT node;
    message_U64 role;
    message_BYTES history;
    message_U64 index;
    message_U64 block;
    message_BYTES chain;
    message_U64 diverged_at;
    message_U64 oldest;
    message_BYTES birth;
    message_BYTES path;
    message_U64 age_ns;
    message_U64 children;
    message_U64 children_max;
    message_TEXT site;
    message_BYTES elsewhere;
    message_U64 orphan;
    message_U64 way_ns;
};

struct message_blocks {
    message_U64 bytes;
};

struct message_heartbeat {
    message_BYTES history;
    message_U64 epoch;
    message_U64 commit_index;
    message_U64 block;
    message_BYTES chain;
    message_BYTES digest;
    message_U64 root_ms;
    message_U64 delay_ns;
    message_BYTES path;
    message_U64 sequence;
    message_U64 held_ns;
    message_U64 way_ns;
};

struct message_progress {
    message_U64 received;
    message_U64 synced;
    message_U64 visible;
    message_U64 age_ns;
    message_U64 room;
};

struct message_make_room {
    message_BYTES elsewhere;
};

struct message_ping {
    message_U64 sent_ns;
};

struct message_pong {
    message_U64 sent_ns;
};

struct message_bad_block {
    message_U64 block;
    message_U64 error;
};

struct message_refetch {
    message_U64 first;
    message_U64 last;
};

struct message_fetch {
    message_U64 id;
    message_BYTES items;
};

struct message_fetched {
    message_U64 id;
    message_U64 visible;
    message_U64 floor;
    message_BYTES items;
};

struct message_goodbye {
    message_U64 error;
    message_TEXT reason;
};

struct message_patch {
    message_U64 block;
    message_U64 bytes;
};

struct message_look {
    message_U64 id;
    message_U64 at;
    message_BYTES items;
};

struct message_looked {
    message_U64 id;
    message_U64 status;
    message_U64 visible;
    message_U64 floor;
    message_BYTES items;
};

struct message_past {
    message_U64 id;
    message_U64 at;
    message_BYTES start;
    message_BYTES end;
    message_U64 limit;
};

struct message_pasted {
    message_U64 id;
    message_U64 status;
    message_U64 visible;
    message_U64 floor;
    message_BYTES items;
    message_BYTES next;
};

struct message_slice {
    message_U64 id;
    message_BYTES from;
    message_U64 bytes;
    message_U64 values_above;
    message_U64 least;
};

struct message_slice_items {
    message_U64 id;
    message_BYTES header;
    message_BYTES digest;
    message_U64 keys;
    message_U64 last;
    message_BYTES check;
    message_BYTES items;
};

struct message_tree_report {
    message_BYTES items;
};

struct message_tree_ask {
    message_U64 id;
    message_U64 page;
    message_U64 patience_ns;
};

struct message_tree_page {
    message_U64 id;
    message_BYTES items;
    message_U64 last;
    message_TEXT reason;
    message_U64 age_ns;
};

struct message_claim {
    message_BYTES history;
    message_U64 epoch;
    message_BYTES ancestor;
};

struct message_promise {
    message_BYTES history;
    message_U64 granted;
    message_U64 epoch;
    message_TEXT leader;
    message_U64 generation;
    message_U64 blank;
    message_U64 end_epoch;
    message_U64 end_block;
    message_U64 end_index;
    message_BYTES end_chain;
};

struct message_word {
    message_BYTES history;
    message_U64 epoch;
    message_U64 block;
    message_U64 generation;
    message_U64 member;
    message_BYTES ancestor;
};

struct message_ask {
    message_U64 epoch;
};

struct message_go {
    message_U64 epoch;
};

struct message_lead {
    message_U64 epoch;
    message_U64 generation;
    message_U64 block;
    message_U64 index;
};

struct message_acknowledge {
    message_U64 epoch;
    message_U64 block;
    message_BYTES chain;
};

struct message_forward {
    message_U64 id;
    message_BYTES path;
    message_U64 patience_ns;
    message_BYTES items;
    message_BYTES history;
};

struct message_forwarded {
    message_U64 id;
    message_U64 error;
    message_BYTES history;
    message_U64 index;
    message_BYTES reply;
};
