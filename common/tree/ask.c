// SPDX-License-Identifier: Apache-2.0
#include "common/tree/ask.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/tree/follow.h"

static struct desk *desk_of(const struct follow *follow) { return follow->instance->desk; }

static void end(struct ask *ask)
{
    ask->under_way = false;
    loop_timer_clear(&ask->timer);
    buf_free(&ask->items);
    ask->count = 0;
    ask->last[0] = '\0';
}

static void fail(struct follow *follow, const char *reason)
{
    end(&follow->ask);
    desk_give_own(desk_of(follow), reason);
}

static void send_ask(struct follow *follow, uint64_t patience_ns)
{
    struct ask *ask = &follow->ask;
    struct message_tree_ask message = {
        .id = ask->id, .page = ask->page, .patience_ns = patience_ns};
    message_tree_ask_encode(link_out(&follow->link), &message);
    link_wrote(&follow->link);
    loop_timer_set(follow->loop, &ask->timer, patience_ns);
}

static void on_timer(struct timer *timer)
{
    struct follow *follow = CONTAINER_OF(timer, struct follow, ask.timer);
    fail(follow, "the nodes above did not answer in time");
}

static void on_wanted(struct notice *notice)
{
    struct follow *follow = CONTAINER_OF(notice, struct follow, ask.wanted);
    struct ask *ask = &follow->ask;
    uint64_t patience_ns;
    if (follow->closing) {
        follow_end_if_over(follow);
        return;
    }
    if (ask->under_way || !desk_wants(desk_of(follow), &patience_ns)) {
        return;
    }
    if (follow->stage != FOLLOW_STREAM || !link_may_talk(&follow->link)) {
        char reason[PICTURE_REASON_MAX + 1];
        snprintf(reason, sizeof reason, "no parent is followed now: %.150s", follow->status.state);
        fail(follow, follow->stage == FOLLOW_STREAM ? "the parent reads nothing" : reason);
        return;
    }
    ask->under_way = true;
    ask->id++;
    ask->page = 0;
    send_ask(follow, patience_ns);
}

// Appends a page's items, whose names must go on rising. False: they are not as they must be.
static bool add_page(struct ask *ask, struct bytes items)
{
    struct unpacker from = unpacker_of(items);
    struct census_item item;
    while (census_item_next(&from, &item)) {
        if (bytes_compare(item.node, bytes_text(ask->last)) <= 0) {
            return false;
        }
        memcpy(ask->last, item.node.data, item.node.size);
        ask->last[item.node.size] = '\0';
        ask->count++;
    }
    buf_append_bytes(&ask->items, items);
    return unpack_end(&from) == OK && ask->items.size <= PICTURE_BYTES_MAX;
}

int ask_on_page(struct follow *follow, struct bytes payload)
{
    struct ask *ask = &follow->ask;
    struct message_tree_page page;
    int error = message_tree_page_decode(payload, &page);
    if (error != OK || page.id == 0 || page.id > ask->id) {
        return ERR_PROTOCOL;
    }
    if (!ask->under_way || page.id != ask->id) {
        return OK; // too late
    }
    if (!add_page(ask, page.items) || page.last > 1 || (page.last == 0 && page.items.size == 0)) {
        return ERR_PROTOCOL;
    }
    uint64_t now_ns = clock_mono_ns();
    if (ask->page == 0) {
        ask->taken_ns = now_ns - u64_min(page.age_ns, now_ns);
    }
    if (page.last == 1) {
        char reason[PICTURE_REASON_MAX + 1];
        link_words(reason, sizeof reason, page.reason);
        desk_give(desk_of(follow), &ask->items, ask->count, reason, ask->taken_ns);
        end(ask);
    } else if (link_may_talk(&follow->link)) {
        ask->page++;
        send_ask(follow, PICTURE_PATIENCE_NS);
    } else {
        fail(follow, "the parent reads nothing");
    }
    return OK;
}

void ask_lost(struct follow *follow)
{
    if (follow->ask.under_way) {
        fail(follow, "the link to the parent was lost");
    }
}

void ask_open(struct follow *follow)
{
    notice_init(&follow->ask.wanted, loop_mailbox(follow->loop), on_wanted);
    timer_init(&follow->ask.timer, on_timer);
    desk_hook(desk_of(follow), &follow->ask.wanted);
}

void ask_close(struct follow *follow)
{
    desk_hook(desk_of(follow), NULL);
    end(&follow->ask);
}

bool ask_over(const struct follow *follow) { return !atomic_load(&follow->ask.wanted.pending); }
