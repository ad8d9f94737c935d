// SPDX-License-Identifier: Apache-2.0
// Every option of the configuration file, one row each. Derived: the option structs and their
// defaults, the parser with its bounds, `qsd --help`, CONFIG GET, docs/options.md.
//
// NODE_OPTION(type, name, default, min, max, help)      once a daemon
// INSTANCE_OPTION(type, name, default, min, max, help)  once in each `instance NAME { }`
// CACHE_OPTION(type, name, default, min, max, help)     once in the `cache { }` of a proxy
// CONSUL_OPTION(type, name, default, min, max, help)    once in the `consul { }` of a daemon
//   type     TEXT, TEXTS (a list), ADDRESS (host:port), ADDRESSES, CLIENTS (addresses or
//            unix:/path), INT, SIZE (bytes; KB MB GB = 1024 steps), MS (a duration in
//            milliseconds; ms s m h d), SPACE (part of a disk: a percentage or a size), or an ENUM
//            declared below
//   default  text as it would stand in the file; "" for TEXT means unset; REQUIRED must be given
//   min, max for INT, SIZE, MS and the sizes of SPACE; 0, 0 otherwise
#ifndef NODE_OPTION
#define NODE_OPTION(type, name, default, min, max, help)
#endif
#ifndef INSTANCE_OPTION
#define INSTANCE_OPTION(type, name, default, min, max, help)
#endif
#ifndef CACHE_OPTION
#define CACHE_OPTION(type, name, default, min, max, help)
#endif
#ifndef CONSUL_OPTION
#define CONSUL_OPTION(type, name, default, min, max, help)
#endif
#ifndef OPTION_ENUM
#define OPTION_ENUM(type, word, value)
#endif

OPTION_ENUM(IO, "auto", IO_AUTO)
OPTION_ENUM(IO, "uring", IO_URING)
OPTION_ENUM(IO, "epoll", IO_EPOLL)
OPTION_ENUM(ROLE, "root", ROLE_ROOT)
OPTION_ENUM(ROLE, "replica", ROLE_REPLICA)
OPTION_ENUM(ROLE, "proxy", ROLE_PROXY)
OPTION_ENUM(SWITCH, "no", 0)
OPTION_ENUM(SWITCH, "yes", 1)
OPTION_ENUM(LEVEL, "debug", LOG_DEBUG)
OPTION_ENUM(LEVEL, "info", LOG_INFO)
OPTION_ENUM(LEVEL, "warn", LOG_WARN)
OPTION_ENUM(LEVEL, "error", LOG_ERROR)

