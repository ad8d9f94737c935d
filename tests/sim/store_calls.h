// SPDX-License-Identifier: Apache-2.0
// All of common/data/store.h as a table, so that one test can drive two stores.
#ifndef QS_TESTS_SIM_STORE_CALLS_H
#define QS_TESTS_SIM_STORE_CALLS_H

#include "common/data/store.h"

#define STORE_CALLS_MAP(X)                                                                         \
    X(cache_open) X(cache_close) X(open) X(close) X(get) X(value_release) X(snapshot)              \
    X(snapshot_release) X(batch_new) X(batch_free) X(batch_clear) X(batch_bytes) X(batch_put)      \
    X(batch_put_parts) X(batch_delete) X(write) X(state) X(flush) X(iterator_open)                 \
    X(iterator_close) X(iterator_seek) X(iterator_valid) X(iterator_next) X(iterator_key)          \
    X(iterator_value) X(iterator_error) X(files) X(files_free) X(compact) X(compact_cancel)        \
    X(sizes)

#define STORE_CALLS_NAME(name) store_##name
#define STORE_CALLS_FIELD(name) __typeof__(&STORE_CALLS_NAME(name)) name;
#define STORE_CALLS_ENTRY(name) .name = STORE_CALLS_NAME(name),

struct store_calls {
    STORE_CALLS_MAP(STORE_CALLS_FIELD)
};
#define STORE_CALLS                                                                                \
    {                                                                                              \
        STORE_CALLS_MAP(STORE_CALLS_ENTRY)                                                         \
    }

extern const struct store_calls model_store_calls; // store_model_beside.c

#endif
