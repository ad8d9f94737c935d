// SPDX-License-Identifier: Apache-2.0
#include "common/tree/pages.h"

#include "common/base/clock.h"

static void drop(struct pages *pages)
{
    picture_release(pages->picture);
    pages->picture = NULL;
    pages->owed = false;
}

static void on_picture(struct task *task)
{
    struct pages *pages = CONTAINER_OF(task, struct pages, waiter.task);
    pages->waits = false;
    pages->picture = pages->waiter.picture;
    pages->offset = 0;
    pages->owed = true;
    pages->turn(pages);
}

void pages_open(struct pages *pages, struct instance *instance, struct loop *loop,
                void (*turn)(struct pages *pages))
{
    *pages = (struct pages){.instance = instance, .turn = turn};
    list_init(&pages->waiter.node);
    pages->waiter.mailbox = loop_mailbox(loop);
    pages->waiter.task.run = on_picture;
}

int pages_on_ask(struct pages *pages, struct bytes payload)
{
    struct message_tree_ask ask;
    int error = message_tree_ask_decode(payload, &ask);
    if (error != OK) {
        return error;
    }
    if (ask.page > 0) {
        bool next = pages->picture != NULL && !pages->owed && ask.id == pages->id &&
                    ask.page == pages->page + 1;
        pages->page = ask.page;
        pages->owed = next;
        return next ? OK : ERR_PROTOCOL;
    }
    drop(pages);
    pages->id = ask.id;
    pages->page = 0;
    if (!pages->waits) {
        pages->waits = true;
        picture_want(pages->instance->desk, &pages->waiter,
                     u64_min(ask.patience_ns, PICTURE_PATIENCE_NS) / 4 * 3);
    }
    return OK;
}

// The items from `offset` on that fit into a page.
static struct bytes page_of(const struct picture *picture, size_t offset)
{
    struct bytes rest = buf_bytes(&picture->items);
    rest = bytes_of(rest.data + offset, rest.size - offset);
    struct unpacker from = unpacker_of(rest);
    size_t size = 0;
    while (size < rest.size && size + CENSUS_ITEM_MAX <= PAGE_BYTES) {
        unpack_skip(&from);
        CHECK(unpack_ok(&from));
        size = rest.size - from.rest.size;
    }
    return bytes_of(rest.data, size);
}

void pages_send(struct pages *pages, struct link *link)
{
    if (!pages->owed || !link_may_talk(link)) {
        return;
    }
    const struct picture *picture = pages->picture;
    struct bytes items = page_of(picture, pages->offset);
    pages->offset += items.size;
    bool last = pages->offset == picture->items.size;
    struct message_tree_page page = {.id = pages->id,
                                     .items = items,
                                     .last = last ? 1 : 0,
                                     .reason = bytes_text(picture->reason),
                                     .age_ns = clock_mono_ns() - picture->taken_ns};
    message_tree_page_encode(link_out(link), &page);
    link_wrote(link);
    pages->owed = false;
    if (last) {
        drop(pages);
    }
}

bool pages_close(struct pages *pages)
{
    drop(pages);
    pages->waits = pages->waits && !picture_cancel(pages->instance->desk, &pages->waiter);
    return !pages->waits;
}
