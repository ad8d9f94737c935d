// SPDX-License-Identifier: Apache-2.0
// Gives the model's functions names of their own, so that it can stand beside the real store in
// one program.
#ifndef QS_TESTS_SIM_STORE_NAMES_H
#define QS_TESTS_SIM_STORE_NAMES_H

#define store_batch_bytes model_store_batch_bytes
#define store_batch_clear model_store_batch_clear
#define store_batch_delete model_store_batch_delete
#define store_batch_free model_store_batch_free
#define store_batch_new model_store_batch_new
#define store_batch_put model_store_batch_put
#define store_batch_put_parts model_store_batch_put_parts
#define store_cache_close model_store_cache_close
#define store_cache_open model_store_cache_open
#define store_close model_store_close
#define store_compact model_store_compact
#define store_compact_cancel model_store_compact_cancel
#define store_files model_store_files
#define store_files_free model_store_files_free
#define store_flush model_store_flush
#define store_get model_store_get
#define store_iterator_close model_store_iterator_close
#define store_iterator_error model_store_iterator_error
#define store_iterator_key model_store_iterator_key
#define store_iterator_next model_store_iterator_next
#define store_iterator_open model_store_iterator_open
#define store_iterator_seek model_store_iterator_seek
#define store_iterator_valid model_store_iterator_valid
#define store_iterator_value model_store_iterator_value
#define store_open model_store_open
#define store_sizes model_store_sizes
#define store_snapshot model_store_snapshot
#define store_snapshot_release model_store_snapshot_release
#define store_state model_store_state
#define store_value_release model_store_value_release
#define store_write model_store_write

#endif
