// SPDX-License-Identifier: Apache-2.0
// A root with its sequencer, and a write that a test hands to that, and waits for.
#ifndef QS_TESTS_UNIT_WRITING_FIXTURE_H
#define QS_TESTS_UNIT_WRITING_FIXTURE_H

#include <semaphore.h>

#include "replica/replica.h"
#include "replica/sequencer.h"
#include "tests/unit/instance_fixture.h"

SUPPORT struct instance_setup writing_setup(struct test_node *node, struct test_instance *at,
                                            void *sequencer)
{
    struct instance_setup setup = test_setup(node, at, replica_role());
    setup.sequencer = sequencer;
    setup.sequence = sequencer_turn;
    setup.answer = sequencer_answer;
    return setup;
}

struct writing {
    struct transaction transaction;
    sem_t finished;
};

SUPPORT int put_one(struct transaction *transaction, struct txn *txn)
{
    (void)transaction;
    return txn_put(txn, bytes_text("key"), bytes_text("value"));
}

SUPPORT void on_written(struct task *task)
{
    struct transaction *transaction = CONTAINER_OF(task, struct transaction, done);
    sem_post(&CONTAINER_OF(transaction, struct writing, transaction)->finished);
}

SUPPORT int writing_start(struct test_node *node, struct instance *instance,
                          struct writing *writing)
{
    writing->transaction = (struct transaction){
        .done.run = on_written, .loop = node->loop, .bytes = 100, .evaluate = put_one};
    list_init(&writing->transaction.node);
    sem_init(&writing->finished, 0, 0);
    return sequencer_submit(instance, &writing->transaction);
}

#endif
