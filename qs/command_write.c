// SPDX-License-Identifier: Apache-2.0
// Commands that write: SET MSET DEL UNLINK QS.PUT QS.DELETE QS.CAS. Words and sizes are checked before a
// transaction is made of them, so that a command refused for its words costs the others nothing.
#include "qs/dispatch.h"

static bool put_check(const struct request *request, struct bytes key, struct bytes value,
                      struct buf *to)
{
    if (!key_check(key, to)) {
        return false;
    }
    if (value.size > request->at->instance->options->value_bytes) {
        reply_error_code(to, ERR_VALUE_SIZE);
        return false;
    }
    return true;
}

// ---- SET ---------------------------------------------------------------------------------------

struct set_options {
    bool if_absent, if_present, get;
};

// OK, ERR_USAGE (a syntax error), or ERR_REFUSED (an option about expiry).
static int set_options(const struct call *call, struct set_options *ret_options)
{
    static const char *const expiry[] = {"EX", "PX", "EXAT", "PXAT", "KEEPTTL"};
    struct set_options options = {0};
    for (unsigned i = 3; i < call->word_count; i++) {
        struct bytes word = call_word(call, i);
        for (size_t e = 0; e < ARRAY_LEN(expiry); e++) {
            if (word_is(word, expiry[e])) {
                return ERR_REFUSED;
            }
        }
        bool known = word_is(word, "NX") || word_is(word, "XX") || word_is(word, "GET");
        options.if_absent = options.if_absent || word_is(word, "NX");
        options.if_present = options.if_present || word_is(word, "XX");
        options.get = options.get || word_is(word, "GET");
        if (!known || (options.if_absent && options.if_present)) {
            return ERR_USAGE;
        }
    }
    *ret_options = options;
    return OK;
}

static bool check_set(struct request *request, struct call *call, struct buf *to)
{
    struct set_options options;
    int code = set_options(call, &options);
    if (code != OK) {
        reply_error(to, code == ERR_REFUSED ? "ERR expiry is not supported" : "ERR syntax error");
        return false;
    }
    return put_check(request, call_word(call, 1), call_word(call, 2), to);
}

static int evaluate_set(struct request *request, struct call *call, struct txn *txn, struct buf *to)
{
    struct set_options options = {0};
    CHECK(set_options(call, &options) == OK);
    struct txn_value old = {0};
    bool present = false;
    if (options.if_absent || options.if_present || options.get) {
        int code = txn_get(txn, call_word(call, 1), options.get, &old);
        if (code != OK && code != ERR_NOT_FOUND) {
            return code;
        }
        present = code == OK;
    }
    bool writes = !(options.if_absent && present) && !(options.if_present && !present);
    if (options.get && present) {
        reply_bulk(to, old.value);
    } else if (options.get || !writes) {
        reply_nil(to, request->protocol);
    } else {
        reply_simple(to, "OK");
    }
    return writes ? txn_put(txn, call_word(call, 1), call_word(call, 2)) : OK;
}

const struct command_steps *command_set(void)
{
    static const struct command_steps steps = {.check = check_set, .evaluate = evaluate_set};
    return &steps;
}

// ---- MSET --------------------------------------------------------------------------------------

static bool check_mset(struct request *request, struct call *call, struct buf *to)
{
    if (call->word_count % 2 == 0) {
        reply_arity(to, call->command, NULL);
        return false;
    }
    for (unsigned i = 1; i < call->word_count; i += 2) {
        if (!put_check(request, call_word(call, i), call_word(call, i + 1), to)) {
            return false;
        }
    }
    return true;
}

static int evaluate_mset(struct request *request, struct call *call, struct txn *txn,
                         struct buf *to)
{
    (void)request;
    for (unsigned i = 1; i < call->word_count; i += 2) {
        int code = txn_put(txn, call_word(call, i), call_word(call, i + 1));
        if (code != OK) {
            return code;
        }
    }
    reply_simple(to, "OK");
    return OK;
}

