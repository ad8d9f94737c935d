// SPDX-License-Identifier: Apache-2.0
// Messages between peers, one row each with its fields. Derived: structs, encoder, decoder (types
// and presence checked), the fuzz dictionary, docs/protocol.md. Numbers are written, never
// counted; a retired one stays listed as RETIRED.
//
// MESSAGE(name, code)                  struct message_<name>
// FIELD(message, key, type, field)     key 1..127; type U64, BYTES (borrowed), TEXT (bytes, shown)
//
// On the wire: a frame (common/wire/frame.h) whose payload is one msgpack map {key: value}.
// Unknown keys are skipped, missing ones refused but in a hello, a welcome and a heartbeat (there
// those that came after the first version). Whoever adds a message or a field that others need, or
// changes what one means, raises PEER_PROTOCOL.
#ifndef MESSAGE
#define MESSAGE(name, code)
#endif
#ifndef FIELD
#define FIELD(message, key, type, field)
#endif
#ifndef RETIRED
#define RETIRED(code)
#endif

// First on every connection, from the side that connected. `purpose`: enum hello_purpose. Hello and
// welcome can be read whatever the other side's version, so that it is refused in words: of theirs
// the fields behind the twelfth, which the first version lacked, may be missing, and are 0 or empty.
MESSAGE(hello, 1)
FIELD(hello, 1, U64, protocol)
FIELD(hello, 2, TEXT, cluster)
FIELD(hello, 3, TEXT, instance)
FIELD(hello, 4, TEXT, node)
FIELD(hello, 5, U64, role)
FIELD(hello, 6, U64, purpose)
FIELD(hello, 7, BYTES, history) // 16 bytes; empty: an empty data directory
FIELD(hello, 8, U64, index)     // end of the journal
FIELD(hello, 9, U64, block)     // number of the last block
FIELD(hello, 10, BYTES, chain)  // chain after it
FIELD(hello, 11, U64, digest_algorithm)
FIELD(hello, 12, BYTES, authentication) // empty: none
FIELD(hello, 13, TEXT, address) // host:port where others may follow this node; empty: nowhere
FIELD(hello, 14, TEXT, site)    // name of its data centre; empty: not known
FIELD(hello, 15, U64, insists)  // enum hello_insists

// The answer. `answer`: enum hello_answer; `reason`: words, for refused.
MESSAGE(welcome, 2)
FIELD(welcome, 1, U64, protocol)
FIELD(welcome, 2, U64, answer)
FIELD(welcome, 3, TEXT, reason)
FIELD(welcome, 4, TEXT, node)
FIELD(welcome, 5, U64, role)
FIELD(welcome, 6, BYTES, history)
FIELD(welcome, 7, U64, index) // end of the answering side's readable journal
FIELD(welcome, 8, U64, block)
FIELD(welcome, 9, BYTES, chain)
FIELD(welcome, 10, U64, diverged_at) // index, for diverged
FIELD(welcome, 11, U64, oldest)      // first index still in its journal
FIELD(welcome, 12, BYTES, birth)     // the history's birth block, where known: header and payload
FIELD(welcome, 13, BYTES, path)      // as a heartbeat's, to the answering node; empty: not known
FIELD(welcome, 14, U64, age_ns)      // of its data; 2^64 - 1: not known
FIELD(welcome, 15, U64, children)    // that it feeds
FIELD(welcome, 16, U64, children_max) // ... and may feed, 0 = no limit
FIELD(welcome, 17, TEXT, site)       // as in hello
// Whom to ask instead, for full and wait: up to 8 of its children, each address, node, site (as in
// hello), with a zero byte behind each of the three.
FIELD(welcome, 18, BYTES, elsewhere)
FIELD(welcome, 19, U64, orphan)    // 1: it gets its log from nobody at this moment
// From the root to the answering node: half the round trips of all hops; 0: not known. A root: 1.
FIELD(welcome, 20, U64, way_ns)

// Parent to child: `bytes` raw journal bytes follow this frame directly.
MESSAGE(blocks, 3)
FIELD(blocks, 1, U64, bytes)

// Parent to child, at intervals and when news arrive. Delays in nanoseconds.
MESSAGE(heartbeat, 4)
FIELD(heartbeat, 1, BYTES, history)
FIELD(heartbeat, 2, U64, epoch)
FIELD(heartbeat, 3, U64, commit_index)
FIELD(heartbeat, 4, U64, block)
FIELD(heartbeat, 5, BYTES, chain)
FIELD(heartbeat, 6, BYTES, digest)
FIELD(heartbeat, 7, U64, root_ms)
FIELD(heartbeat, 8, U64, delay_ns) // sum over the hops so far
FIELD(heartbeat, 9, BYTES, path)   // node names from the root to the sender, separated by a zero byte
FIELD(heartbeat, 10, U64, sequence) // of the root's heartbeats, so that the newest wins
FIELD(heartbeat, 11, U64, held_ns) // of the delays: how long the sender had it
FIELD(heartbeat, 12, U64, way_ns)  // as in welcome, to the sender; may be missing

