// SPDX-License-Identifier: Apache-2.0
// A request without a connection: it is made of the message, evaluated by the same code as a
// client's, and its reply goes back the way that the write came. The words are judged anew: what
// the node that sent them thought of them does not bind this one. On the loop of the write, but for
// the evaluation (qs/command.h).
#include "qs/forwarded.h"

#include "common/wire/write_items.h"
#include "qs/dispatch.h"

struct foreign {
    struct request request;
    struct forwarded *write;
};

static void foreign_free(struct foreign *foreign)
{
    struct request *request = &foreign->request;
    for (unsigned i = 0; i < request->call_count; i++) {
        buf_free(&request->calls[i].early);
    }
    mem_free(request->calls);
    mem_free(request->watched);
    arena_free(&request->arena);
    buf_free(&request->reply);
    mem_free(foreign);
}

// ---- reading -----------------------------------------------------------------------------------

static void read_watched(struct request *request, struct unpacker *from, unsigned count)
{
    request->watched = mem_zalloc(count * sizeof *request->watched);
    request->watched_count = count;
    for (unsigned i = 0; i < count; i++) {
        struct watched *watched = &request->watched[i];
        watched->at = request->at;
        watched->key = write_watched_next(from, &watched->version);
    }
}

// What was answered where the connection is.
static void read_answer(struct call *call, struct bytes answer)
{
    static const struct command command = {.word = ""};
    static const struct command_steps steps = {.aside = true};
    *call = (struct call){.command = &command, .steps = &steps, .answered = true};
    buf_append_bytes(&call->early, answer);
}

// False: no command that can stand in a transaction, or not with so many words.
static bool read_words(struct request *request, struct call *call, struct unpacker *from,
                       unsigned count)
{
    struct bytes *words = arena_alloc(&request->arena, count * sizeof *words);
    for (unsigned i = 0; i < count; i++) {
        words[i] = write_word_next(from);
    }
    const struct command *command = command_find(words[0]);
    unsigned barred = COMMAND_LOCAL | COMMAND_NOMULTI;
    if (command == NULL || (command->flags & barred) != 0 || !command_arity_fits(command, count)) {
        return false;
    }
    *call = (struct call){
        .command = command, .steps = command->steps(), .words = words, .word_count = count};
    return true;
}

// The words are lent from the write, which outlives the request.
static bool read_items(struct request *request, struct bytes items)
{
    struct unpacker from = unpacker_of(items);
    struct write_head head = write_head_next(&from);
    request->protocol = (int)head.protocol;
    request->exec = head.exec;
    read_watched(request, &from, head.watched);
    request->calls = mem_zalloc(head.calls * sizeof *request->calls);
    bool sound = true;
    for (unsigned i = 0; i < head.calls && sound; i++) {
        struct write_call call = write_call_next(&from);
        if (call.answered) {
            read_answer(&request->calls[i], call.answer);
        } else {
            sound = read_words(request, &request->calls[i], &from, call.words);
        }
        request->call_count = i + 1;
    }
    CHECK(unpack_ok(&from)); // it was checked when it came
    return sound;
}

// ---- carrying out ------------------------------------------------------------------------------

// Writer thread; possibly twice. A version of another history may be one here too, of other data.
static int evaluate(struct transaction *transaction, struct txn *txn)
{
    struct request *request = CONTAINER_OF(transaction, struct request, transaction);
    struct foreign *foreign = CONTAINER_OF(request, struct foreign, request);
    const uint8_t *history = journal_history(request->at->instance->journal);
    if (memcmp(foreign->write->meant, history, HISTORY_ID_BYTES) != 0) {
        return ERR_OTHER_HISTORY;
    }
    int code = request_evaluate(transaction, txn);
    if (code == OK) {
        memcpy(foreign->write->history, history, HISTORY_ID_BYTES);
        code = forward_reply_fits(foreign->write, request->reply.size);
    }
    return code;
}

static void committed(struct task *task)
{
    struct request *request = CONTAINER_OF(task, struct request, transaction.done);
    struct foreign *foreign = CONTAINER_OF(request, struct foreign, request);
    struct forwarded *write = foreign->write;
    write->status = request->transaction.status;
    if (write->status == OK) {
        write->index = request->transaction.index;
        write->reply = request->reply;
        request->reply = (struct buf){0};
    }
    foreign_free(foreign);
    write->answered(write);
}

static int carry_out(void *owner, struct forwarded *write)
{
    struct foreign *foreign = mem_zalloc(sizeof *foreign);
    struct request *request = &foreign->request;
    foreign->write = write;
    request->at = owner;
    request->writing = true;
    int code = read_items(request, buf_bytes(&write->items)) ? OK : ERR_USAGE;
    if (code == OK) {
        const struct instance *instance = request->at->instance;
        request->transaction.bytes = request_prepare(request);
        request->transaction.done.run = committed;
        request->transaction.evaluate = evaluate;
        code = request_submit(request, write->loop,
                              u64_min(instance->node->reply_bytes, WRITE_ITEMS_MAX));
    }
    if (code != OK) {
        foreign_free(foreign);
    }
    return code;
}

void forwarded_open(struct daemon_instance *at) { forward_serve(at->instance, at, carry_out); }
