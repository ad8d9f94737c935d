// SPDX-License-Identifier: Apache-2.0
// What every store asks of RocksDB 7.8, in RocksDB's own option text: all settings that depend on
// neither the instance nor its limits. Included by store.c only, which checks that all are known.
#ifndef QS_COMMON_DATA_STORE_SETTINGS_H
#define QS_COMMON_DATA_STORE_SETTINGS_H

// Memtables of one family that may wait to be flushed, the one that is written included.
#define STORE_MEMTABLES_MAX 3
#define STORE_MEMTABLES_MAX_TEXT "3"

// Files that came from memtables, of one family, with which RocksDB begins to slow down writes.
#define STORE_FRESH_FILES 20
#define STORE_FRESH_FILES_TEXT "20"

static const char store_settings[] =
    "create_if_missing=true;create_missing_column_families=true;paranoid_checks=true;"
    // Without a log of its own RocksDB keeps families together only this way.
    "atomic_flush=true;avoid_flush_during_shutdown=false;"
    // A log line that fails on a full disk would abort the process.
    "info_log_level=FATAL_LEVEL;keep_log_file_num=1;stats_dump_period_sec=0;"
    // Where compaction falls behind, writes are slowed; the default of 16 MB/s is a standstill for
    // whoever moves values of a megabyte into the history.
    "delayed_write_rate=134217728;"
    // All files stay open: a read of memory only cannot use a file that is not.
    "max_open_files=-1;max_background_jobs=2;bytes_per_sync=1048576;"
    "manifest_preallocation_size=65536;"
    // A reader that lets go of old files last must not be the one that deletes them.
    "avoid_unnecessary_blocking_io=true;"
    "max_write_buffer_number=" STORE_MEMTABLES_MAX_TEXT ";"
    "memtable_prefix_bloom_size_ratio=0.1;memtable_whole_key_filtering=true;"
    "level0_file_num_compaction_trigger=4;"
    // What a step replaces stands beside what it writes: so none takes files that it need not, and
    // none is twice as large as it should be.
    "ignore_max_compaction_bytes_for_input=false;level_compaction_dynamic_file_size=false;"
    "level0_slowdown_writes_trigger=" STORE_FRESH_FILES_TEXT ";"
    "level_compaction_dynamic_level_bytes=true;"
    // Whoever wants old files rewritten says so: store_compact.
    "periodic_compaction_seconds=0;ttl=0;"
    "compression=kLZ4Compression;bottommost_compression=kZSTD;"
    "bottommost_compression_opts={level=1;enabled=true};"
    // Most reads ask for absent keys, so every level has its filter, the last one too.
    "optimize_filters_for_hits=false;"
    // Small blocks, with an index by hash within them: a read is for one key, and what is read
    // often lies anywhere.
    "block_based_table_factory={block_size=4096;data_block_index_type=kDataBlockBinaryAndHash;"
    "filter_policy=bloomfilter:10:false;whole_key_filtering=true;"
    "cache_index_and_filter_blocks=true;"
    "pin_l0_filter_and_index_blocks_in_cache=true}";

#endif
