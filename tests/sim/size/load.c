// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/size/load.h"

#include <stdio.h>
#include <string.h>

#include "replica/sequencer.h"
#include "tests/sim/size/gauge.h"

#define WRITES_MAX 256 // not answered yet

struct writing {
    struct transaction transaction;
    bool busy;
    char key[24], value[LOAD_VALUE_MAX + 1];
};

static struct {
    struct node *root;
    unsigned keys, value_bytes;
    struct actor actor;
    unsigned burst;
    uint64_t every_ns;
    unsigned busy;
    struct writing writings[WRITES_MAX];
} load;

static int evaluate(struct transaction *transaction, struct txn *txn)
{
    struct writing *writing = CONTAINER_OF(transaction, struct writing, transaction);
    return txn_put(txn, bytes_text(writing->key), bytes_text(writing->value));
}

static void on_written(struct task *task)
{
    struct transaction *transaction = CONTAINER_OF(task, struct transaction, done);
    WORLD_CHECK(transaction->status == OK, "a write is answered: %s",
                error_text(transaction->status));
    gauge_acknowledged(transaction->index);
    CONTAINER_OF(transaction, struct writing, transaction)->busy = false;
    load.busy--;
}

static void submit(void *argument)
{
    struct writing *writing = argument;
    snprintf(writing->key, sizeof writing->key, "zone/%04u.example",
             (unsigned)chance_below(load.keys));
    for (unsigned i = 0; i < load.value_bytes; i += 16) {
        snprintf(writing->value + i, 17, "%016llx", (unsigned long long)chance_u64());
    }
    writing->transaction = (struct transaction){.done.run = on_written,
                                                .loop = load.root->process.loop,
                                                .bytes = sizeof writing->key + load.value_bytes,
                                                .evaluate = evaluate};
    list_init(&writing->transaction.node);
    int error = sequencer_submit(load.root->process.instance, &writing->transaction);
    WORLD_CHECK(error == OK, "a write is refused: %s", error_text(error));
}

static void write_one(void)
{
    unsigned at = 0;
    while (at < WRITES_MAX && load.writings[at].busy) {
        at++;
    }
    WORLD_CHECK(at < WRITES_MAX, "writes are not answered");
    load.writings[at].busy = true;
    load.busy++;
    bool alive = world_enter(&load.root->host, submit, &load.writings[at]);
    CHECK(alive);
}

static void run(struct actor *actor)
{
    for (unsigned i = 0; i < load.burst; i++) {
        write_one();
    }
    if (load.burst > 0) {
        actor_after(actor, load.every_ns);
    }
}

void load_open(struct node *root, unsigned keys, unsigned value_bytes)
{
    CHECK(value_bytes <= LOAD_VALUE_MAX && value_bytes % 16 == 0);
    memset(&load, 0, sizeof load);
    load.root = root;
    load.keys = keys;
    load.value_bytes = value_bytes;
    actor_init(&load.actor, NULL, run);
}

void load_set(unsigned burst, uint64_t every_ns)
{
    load.burst = burst;
    load.every_ns = every_ns;
    actor_after(&load.actor, 0);
}

bool load_idle(void) { return load.busy == 0; }
