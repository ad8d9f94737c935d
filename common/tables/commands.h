// SPDX-License-Identifier: Apache-2.0
// Every command of the RESP door, one row each. Derived: dispatch, arity checks, COMMAND,
// docs/commands.md, the fuzz dictionary. A row without its handler does not link.
//
// COMMAND(word, handler, arity, flags, arguments, summary)
//   word       as a client writes it, upper case
//   handler    command_<handler>
//   arity      as in Redis: number of words with the command itself; -n = at least n
//   flags      READ    needs an instance; answered from a view; may suspend
//              WRITE   needs an instance that leads, or forward_writes; goes through the sequencer
//              LOCAL   answered at once from the connection or the daemon; no instance needed
//              INSTANCE  answered at once, needs an instance
//              NOMULTI not allowed between MULTI and EXEC
//              IMMEDIATE runs between MULTI and EXEC instead of being queued
//              LOADING allowed while the instance loads
#ifndef COMMAND
#error "define COMMAND before including this table"
#endif

COMMAND("PING", ping, -1, LOCAL, "[message]", "answers PONG or the message")
COMMAND("ECHO", echo, 2, LOCAL, "message", "answers the message")
COMMAND("HELLO", hello, -1, LOCAL | NOMULTI, "[protover [AUTH user password] [SETNAME name]]", "chooses RESP2 or RESP3")
COMMAND("AUTH", auth, -2, LOCAL | NOMULTI, "[user] password", "no password is set: an error, as in Redis")
COMMAND("SELECT", select, 2, LOCAL | NOMULTI, "number|name", "chooses the instance")
COMMAND("CLIENT", client, -2, LOCAL, "subcommand ...", "ID, INFO, LIST, GETNAME, SETNAME, SETINFO, NO-EVICT, REPLY ON")
COMMAND("COMMAND", command, -1, LOCAL, "[COUNT|DOCS|LIST|INFO ...]", "describes the commands")
COMMAND("CONFIG", config, -2, LOCAL, "GET pattern ...", "shows the configuration")
COMMAND("INFO", info, -1, LOCAL, "[section ...]", "shows the state of daemon and instances")
COMMAND("QUIT", quit, -1, LOCAL | IMMEDIATE, "", "answers OK and closes")
COMMAND("RESET", reset, 1, LOCAL | IMMEDIATE, "", "returns the connection to its first state")

COMMAND("GET", get, 2, READ, "key", "the value, or nil")
COMMAND("MGET", mget, -2, READ, "key ...", "the values, nil for absent ones, all at one view")
COMMAND("EXISTS", exists, -2, READ, "key ...", "how many of the keys exist")
COMMAND("STRLEN", strlen, 2, READ, "key", "length of the value, 0 when absent")
COMMAND("TYPE", type, 2, READ, "key", "string or none")
COMMAND("TTL", ttl, 2, READ, "key", "-1 when the key exists, -2 when not: nothing expires")
COMMAND("PTTL", ttl, 2, READ, "key", "as TTL")
COMMAND("DBSIZE", dbsize, 1, INSTANCE, "", "number of keys")
COMMAND("SCAN", scan, -2, READ, "cursor [MATCH glob] [COUNT n] [TYPE t]", "a page of keys, each page at one view")
COMMAND("KEYS", keys, 2, READ, "glob", "matching keys, at most keys_max")

COMMAND("SET", set, -3, WRITE, "key value [NX|XX] [GET]", "writes a value")
COMMAND("MSET", mset, -3, WRITE, "key value ...", "writes several values atomically")
COMMAND("DEL", del, -2, WRITE, "key ...", "deletes keys atomically, answers how many existed")
COMMAND("UNLINK", del, -2, WRITE, "key ...", "as DEL")

COMMAND("MULTI", multi, 1, LOCAL | NOMULTI | IMMEDIATE, "", "starts a transaction")
COMMAND("EXEC", exec, 1, LOCAL | IMMEDIATE, "", "runs it as one atomic batch")
COMMAND("DISCARD", discard, 1, LOCAL | IMMEDIATE, "", "drops it")
COMMAND("WATCH", watch, -2, READ | NOMULTI, "key ...", "EXEC fails if one of the keys has another version by then")
COMMAND("UNWATCH", unwatch, 1, LOCAL, "", "forgets the watched keys")
COMMAND("WAIT", wait, 3, INSTANCE | NOMULTI, "n ms", "waits until n direct children have synced this connection's last write")

COMMAND("QS.PUT", qs_put, 3, WRITE, "key value", "writes a value, answers its index")
COMMAND("QS.DELETE", qs_delete, -2, WRITE, "key ...", "deletes keys, answers the index")
COMMAND("QS.CAS", qs_cas, 4, WRITE, "key version value", "writes a value if the key has this version (0: is absent), answers the index, or -CONFLICT and the version")
COMMAND("QS.GET", qs_get, -2, READ, "key [MININDEX index|token ms]", "value, version, index; absent: nil, 0, index")
COMMAND("QS.MGET", qs_mget, -2, READ, "key ... [MININDEX index|token ms]", "for each key: value, version, index")
COMMAND("QS.GETAT", qs_getat, 3, READ, "key index|token", "as QS.GET, as of that index")
COMMAND("QS.RANGE", qs_range, -3, READ, "start end [LIMIT n] [AT index|token]", "keys and values of [start, end) in order")
COMMAND("QS.INDEX", qs_index, -1, INSTANCE, "[TOKEN]", "the visible index, or history:index")
COMMAND("QS.WAITINDEX", qs_waitindex, 3, INSTANCE | NOMULTI, "index|token ms", "waits until the index is visible here")
COMMAND("QS.DIGEST", qs_digest, -1, INSTANCE, "[SCAN]", "visible index and running digest; SCAN: recomputed from the whole store, each row checked")
COMMAND("QS.WATCH", qs_watch, -2, INSTANCE | NOMULTI, "prefix [FROM index|token]", "streams every change of keys with the prefix, FROM that index on, until QUIT or RESET")
COMMAND("QS.PROMOTE", qs_promote, -1, INSTANCE | LOADING | NOMULTI, "[ACCEPT-LOSS instance]", "of several roots: this one shall lead; ACCEPT-LOSS: in a new history; see QS.TREE")
COMMAND("QS.MAP", qs_map, 1, INSTANCE | NOMULTI, "", "for libqs: memory that is shared with programs of this machine; how many descriptors come with the answer")
COMMAND("QS.TREE", qs_tree, -1, INSTANCE | LOADING, "[ALL]", "this node's place in the tree: parent, path, children; ALL: and every node of it, as the root knows them")

#undef COMMAND