// Child to parent: how far it is. Indexes are ends of blocks.
MESSAGE(progress, 5)
FIELD(progress, 1, U64, received)
FIELD(progress, 2, U64, synced)
FIELD(progress, 3, U64, visible)
FIELD(progress, 4, U64, age_ns)
FIELD(progress, 5, U64, room) // so many more it would feed; 2^64 - 1: no limit

// Parent to child, with heartbeats, when it feeds more than it may: the child is to go to one of
// these, which have room (as in welcome, `elsewhere`), and is fed until it does.
MESSAGE(make_room, 14)
FIELD(make_room, 1, BYTES, elsewhere)

// Either way: round-trip time.
MESSAGE(ping, 6)
FIELD(ping, 1, U64, sent_ns)
MESSAGE(pong, 7)
FIELD(pong, 1, U64, sent_ns)

// Child to parent: a block that failed a check; and the repair of a damaged range. The parent
// answers `refetch` with one `patch` for each block first..last, or with a `bad_block` that names
// the first one it cannot give.
MESSAGE(bad_block, 8)
FIELD(bad_block, 1, U64, block)
FIELD(bad_block, 2, U64, error)
MESSAGE(refetch, 9)
FIELD(refetch, 1, U64, first)
FIELD(refetch, 2, U64, last)

// Proxy to replica: `items` = msgpack array of [key, version]; answered in any order.
MESSAGE(fetch, 10)
FIELD(fetch, 1, U64, id)
FIELD(fetch, 2, BYTES, items)
// `items` = msgpack array, one for each asked: [enum fetch_status, value or nil].
MESSAGE(fetched, 11)
FIELD(fetched, 1, U64, id)
FIELD(fetched, 2, U64, visible)
FIELD(fetched, 3, U64, floor)
FIELD(fetched, 4, BYTES, items)

// Either way, last words before closing: enum error and words.
MESSAGE(goodbye, 12)
FIELD(goodbye, 1, U64, error) // positive number of the row
FIELD(goodbye, 2, TEXT, reason)

// Parent to child: the `bytes` raw bytes of one whole block, asked for by `refetch`, follow this
// frame directly. They are no part of the stream of `blocks`, which may stand inside a block.
MESSAGE(patch, 13)
FIELD(patch, 1, U64, block)
FIELD(patch, 2, U64, bytes)

// Proxy to replica: what keys were at index `at`; `items` = keys (common/wire/past_items.h).
MESSAGE(look, 24)
FIELD(look, 1, U64, id)
FIELD(look, 2, U64, at)
FIELD(look, 3, BYTES, items)
// `items` = rows, for the first keys of those asked, at least one; the others are asked again.
// `status`: enum fetch_status; unless EXACT there are none.
MESSAGE(looked, 25)
FIELD(looked, 1, U64, id)
FIELD(looked, 2, U64, status)
FIELD(looked, 3, U64, visible)
FIELD(looked, 4, U64, floor)
FIELD(looked, 5, BYTES, items)
// Proxy to replica: all keys of [start, end) at index `at`, at most `limit`; an empty end = none.
MESSAGE(past, 26)
FIELD(past, 1, U64, id)
FIELD(past, 2, U64, at)
FIELD(past, 3, BYTES, start)
FIELD(past, 4, BYTES, end)
FIELD(past, 5, U64, limit)
// `items` = rows in order; `next` = where to go on, empty = that was all.
MESSAGE(pasted, 27)
FIELD(pasted, 1, U64, id)
FIELD(pasted, 2, U64, status)
FIELD(pasted, 3, U64, visible)
FIELD(pasted, 4, U64, floor)
FIELD(pasted, 5, BYTES, items)
FIELD(pasted, 6, BYTES, next)
// A snapshot: a stream of records in key order, in slices, each asked for by the key to go on from
// and read at the newest view of the node that is asked. So a request fits any node that has come
// far enough, and holds nothing open between two of them.
MESSAGE(slice, 30)
FIELD(slice, 1, U64, id)
FIELD(slice, 2, BYTES, from)        // keys after this one; empty: from the first
FIELD(slice, 3, U64, bytes)         // about so much, at least one record
FIELD(slice, 4, U64, values_above)  // values of newer versions are wanted, of others not
FIELD(slice, 5, U64, least)         // number of the block that the view must hold
// `items`: records one after another, each a msgpack array [key, version, length, check, value or
// nil]; a value that is held there and wanted comes along.
MESSAGE(slice_items, 31)
FIELD(slice_items, 1, U64, id)
FIELD(slice_items, 2, BYTES, header) // of the view's block
FIELD(slice_items, 3, BYTES, digest) // of the view
FIELD(slice_items, 4, U64, keys)     // likewise
FIELD(slice_items, 5, U64, last)     // 1: there is nothing behind these
FIELD(slice_items, 6, BYTES, check)  // XXH3-128 of the items
FIELD(slice_items, 7, BYTES, items)