NODE_OPTION(TEXT, node, "", 0, 0, "name of this node, unique in the cluster, [A-Za-z0-9._-]{1,64}; unset: the name of the host")
NODE_OPTION(TEXT, cluster, "qs", 0, 0, "name of the cluster; nodes of another one are refused")
NODE_OPTION(TEXT, data_dir, "/var/lib/qs", 0, 0, "directory for everything this node keeps; it must exist")
NODE_OPTION(ADDRESS, peer, "", 0, 0, "address for other qs nodes; unset: nobody can follow or fetch from this node")
NODE_OPTION(ADDRESS, advertise, "", 0, 0, "address at which others reach `peer`, as it is registered in Consul; unset: `peer` itself")
NODE_OPTION(CLIENTS, client, "", 0, 0, "RESP addresses: host:port or unix:/path")
NODE_OPTION(ADDRESS, admin, "", 0, 0, "HTTP address for /metrics, /healthz, /readyz, /api")
NODE_OPTION(TEXT, site, "", 0, 0, "name of this node's data centre: parents in the same one come first")
NODE_OPTION(IO, io, "auto", 0, 0, "I/O back end: auto takes io_uring where it works, else epoll")
NODE_OPTION(INT, loops, "0", 0, 64, "network threads; 0 = one per core, at most 4")
NODE_OPTION(INT, busy_poll, "0", 0, 10000, "microseconds for which a thread looks for more after a client's bytes, unless others want its core; 0 = it sleeps at once")
NODE_OPTION(INT, readers, "2", 1, 64, "threads for reads that miss the block cache")
NODE_OPTION(SIZE, block_cache, "256MB", 1048576, 1099511627776, "memory for cached blocks of all instances")
NODE_OPTION(SWITCH, pin_index, "no", 0, 0, "yes: indexes and filters of all files stay in memory, some 3 bytes a key, also beyond `block_cache`: present keys are found faster")
NODE_OPTION(INT, clients_max, "10000", 1, 1000000, "client connections; more are refused with an error")
NODE_OPTION(INT, pipeline_max, "4096", 1, 1000000, "commands of one connection under way; then its reading pauses")
NODE_OPTION(SIZE, request_bytes, "36MB", 65536, 1073741824, "one request in memory")
NODE_OPTION(SIZE, reply_bytes, "64MB", 65536, 1073741824, "one reply; a longer one is answered with an error")
NODE_OPTION(SIZE, output_bytes, "128MB", 65536, 4294967296, "replies waiting in one connection; a client that does not read them is paused")
NODE_OPTION(INT, keys_max, "100000", 1, 100000000, "keys that one KEYS answer may hold")
NODE_OPTION(INT, cursors_max, "1024", 1, 1000000, "open SCAN cursors; the oldest is forgotten first")
NODE_OPTION(MS, idle, "0", 0, 86400000, "client connections silent for longer are closed; 0 = never")
NODE_OPTION(INT, peers_max, "1024", 1, 100000, "connections from other nodes")
NODE_OPTION(INT, repair_max, "4", 0, 1000, "nodes that may build their store from this one at once, all instances together")
NODE_OPTION(MS, heartbeat, "500ms", 10, 60000, "interval of heartbeats on peer links")
NODE_OPTION(MS, silence, "2s", 50, 600000, "a peer silent for longer is left; a child after three times this")
NODE_OPTION(MS, reconnect, "1s", 10, 600000, "longest pause before a lost peer is tried again")
NODE_OPTION(MS, ready_age, "30s", 100, 86400000, "age of data up to which /readyz says yes")
NODE_OPTION(MS, alarm_age, "10s", 0, 86400000, "age of data above which a node warns: log, /healthz, metric, tree; over when it is half as old; 0 = never")
NODE_OPTION(LEVEL, log_level, "info", 0, 0, "lowest level that is logged")