const struct command_steps *command_mset(void)
{
    static const struct command_steps steps = {.check = check_mset, .evaluate = evaluate_mset};
    return &steps;
}

// ---- DEL ---------------------------------------------------------------------------------------

static bool check_keys(struct request *request, struct call *call, struct buf *to)
{
    (void)request;
    for (unsigned i = 1; i < call->word_count; i++) {
        if (!key_check(call_word(call, i), to)) {
            return false;
        }
    }
    return true;
}

static int delete_keys(struct call *call, struct txn *txn, int64_t *ret_count)
{
    int64_t count = 0;
    for (unsigned i = 1; i < call->word_count; i++) {
        bool existed = false;
        int code = txn_delete(txn, call_word(call, i), &existed);
        if (code != OK) {
            return code;
        }
        count += existed ? 1 : 0;
    }
    *ret_count = count;
    return OK;
}

static int evaluate_del(struct request *request, struct call *call, struct txn *txn, struct buf *to)
{
    (void)request;
    int64_t count;
    int code = delete_keys(call, txn, &count);
    if (code == OK) {
        reply_integer(to, count);
    }
    return code;
}

const struct command_steps *command_del(void)
{
    static const struct command_steps steps = {.check = check_keys, .evaluate = evaluate_del};
    return &steps;
}

// ---- QS.PUT, QS.DELETE -------------------------------------------------------------------------

static bool check_put(struct request *request, struct call *call, struct buf *to)
{
    return put_check(request, call_word(call, 1), call_word(call, 2), to);
}

static int evaluate_put(struct request *request, struct call *call, struct txn *txn, struct buf *to)
{
    (void)request;
    int code = txn_put(txn, call_word(call, 1), call_word(call, 2));
    if (code == OK) {
        reply_integer(to, (int64_t)txn_index(txn));
    }
    return code;
}

const struct command_steps *command_qs_put(void)
{
    static const struct command_steps steps = {.check = check_put, .evaluate = evaluate_put};
    return &steps;
}

static int evaluate_delete(struct request *request, struct call *call, struct txn *txn,
                           struct buf *to)
{
    (void)request;
    int64_t count;
    int code = delete_keys(call, txn, &count);
    if (code == OK) {
        reply_integer(to, (int64_t)txn_index(txn));
    }
    return code;
}

const struct command_steps *command_qs_delete(void)
{
    static const struct command_steps steps = {.check = check_keys, .evaluate = evaluate_delete};
    return &steps;
}

// ---- QS.CAS ------------------------------------------------------------------------------------

static bool check_cas(struct request *request, struct call *call, struct buf *to)
{
    uint64_t version;
    if (!parse_u64(call_word(call, 2), &version)) {
        reply_error(to, "ERR version is not an integer or out of range");
        return false;
    }
    return put_check(request, call_word(call, 1), call_word(call, 3), to);
}

// A key that this transaction has written already has the transaction's index as its version.
static int evaluate_cas(struct request *request, struct call *call, struct txn *txn, struct buf *to)
{
    (void)request;
    uint64_t expected = 0;
    CHECK(parse_u64(call_word(call, 2), &expected));
    struct txn_value current = {0};
    int code = txn_get(txn, call_word(call, 1), false, &current);
    if (code != OK && code != ERR_NOT_FOUND) {
        return code;
    }
    uint64_t version = code == ERR_NOT_FOUND ? 0 : current.version;
    if (code == OK && current.own) {
        version = txn_index(txn);
    }
    if (version != expected) {
        reply_error(to, "%s %llu", error_word(ERR_CONFLICT), (unsigned long long)version);
        return OK;
    }
    code = txn_put(txn, call_word(call, 1), call_word(call, 3));
    if (code == OK) {
        reply_integer(to, (int64_t)txn_index(txn));
    }
    return code;
}

const struct command_steps *command_qs_cas(void)
{
    static const struct command_steps steps = {.check = check_cas, .evaluate = evaluate_cas};
    return &steps;
}
