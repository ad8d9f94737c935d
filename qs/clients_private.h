// SPDX-License-Identifier: Apache-2.0
// What qs/clients.c and qs/session.c share: the set of all connections, and each loop's part of
// it. Everything of a client_loop belongs to that loop's thread.
#ifndef QS_QS_CLIENTS_PRIVATE_H
#define QS_QS_CLIENTS_PRIVATE_H

#include <pthread.h>

#include "common/io/address.h"
#include "qs/clients.h"

struct cursors;

struct client_loop {
    struct clients *clients;
    struct loop *loop;
    struct list sessions;
    struct list listeners;
    struct list spare; // requests
    unsigned spare_count;
    struct bytes *words; // of the command that is being started
    size_t word_capacity;
    struct task close_task;
};

struct clients {
    struct daemon *daemon;
    struct cursors *cursors;
    pthread_mutex_t lock; // guards `all`, and what session.h says
    struct list all;
    _Atomic uint64_t next_id;
    _Atomic unsigned turn;       // of the round robin
    _Atomic uint64_t open;       // connections, those being handed over included
    _Atomic uint64_t references; // one of the owner's, one for each thing below it
    _Atomic bool closing;
    struct notice *closed;
    unsigned loop_count;
    struct client_loop loops[];
};

void clients_hold(struct clients *clients);
void clients_drop(struct clients *clients); // the last one raises `closed`

#endif
