// SPDX-License-Identifier: Apache-2.0
// Every metric, one row each. Derived: the slots, the Prometheus text, docs/metrics.md.
//
// NODE_METRIC(kind, name, unit, help)      once a daemon:    qs_<name>
// INSTANCE_METRIC(kind, name, unit, help)  once an instance: qs_<name>{instance="..."}
//   kind  COUNTER (only grows; summed over threads) or GAUGE (set by its owner)
//   unit  for people: "", "bytes", "seconds"...; durations are kept in nanoseconds where the unit
//         is "ns"
#ifndef NODE_METRIC
#define NODE_METRIC(kind, name, unit, help)
#endif
#ifndef INSTANCE_METRIC
#define INSTANCE_METRIC(kind, name, unit, help)
#endif

NODE_METRIC(GAUGE, io_uring, "", "1 when the I/O back end is io_uring, 0 when it is epoll")
NODE_METRIC(GAUGE, clients, "", "client connections now")
NODE_METRIC(COUNTER, clients_accepted, "", "client connections accepted")
NODE_METRIC(COUNTER, clients_refused, "", "client connections refused at clients_max")
NODE_METRIC(COUNTER, client_protocol_errors, "", "client connections closed for malformed bytes")
NODE_METRIC(COUNTER, client_pauses, "", "times a client's reading paused at pipeline_max or output_bytes")
NODE_METRIC(GAUGE, peers, "", "peer connections now")
NODE_METRIC(COUNTER, peers_refused, "", "peer connections refused: limit, or a hello that does not fit")
NODE_METRIC(COUNTER, peer_protocol_errors, "", "peer connections closed for malformed frames")
NODE_METRIC(COUNTER, commands, "", "commands answered")
NODE_METRIC(COUNTER, command_errors, "", "commands answered with an error")

INSTANCE_METRIC(GAUGE, visible_index, "", "index that reads see")
INSTANCE_METRIC(GAUGE, synced_index, "", "highest index synced to the journal")
INSTANCE_METRIC(GAUGE, keys, "", "keys at the visible index")
INSTANCE_METRIC(GAUGE, age_ms, "ms", "age of the data against the root, 0 at a root")
INSTANCE_METRIC(GAUGE, state, "", "0 loading, 1 serving, 2 stopped taking updates")
INSTANCE_METRIC(COUNTER, reads, "", "keys looked up")
INSTANCE_METRIC(COUNTER, reads_absent, "", "... of which the key was absent")
INSTANCE_METRIC(COUNTER, reads_pooled, "", "... of which missed the block cache and went to the readers")
INSTANCE_METRIC(COUNTER, reads_corrupt, "", "records that failed their check")
INSTANCE_METRIC(COUNTER, writes, "", "batches that took an index here (root)")
INSTANCE_METRIC(COUNTER, writes_refused, "", "writes refused: queue full, limit, stopped")
INSTANCE_METRIC(COUNTER, blocks, "", "blocks appended to the journal")
INSTANCE_METRIC(COUNTER, entries_applied, "", "entries applied to the store")
INSTANCE_METRIC(COUNTER, journal_bytes_written, "bytes", "bytes appended to the journal")
INSTANCE_METRIC(COUNTER, journal_syncs, "", "fdatasync calls on the journal")
INSTANCE_METRIC(COUNTER, journal_sync_ns, "ns", "time spent in them")
INSTANCE_METRIC(COUNTER, apply_ns, "ns", "time spent applying blocks")
INSTANCE_METRIC(GAUGE, journal_bytes, "bytes", "journal on disk")
INSTANCE_METRIC(GAUGE, store_bytes, "bytes", "live store files on disk")
INSTANCE_METRIC(GAUGE, history_rows_bytes, "bytes", "history (mvcc) files on disk")
INSTANCE_METRIC(GAUGE, disk_bytes, "bytes", "everything in the instance's directory, and what its memtables will add")
INSTANCE_METRIC(GAUGE, disk_free_bytes, "bytes", "free on the disk below it")
INSTANCE_METRIC(GAUGE, space_level, "", "0 ok, 1 over the soft limit, 2 over the hard limit, 3 in the reserve: replication pauses")
INSTANCE_METRIC(COUNTER, journal_torn, "", "torn ends cut from the journal at start")
INSTANCE_METRIC(COUNTER, journal_damaged, "", "damaged blocks found in the journal")
INSTANCE_METRIC(COUNTER, journal_repaired, "", "damaged blocks fetched again and written back")
INSTANCE_METRIC(GAUGE, children, "", "children fed from here now")
INSTANCE_METRIC(COUNTER, child_bytes, "bytes", "journal bytes sent to children")
INSTANCE_METRIC(GAUGE, parent_connected, "", "1 while the log arrives from a parent")
INSTANCE_METRIC(COUNTER, parent_lost, "", "times the link to a parent was lost")
INSTANCE_METRIC(COUNTER, parent_bad_blocks, "", "blocks from a parent that failed a check and were not applied")
INSTANCE_METRIC(COUNTER, parent_bad_frames, "", "links to a parent closed for malformed frames")
INSTANCE_METRIC(COUNTER, digest_mismatches, "", "times the running digest did not match the root's")
INSTANCE_METRIC(COUNTER, fetch_misses, "", "values that a proxy did not hold")
INSTANCE_METRIC(COUNTER, fetch_joined, "", "... of which waited for a fetch already under way")
INSTANCE_METRIC(COUNTER, fetch_sent, "", "values asked of replicas")
INSTANCE_METRIC(COUNTER, fetch_failed, "", "values that no replica gave in time")
INSTANCE_METRIC(COUNTER, fetch_behind, "", "answers `behind` from a replica")
INSTANCE_METRIC(COUNTER, fetch_gone, "", "answers `gone` from a replica")
INSTANCE_METRIC(COUNTER, fetch_never, "", "answers `never had it`: a divergence")
INSTANCE_METRIC(COUNTER, fetch_bad_frames, "", "links to a replica closed for malformed frames")
INSTANCE_METRIC(COUNTER, fetch_bad, "", "values from a replica that failed length or check")
INSTANCE_METRIC(COUNTER, fills, "", "fetched values kept")
INSTANCE_METRIC(COUNTER, fills_stale, "", "fetched values dropped: the key had changed")
INSTANCE_METRIC(COUNTER, fills_refused_space, "", "fetched values not kept: over the hard limit")
INSTANCE_METRIC(COUNTER, fills_refused_queue, "", "fetched values not kept: too many wait to be written")
INSTANCE_METRIC(COUNTER, values_refused, "", "values of the log not kept: over the hard limit, with no window left")
INSTANCE_METRIC(COUNTER, values_evicted, "", "values dropped by eviction")
INSTANCE_METRIC(COUNTER, evicted_bytes, "bytes", "... their bytes")
INSTANCE_METRIC(COUNTER, hand_steps, "", "compactions that eviction asked for")
INSTANCE_METRIC(GAUGE, access_period, "", "period of the memory of accesses, modulo 65536")
INSTANCE_METRIC(COUNTER, served, "", "values served to proxies")

#undef NODE_METRIC
#undef INSTANCE_METRIC
