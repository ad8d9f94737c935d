// SPDX-License-Identifier: Apache-2.0
// The only root of an instance lost the end of its log (its disk was restored from a backup, say),
// and a child says that it holds more of the same history. What a child holds is committed, so the
// root takes no writes (instance->missing) until it has fetched those blocks from that child's
// journal, as a child does from its parent. A child whose log differs at this root's end is
// reported, and its claim counts no more: writes are taken again.
//
// Each time that a child comes which is ahead is an attempt; it comes again and again by itself. On
// the home loop, but for regain_ahead. Among several roots others do this (docs/commit.md, R14).
#ifndef QS_COMMON_TREE_REGAIN_H
#define QS_COMMON_TREE_REGAIN_H

#include "common/tree/link.h"
#include "common/tree/tree.h"

struct regain;

// For the only root of an instance; any other has none. Before the loops run.
void regain_open(struct instance *instance);
// Ends what is under way; `closed` is raised then. Any thread, while the home loop runs.
void regain_close(struct instance *instance, struct notice *closed);
void regain_free(struct instance *instance); // after the loops ended

// The node that says this hello, on a link from `address`, is ahead of this one. `reach`: where it
// can be followed, "" = nowhere. Any thread. Nothing happens where nothing was opened.
void regain_ahead(struct instance *instance, const struct message_hello *hello, const char *reach);

#endif