INSTANCE_OPTION(INT, number, "0", 0, 1023, "what SELECT n means; fixed for the life of the instance")
INSTANCE_OPTION(CLIENTS, client, "", 0, 0, "RESP addresses whose clients are in this instance from the start")
INSTANCE_OPTION(ROLE, role, "REQUIRED", 0, 0, "root takes writes, replica holds everything, proxy holds all keys and the values it needs")
INSTANCE_OPTION(TEXTS, roots, "", 0, 0, "for a root: the nodes that may lead, itself among them, each name@host:port of its peer address, at most 7; unset: this one alone")
INSTANCE_OPTION(INT, in_sync_min, "0", 0, 7, "roots that must have a write before it is acknowledged, at least; 0 = more than half of `roots`, of two one")
INSTANCE_OPTION(INT, promote_min, "0", 0, 7, "roots that must promise to follow before one leads; 0 = so many that one of them has every acknowledged write")
INSTANCE_OPTION(MS, commit_wait, "10s", 10, 3600000, "a write that is not committed, or was sent on and is not answered, for longer is answered with an error: outcome unknown")
INSTANCE_OPTION(MS, standby_lag, "2s", 50, 3600000, "a root that has not acknowledged a write for longer is waited for no more: it is taken out of those that have every write")
INSTANCE_OPTION(MS, promote_wait, "5s", 50, 600000, "how long a root that hands over waits for the other one, and takes no writes")
INSTANCE_OPTION(SWITCH, forward_writes, "no", 0, 0, "yes: writes of this node's own clients are sent up the tree to the root that leads; no: only that one takes any")
INSTANCE_OPTION(INT, forward_max, "1024", 0, 65536, "writes of clients and of nodes below on their way through this node, not answered yet; more are answered with an error")
INSTANCE_OPTION(SIZE, forward_bytes, "64MB", 65536, 4294967296, "... and their bytes, answers included")
INSTANCE_OPTION(ADDRESSES, parents, "", 0, 0, "peer addresses where the log comes from, tried in order; not for a root; unset: found through Consul")
INSTANCE_OPTION(ADDRESSES, replicas, "", 0, 0, "peer addresses where a proxy fetches missing values; only for a proxy; unset: found through Consul")
INSTANCE_OPTION(INT, children_max, "32", 0, 100000, "nodes that follow this one; more are sent on to its children, so that the tree gets deep; 0 = no limit")
INSTANCE_OPTION(INT, census_max, "10000", 0, 1000000, "nodes below this one that it keeps track of, for `qs tree`; more are passed over, and the picture says so")
INSTANCE_OPTION(MS, probe, "10s", 0, 86400000, "interval at which other parents are asked how near and how new they are; a better one must be so for this long; 0 = never")
INSTANCE_OPTION(SIZE, value_bytes, "16MB", 1, 16777216, "largest value that a root accepts")
INSTANCE_OPTION(INT, batch_entries, "10000", 1, 10000, "largest number of entries in one batch")
INSTANCE_OPTION(SIZE, batch_bytes, "32MB", 65536, 33554432, "largest batch, keys and values together")
INSTANCE_OPTION(SIZE, block_bytes, "1MB", 4096, 1048576, "raw size at which the root closes a block")
INSTANCE_OPTION(INT, block_entries, "1000", 1, 1000000, "entries at which the root closes a block: the next is sequenced while this one is applied")
INSTANCE_OPTION(MS, sync, "2ms", 0, 1000, "a follower's unsynced blocks are synced after this time or 1 MiB")
INSTANCE_OPTION(SIZE, segment_bytes, "64MB", 65536, 4294967296, "size at which a journal segment is closed")
INSTANCE_OPTION(SIZE, journal_bytes, "4GB", 1048576, 1125899906842624, "journal kept for children that were away")
INSTANCE_OPTION(MS, journal_age, "7d", 1000, 31536000000, "segments whose newest block is older than this are not kept")
INSTANCE_OPTION(SIZE, replay_bytes, "256MB", 1048576, 1099511627776, "journal that a restart may have to replay; beyond it the store is flushed")
INSTANCE_OPTION(SIZE, memtable, "32MB", 1048576, 4294967296, "RocksDB write buffer of each column family")
INSTANCE_OPTION(SIZE, apply_queue, "32MB", 1048576, 4294967296, "blocks in memory between journal and store; then the source is paused")
INSTANCE_OPTION(SIZE, apply_chunk, "8MB", 65536, 1073741824, "history rows written ahead in one store write")
INSTANCE_OPTION(SIZE, submit_queue, "64MB", 1048576, 4294967296, "writes waiting at a root; more are answered with an error")
INSTANCE_OPTION(INT, snapshots_max, "2", 0, 1000, "nodes that may build their store from this one at once, of another site one; more are told to wait, or whom to ask instead")
INSTANCE_OPTION(SIZE, snapshot_rate, "64MB", 65536, 1125899906842624, "bytes a second that all of them get together")
INSTANCE_OPTION(MS, snapshot_wait, "1h", 0, 31536000000, "a node that needs a snapshot waits no longer for another of its site to give it; then it insists on one from anywhere")
INSTANCE_OPTION(MS, history, "2h", 0, 31536000000, "a replica answers as of any index that was its newest less than this ago")
INSTANCE_OPTION(SIZE, history_bytes, "4GB", 65536, 1125899906842624, "... as long as what was replaced takes no more than this on disk; then less")
INSTANCE_OPTION(MS, window, "2m", 0, 86400000, "a proxy keeps every value younger than this")
INSTANCE_OPTION(SIZE, window_bytes, "256MB", 0, 1099511627776, "... as long as they sum to no more than this")
INSTANCE_OPTION(SIZE, keep_bytes, "16MB", 0, 16777216, "a proxy keeps arriving values up to this size; larger ones are fetched when first asked for")
INSTANCE_OPTION(MS, fetch, "2s", 1, 60000, "time in which a missing value must have come")
INSTANCE_OPTION(SPACE, reserve, "1%", 0, 1125899906842624, "free disk below which replication pauses: nothing is applied, reads go on")
INSTANCE_OPTION(SIZE, recency_bytes, "16MB", 65536, 68719476736, "memory in which a proxy remembers which keys were read lately")
INSTANCE_OPTION(INT, fetch_max, "4096", 1, 1000000, "values being fetched at once; more are answered with an error")
INSTANCE_OPTION(SIZE, fetch_rate, "256MB", 0, 1099511627776, "bytes of values that may be asked of replicas in a second, so that a cold proxy does not crush them; 0 = no limit")
INSTANCE_OPTION(SIZE, fetch_burst, "64MB", 1024, 1099511627776, "... and this much at once after a rest")
INSTANCE_OPTION(INT, fetch_requests, "64", 1, 100000, "requests to all replicas under way; then misses wait their turn, as for all limits that follow")
INSTANCE_OPTION(SIZE, fetch_bytes, "128MB", 65536, 1099511627776, "bytes of values asked of all replicas and not here yet")
INSTANCE_OPTION(INT, replica_requests, "8", 1, 10000, "requests to one replica under way")
INSTANCE_OPTION(SIZE, replica_bytes, "32MB", 65536, 1099511627776, "bytes of values asked of one replica and not here yet")
INSTANCE_OPTION(MS, hedge, "5ms", 0, 60000, "a second replica is asked too when the first takes three times as long as usual, and at least this long; 0 = never")
INSTANCE_OPTION(MS, quarantine, "10s", 10, 3600000, "longest time for which a replica that fails again and again is left alone")
INSTANCE_OPTION(INT, filter_bits, "16", 0, 64, "bits a key in the front filter, which answers for absent keys; 0 = no filter")
INSTANCE_OPTION(SIZE, filter_bytes, "1GB", 65536, 68719476736, "memory for the front filter; beyond it there are fewer bits a key")
INSTANCE_OPTION(SIZE, hot_bytes, "64MB", 0, 68719476736, "memory for keys that are read often, with their values: they are answered without the store; 0 = none")
INSTANCE_OPTION(SIZE, hot_entry, "512B", 64, 4096, "... for each: key, value and 32 bytes, rounded up to 64; a longer pair has no place there")
INSTANCE_OPTION(SWITCH, share_memory, "no", 0, 0, "yes: programs on this machine that use libqs and a unix socket may map the front filter and hot keys, and look there first")
INSTANCE_OPTION(MS, walk_every, "24h", 0, 31536000000, "interval of walks that check the whole store; 0 = only on demand and for the filter")
INSTANCE_OPTION(SIZE, walk_rate, "64MB", 0, 1099511627776, "bytes a second that a walk reads; 0 = as fast as it can")

