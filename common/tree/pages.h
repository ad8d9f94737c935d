// SPDX-License-Identifier: Apache-2.0
// How a child is given a picture of the tree: page by page, each asked for, so that one page waits
// for a child that reads slowly, and no more. One question at a time; a later one takes its place.
// On the link's loop.
#ifndef QS_COMMON_TREE_PAGES_H
#define QS_COMMON_TREE_PAGES_H

#include "common/tree/link.h"
#include "common/tree/picture.h"

#define PAGE_BYTES (32 * KIB)

struct pages {
    struct instance *instance;
    struct picture_waiter waiter;
    bool waits;              // for a picture: `waiter` is in use
    struct picture *picture; // that is being given; NULL: none
    size_t offset;           // of the next page in it
    uint64_t id, page;       // as asked
    bool owed;               // the page was not sent yet
    void (*turn)(struct pages *pages); // the owner's: it may be sent, or it is over
};

void pages_open(struct pages *pages, struct instance *instance, struct loop *loop,
                void (*turn)(struct pages *pages));
int pages_on_ask(struct pages *pages, struct bytes payload) MUST_CHECK;
// Sends the page that is owed, if the link takes it now.
void pages_send(struct pages *pages, struct link *link);
// True: it is over. False: `turn` will be called once more, and until then the memory must stay.
bool pages_close(struct pages *pages);

#endif
