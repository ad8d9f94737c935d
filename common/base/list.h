// SPDX-License-Identifier: Apache-2.0
// Intrusive doubly linked list with a sentinel. A node that is in no list points to itself, so
// removing it again is harmless.
#ifndef QS_COMMON_BASE_LIST_H
#define QS_COMMON_BASE_LIST_H

#include "common/base/base.h"

struct list {
    struct list *prev;
    struct list *next;
};

static inline void list_init(struct list *list) { list->prev = list->next = list; }
static inline bool list_empty(const struct list *list) { return list->next == list; }

static inline void list_append(struct list *list, struct list *node)
{
    node->prev = list->prev;
    node->next = list;
    list->prev->next = node;
    list->prev = node;
}

static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

// The first node, taken out; NULL when the list is empty.
static inline struct list *list_take(struct list *list)
{
    if (list_empty(list)) {
        return NULL;
    }
    struct list *node = list->next;
    list_remove(node);
    return node;
}

// Moves every node of `from` to the end of `to`.
static inline void list_move_all(struct list *to, struct list *from)
{
    if (list_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#define LIST_FOR_EACH(node, head)                                                                  \
    for (struct list *node = (head)->next, *node##_next = node->next; node != (head);              \
         node = node##_next, node##_next = node->next)

#endif