CACHE_OPTION(SPACE, soft_limit, "10%", 0, 1125899906842624, "free disk below which values that were not read lately are dropped")
CACHE_OPTION(SPACE, hard_limit, "5%", 0, 1125899906842624, "free disk below which no fetched value is kept and the window shrinks, too")
CACHE_OPTION(SIZE, max_bytes, "", 67108864, 1125899906842624, "everything in the instance's directory; the soft limit is nine tenths, and journal, buffers, window are sized by it")

CONSUL_OPTION(TEXT, http, "127.0.0.1:8500", 0, 0, "HTTP API of the agent: host:port, unix:/path, or https://host:port")
CONSUL_OPTION(ADDRESS, dns, "127.0.0.1:8600", 0, 0, "DNS of the agent, asked over TCP")
CONSUL_OPTION(TEXT, domain, "consul", 0, 0, "domain that it answers for")
CONSUL_OPTION(TEXT, token_file, "", 0, 0, "file that holds the ACL token, read again when it changes; unset: none is sent")
CONSUL_OPTION(TEXT, ca_file, "", 0, 0, "certificates that the agent's must lead to, with https; unset: the system's")
CONSUL_OPTION(TEXT, cert_file, "", 0, 0, "certificate of this client, with https")
CONSUL_OPTION(TEXT, key_file, "", 0, 0, "... and its key")
CONSUL_OPTION(TEXT, datacenter, "", 0, 0, "name of this node's data centre; unset: the agent's own")
CONSUL_OPTION(TEXT, service_prefix, "qs-", 0, 0, "the service of an instance is this and the instance's name, [a-z0-9-]{1,20}")
CONSUL_OPTION(MS, ttl, "15s", 1000, 3600000, "a node that is silent for longer counts as critical at Consul; it speaks three times as often")

#undef NODE_OPTION
#undef INSTANCE_OPTION
#undef CACHE_OPTION
#undef CONSUL_OPTION
#undef OPTION_ENUM
