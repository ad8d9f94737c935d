// SPDX-License-Identifier: Apache-2.0
// The writes of the public header. What was written counts as seen: later reads of the handle show
// it, on whatever line, also where the daemon sends writes on to a root elsewhere.
#include <stdio.h>

#include "common/client/call.h"
#include "common/client/fault.h"
#include "common/client/qs.h"

#define INDEX_TEXT 24

static int decode_written(struct call *call, const struct answers *answers, size_t at)
{
    const struct answer *index = answers_item(answers, at, ':');
    call->index = index == NULL ? 0 : (uint64_t)index->number;
    return index == NULL ? ERR_PROTOCOL : OK;
}

static struct call write_of(struct qs *qs, const struct bytes *words, size_t count)
{
    return (struct call){
        .qs = qs, .words = words, .count = count, .writes = true, .decode = decode_written};
}

static int run(struct call *call, uint64_t *ret_index)
{
    int error = call_run(call);
    if (error == OK && ret_index != NULL) {
        *ret_index = call->index;
    }
    return error;
}

int qs_put(struct qs *qs, const void *key, size_t key_size, const void *value, size_t value_size,
           uint64_t *ret_index)
{
    struct bytes words[] = {bytes_text("QS.PUT"), bytes_of(key, key_size),
                            bytes_of(value, value_size)};
    struct call call = write_of(qs, words, ARRAY_LEN(words));
    return run(&call, ret_index);
}

int qs_delete(struct qs *qs, const void *key, size_t key_size, uint64_t *ret_index)
{
    struct bytes words[] = {bytes_text("QS.DELETE"), bytes_of(key, key_size)};
    struct call call = write_of(qs, words, ARRAY_LEN(words));
    return run(&call, ret_index);
}

int qs_cas(struct qs *qs, const void *key, size_t key_size, uint64_t version, const void *value,
           size_t value_size, uint64_t *ret_version)
{
    char text[INDEX_TEXT];
    snprintf(text, sizeof text, "%llu", (unsigned long long)version);
    struct bytes words[] = {bytes_text("QS.CAS"), bytes_of(key, key_size), bytes_text(text),
                            bytes_of(value, value_size)};
    struct call call = write_of(qs, words, ARRAY_LEN(words));
    int error = run(&call, ret_version);
    if (error == ERR_CONFLICT && ret_version != NULL) {
        *ret_version = call.number;
    }
    return error;
}
