// SPDX-License-Identifier: Apache-2.0
// Requests for /api/tree: each waits for a picture of every instance's tree, and meanwhile keeps
// neither the HTTP thread nor any other waiting: its connection is suspended.
#ifndef QS_QS_HTTP_TREE_H
#define QS_QS_HTTP_TREE_H

#include <microhttpd.h>

#include "qs/daemon.h"

struct http_trees; // all of a daemon
struct http_tree;  // one request

struct http_trees *http_trees_open(struct daemon *daemon) MUST_CHECK;
// Ends all waiting: before the server is stopped, while the loops run.
void http_trees_end(struct http_trees *trees);
void http_trees_close(struct http_trees *trees); // after the server has stopped

// Suspends the connection until the pictures are there; then its handler is called again. HTTP
// thread.
struct http_tree *http_tree_start(struct http_trees *trees,
                                  struct MHD_Connection *connection) MUST_CHECK;
void http_tree_show(const struct http_tree *tree, struct buf *to);
void http_tree_free(struct http_tree *tree); // NULL is allowed

#endif