// Child to parent, at most once a second: what nodes at and below it have said of themselves and
// the parent was not told yet (common/wire/census_items.h).
MESSAGE(tree_report, 40)
FIELD(tree_report, 1, BYTES, items)
// Child to parent: the whole tree is wanted, page by page; page 0 begins a new picture. The answer
// is wanted within `patience_ns`.
MESSAGE(tree_ask, 41)
FIELD(tree_ask, 1, U64, id)
FIELD(tree_ask, 2, U64, page)
FIELD(tree_ask, 3, U64, patience_ns)
// The answer: items in the order of their names. `reason`: empty = this is the root's picture; else
// why it is not, and it shows what the answering node or one above it knows.
MESSAGE(tree_page, 42)
FIELD(tree_page, 1, U64, id)
FIELD(tree_page, 2, BYTES, items)
FIELD(tree_page, 3, U64, last) // 1: there is nothing behind these
FIELD(tree_page, 4, TEXT, reason)
FIELD(tree_page, 5, U64, age_ns) // of the picture: to be added to what the items say
// Between roots of one instance, each on the links of PURPOSE_TALK that it has made itself
// (docs/commit.md). `history`: of the sender's journal, empty while it has none. A root is named by
// the hello, and leads or claims to in its own name.
MESSAGE(claim, 43)
FIELD(claim, 1, BYTES, history)
FIELD(claim, 2, U64, epoch)
FIELD(claim, 3, BYTES, ancestor) // the history that this one forked from; empty: none
// The answer to a claim: the sender's own promise, and where its synced journal ends.
MESSAGE(promise, 44)
FIELD(promise, 1, BYTES, history)
FIELD(promise, 2, U64, granted) // 1: the claim is what was promised
FIELD(promise, 3, U64, epoch)
FIELD(promise, 4, TEXT, leader) // empty: nobody
FIELD(promise, 5, U64, generation)
FIELD(promise, 6, U64, blank)   // 1: its disk was empty, and no leader has added it yet
FIELD(promise, 7, U64, end_epoch)
FIELD(promise, 8, U64, end_block)
FIELD(promise, 9, U64, end_index)
FIELD(promise, 10, BYTES, end_chain)
// From the one that leads, with each heartbeat.
MESSAGE(word, 45)
FIELD(word, 1, BYTES, history)
FIELD(word, 2, U64, epoch)
FIELD(word, 3, U64, block)      // committed up to here
FIELD(word, 4, U64, generation) // of the record
FIELD(word, 5, U64, member)     // 1: the receiver is one that the record names
FIELD(word, 6, BYTES, ancestor) // as in a claim
// To the one that leads: hand over to me. And the answer: try, my epoch ends.
MESSAGE(ask, 46)
FIELD(ask, 1, U64, epoch)
MESSAGE(go, 47)
FIELD(go, 1, U64, epoch)

// Between roots of one instance, on a link of PURPOSE_STAND beside what a parent and a child say.
// From the one whose log is taken, first of all, then when that changes and with heartbeats: the
// epoch that it leads, or has promised, and what it knows to be committed.
MESSAGE(lead, 48)
FIELD(lead, 1, U64, epoch)
FIELD(lead, 2, U64, generation) // of the record, as far as it knows
FIELD(lead, 3, U64, block)      // committed up to here
FIELD(lead, 4, U64, index)      // ... and at its end
// The answer: all blocks up to this one are that log's, and synced.
MESSAGE(acknowledge, 49)
FIELD(acknowledge, 1, U64, epoch)
FIELD(acknowledge, 2, U64, block)
FIELD(acknowledge, 3, BYTES, chain)
// Child to parent: a write of a client of the child, or of a node below, on its way to the root that
// leads. The parent sends it on to its own; whoever leads carries it out. The answer is of use for
// `patience_ns` still.
MESSAGE(forward, 50)
FIELD(forward, 1, U64, id)
FIELD(forward, 2, BYTES, path) // names of the nodes it came through, each with a zero byte behind it
FIELD(forward, 3, U64, patience_ns)
FIELD(forward, 4, BYTES, items) // the transaction (common/wire/write_items.h)
FIELD(forward, 5, BYTES, history) // that its client has seen: versions mean something there alone
// The answer, by the same way. `error`: 0, or the positive number of a row; then nothing of it was
// done, unless that is "outcome unknown".
MESSAGE(forwarded, 51)
FIELD(forwarded, 1, U64, id)
FIELD(forwarded, 2, U64, error)
FIELD(forwarded, 3, BYTES, history) // without an error: whose `index` is at least that of the write
FIELD(forwarded, 4, U64, index)
FIELD(forwarded, 5, BYTES, reply)   // RESP, as the client is to get it

#undef MESSAGE
#undef FIELD
#undef RETIRED
