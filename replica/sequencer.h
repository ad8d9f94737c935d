// SPDX-License-Identifier: Apache-2.0
// The order of writes at a root. Clients' transactions come in from any thread, are evaluated one
// after another on the instance's writer thread against the newest view and an overlay of what is
// sequenced but not visible yet, and become batches of blocks. A transaction is answered when its
// batch is committed and published (or at once when it changes nothing and nothing is pending).
#ifndef QS_REPLICA_SEQUENCER_H
#define QS_REPLICA_SEQUENCER_H

#include "common/base/buf.h"
#include "common/core/instance.h"

struct txn;

struct transaction {
    struct list node;
    struct task done;      // posted to `loop` when answered; set done.run
    struct loop *loop;
    size_t bytes;          // what it holds in memory, counted against submit_queue
    uint64_t submitted_ns; // the sequencer's own
    // Evaluates the commands through txn_*; writer thread. It may be called a second time after a
    // reset (its own outputs must then start afresh). Errors of single commands are its own
    // business; a returned error refuses the whole transaction: nothing is written.
    int (*evaluate)(struct transaction *transaction, struct txn *txn);
    // out: OK, the refusal, or ERR_UNKNOWN_OUTCOME; where nothing was done ERR_STOPPED,
    // ERR_DISK_FULL, ERR_LACKS, of several roots also ERR_READONLY (it does not lead), ERR_BUSY
    // (commit_wait)
    int status;
    uint64_t
        index; // out: index of its batch, or the newest sequenced index when it changed nothing
};

// The setup's `sequencer`: opened before the instance, closed after it (what is left is answered
// ERR_STOPPED).
void *sequencer_open(void) MUST_CHECK;
void sequencer_close(void *sequencer);
bool sequencer_turn(struct instance *instance);   // the setup's `sequence`
void sequencer_answer(struct instance *instance); // the setup's `answer`

// Queues `transaction` (owned until done). Transactions of one thread keep their order.
// ERR_BUSY: submit_queue is full; ERR_STOPPED; ERR_LOADING; ERR_DISK_FULL; ERR_READONLY (another
// root leads); ERR_LACKS (a child holds blocks that this root does not): nothing is queued.
int sequencer_submit(struct instance *instance, struct transaction *transaction) MUST_CHECK;

// Inside evaluate: reads see the transaction's own writes.
struct txn_value {
    uint64_t version;    // 0 for what this transaction wrote itself
    struct bytes value;  // until evaluate returns
    bool own;            // written by this transaction
};
// OK, ERR_NOT_FOUND, ERR_CORRUPT, ERR_IO. `value` false: only presence and version.
int txn_get(struct txn *txn, struct bytes key, bool value, struct txn_value *ret_value) MUST_CHECK;
// ERR_KEY_SIZE, ERR_VALUE_SIZE, ERR_BATCH_SIZE (sticky: the transaction will be refused).
int txn_put(struct txn *txn, struct bytes key, struct bytes value) MUST_CHECK;
int txn_delete(struct txn *txn, struct bytes key, bool *ret_existed) MUST_CHECK;
// The index that the transaction takes if it changes anything up to here, else the current one.
// If in the end it changes nothing after all, it is evaluated again with the current one.
uint64_t txn_index(struct txn *txn);

#endif
