// SPDX-License-Identifier: Apache-2.0
// Every error of qs, one row each. Derived: enum error, its texts, the RESP error words.
//
// ERROR(name, number, word, text)
//   name    ERR_<name> in C; its value is -number
//   number  written, never counted: it appears on the wire between peers; retired ones stay listed
//   word    first word of a RESP error reply; the words of standard commands are Redis's own
//   text    what a person reads
#ifndef ERROR
#error "define ERROR before including this table"
#endif

ERROR(MEMORY, 1, "ERR", "out of memory")
ERROR(IO, 2, "ERR", "the disk or the network reported an error")
ERROR(DISK_FULL, 3, "ERR", "no space left on the device")
ERROR(CLOSED, 4, "ERR", "the connection was closed by the other side")
ERROR(STOPPED, 5, "ERR", "the instance has stopped taking updates, see the log")
ERROR(TIMEOUT, 6, "ERR", "timed out")
ERROR(BUSY, 7, "ERR", "a limit on work under way is reached, try again")

ERROR(NOT_FOUND, 10, "ERR", "no such key")
ERROR(INCOMPLETE, 11, "ERR", "would need to read from the disk")
ERROR(CORRUPT, 12, "CORRUPT", "a record failed its check")
ERROR(DAMAGED, 13, "ERR", "a block of the journal failed its check")
ERROR(AHEAD, 15, "ERR", "the store is ahead of the journal")
ERROR(EXISTS, 16, "ERR", "already exists")

ERROR(KEY_SIZE, 20, "ERR", "invalid key length, 1 to 1024 bytes are allowed")
ERROR(VALUE_SIZE, 21, "ERR", "value exceeds value_bytes")
ERROR(BATCH_SIZE, 22, "ERR", "batch exceeds batch_entries or batch_bytes")
ERROR(REPLY_SIZE, 23, "ERR", "reply exceeds reply_bytes")
ERROR(KEYS_LIMIT, 24, "ERR", "result exceeds keys_max, use SCAN")
ERROR(CLIENTS_LIMIT, 25, "ERR", "max number of clients reached")
ERROR(REQUEST_SIZE, 26, "ERR", "request exceeds request_bytes")
ERROR(QUEUE_LIMIT, 27, "ERR", "transaction exceeds batch_entries commands")

ERROR(PROTOCOL, 30, "ERR", "protocol error")
ERROR(CHECKSUM, 31, "ERR", "checksum mismatch")
ERROR(REFUSED, 33, "ERR", "refused by the peer")

ERROR(READONLY, 40, "READONLY", "You can't write against a read only replica.")
ERROR(LOADING, 41, "LOADING", "Redis is loading the dataset in memory")
ERROR(UNAVAILABLE, 42, "UNAVAILABLE", "the value is not held here and no replica could be asked in time")
ERROR(BEHIND, 43, "BEHIND", "the index is not reached here yet")
ERROR(GONE, 44, "GONE", "the history does not reach back that far")
ERROR(DIVERGED, 45, "DIVERGED", "this node and its source hold different histories")
ERROR(UNKNOWN_OUTCOME, 46, "UNKNOWN", "outcome unknown: the update was journaled, or sent on, but its commit could not be confirmed")
ERROR(NO_INSTANCE, 47, "NOINSTANCE", "several instances are served here, SELECT one first")
ERROR(CONFLICT, 48, "CONFLICT", "the key has another version")
ERROR(HISTORY, 49, "HISTORY", "the token belongs to another history")
ERROR(TOO_OLD, 50, "ERR", "the source no longer keeps the log from here on")
ERROR(FORKED, 51, "HISTORY", "the data here became that of another history: connect again")
ERROR(OTHER_HISTORY, 52, "HISTORY", "the write was meant for another history than the root's, or its data is being replaced: nothing was written")
ERROR(NO_LEADER, 55, "READONLY", "the root that takes writes is not reached from here now: nothing was written")
ERROR(LACKS, 56, "READONLY", "this root lacks blocks that a child holds and fetches them first, see the log: nothing was written")

ERROR(CONFIG, 60, "ERR", "the configuration is not valid")
ERROR(IDENTITY, 61, "ERR", "the data directory belongs to another node, instance, cluster or role")
ERROR(USAGE, 62, "ERR", "wrong usage")

#undef ERROR
