// SPDX-License-Identifier: Apache-2.0
#include "qs/http_tree.h"

#include "common/base/mem.h"
#include "qs/status.h"

struct wait {
    struct http_tree *tree;
    struct picture_waiter waiter;
};

struct http_tree {
    struct list node; // among those that wait
    struct http_trees *trees;
    struct MHD_Connection *connection;
    unsigned left; // waits that are not over
    struct wait waits[]; // one an instance
};

struct http_trees {
    struct daemon *daemon;
    pthread_mutex_t lock; // guards all below, and `left` of each request
    pthread_cond_t over;
    struct list waiting;
    bool ending;
};

struct http_trees *http_trees_open(struct daemon *daemon)
{
    struct http_trees *trees = mem_zalloc(sizeof *trees);
    trees->daemon = daemon;
    pthread_mutex_init(&trees->lock, NULL);
    pthread_cond_init(&trees->over, NULL);
    list_init(&trees->waiting);
    return trees;
}

void http_trees_close(struct http_trees *trees)
{
    CHECK(list_empty(&trees->waiting));
    pthread_cond_destroy(&trees->over);
    pthread_mutex_destroy(&trees->lock);
    mem_free(trees);
}

// Under lock.
static void one_less(struct http_tree *tree)
{
    struct http_trees *trees = tree->trees;
    if (--tree->left == 0) {
        list_remove(&tree->node);
        MHD_resume_connection(tree->connection);
        pthread_cond_signal(&trees->over);
    }
}

static void on_picture(struct task *task)
{
    struct wait *wait = CONTAINER_OF(task, struct wait, waiter.task);
    struct http_trees *trees = wait->tree->trees;
    pthread_mutex_lock(&trees->lock);
    one_less(wait->tree);
    pthread_mutex_unlock(&trees->lock);
}

struct http_tree *http_tree_start(struct http_trees *trees, struct MHD_Connection *connection)
{
    struct daemon *daemon = trees->daemon;
    unsigned count = daemon->instance_count;
    struct http_tree *tree = mem_zalloc(sizeof *tree + count * sizeof tree->waits[0]);
    tree->trees = trees;
    tree->connection = connection;
    tree->left = count;
    MHD_suspend_connection(connection);
    pthread_mutex_lock(&trees->lock);
    list_append(&trees->waiting, &tree->node);
    for (unsigned i = 0; i < count; i++) {
        struct instance *instance = daemon->instances[i].instance;
        struct wait *wait = &tree->waits[i];
        wait->tree = tree;
        wait->waiter.mailbox = loop_mailbox(instance->home);
        wait->waiter.task.run = on_picture;
        list_init(&wait->waiter.node);
        if (trees->ending) {
            one_less(tree);
        } else {
            picture_want(instance->desk, &wait->waiter, PICTURE_PATIENCE_NS);
        }
    }
    pthread_mutex_unlock(&trees->lock);
    return tree;
}

void http_trees_end(struct http_trees *trees)
{
    struct daemon *daemon = trees->daemon;
    pthread_mutex_lock(&trees->lock);
    trees->ending = true;
    LIST_FOR_EACH(node, &trees->waiting) {
        struct http_tree *tree = CONTAINER_OF(node, struct http_tree, node);
        unsigned cancelled = 0;
        for (unsigned i = 0; i < daemon->instance_count; i++) {
            struct desk *desk = daemon->instances[i].instance->desk;
            cancelled += picture_cancel(desk, &tree->waits[i].waiter);
        }
        for (; cancelled > 0; cancelled--) {
            one_less(tree);
        }
    }
    while (!list_empty(&trees->waiting)) { // for those whose pictures are on their way
        pthread_cond_wait(&trees->over, &trees->lock);
    }
    pthread_mutex_unlock(&trees->lock);
}

void http_tree_show(const struct http_tree *tree, struct buf *to)
{
    struct daemon *daemon = tree->trees->daemon;
    buf_append_text(to, "[");
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        buf_append_text(to, i == 0 ? "" : ",");
        status_tree_json(&daemon->instances[i], tree->waits[i].waiter.picture, to);
    }
    buf_append_text(to, "]\n");
}

void http_tree_free(struct http_tree *tree)
{
    if (tree != NULL) {
        for (unsigned i = 0; i < tree->trees->daemon->instance_count; i++) {
            picture_release(tree->waits[i].waiter.picture);
        }
        mem_free(tree);
    }
}
