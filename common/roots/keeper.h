// SPDX-License-Identifier: Apache-2.0
// The record's place: one key in Consul's key-value store, read in consistent mode, changed by
// check-and-set, and watched (docs/commit.md, R11). It does what a council asks for by COUNCIL_READ
// and COUNCIL_CHANGE, and says what came of it; one read and one change are under way at most, and
// a newer one takes the place of an older one, whose answer is not told any more.
//
// The watch is a blocking query, which tells only that something may have changed: its answer is
// not looked at, as it may be older than a read. Consul's thread; nothing here blocks.
//
// Source: https://developer.hashicorp.com/consul/api-docs/kv (cas, consistent)
#ifndef QS_COMMON_ROOTS_KEEPER_H
#define QS_COMMON_ROOTS_KEEPER_H

#include "common/base/log.h"
#include "common/discovery/inquiry.h"
#include "common/roots/root_record.h"

#define KEEPER_TIMEOUT_MS 2000 // of a read or a change

struct keeper_setup {
    const char *scope;  // the instance's name, for the log
    const char *prefix; // of the key: <prefix><scope>/record
    const char *service; // as which the roots are registered (common/discovery/agent.h)
    const struct members *names;
    void *owner;
    // `record` is NULL when there is none, with an index of 0. One that cannot be read is told as a
    // failure, and logged: nobody overwrites what he does not understand.
    void (*read)(void *owner, uint64_t ticket, const struct root_record *record,
                 uint64_t modify_index);
    void (*failed)(void *owner, uint64_t ticket);
    // OK, ERR_CONFLICT, or what became of the request: it may be done yet.
    void (*changed)(void *owner, uint64_t ticket, int result);
    void (*moved)(void *owner);
    // Of keeper_look: `root` is not registered, or its health check says that it does not serve or
    // takes no updates. Not told when Consul could not say.
    void (*looked)(void *owner, unsigned root, bool gone);
};

struct keeper {
    struct keeper_setup setup;
    struct consul *consul;
    char *path; // owned
    struct consul_call read, change, look;
    unsigned looked_at;
    uint64_t read_ticket, change_ticket;
    struct inquiry watch;
    uint64_t watched;      // index of the watch's last answer
    unsigned watched_life; // of the agent, when it was given
    struct log_gate gate;
};

void keeper_open(struct keeper *keeper, const struct keeper_setup *setup, struct consul *consul);
void keeper_close(struct keeper *keeper); // a change that is under way may be done yet

void keeper_read(struct keeper *keeper, uint64_t ticket);
void keeper_change(struct keeper *keeper, uint64_t ticket, const struct root_record *record,
                   uint64_t modify_index);

// Asks what Consul thinks of the health of `root`; nothing happens while it is asked already.
void keeper_look(struct keeper *keeper, unsigned root);

// Watches. Returns when to call again at the latest, UINT64_MAX while an answer is awaited.
uint64_t keeper_turn(struct keeper *keeper, uint64_t now_ns);

#endif
