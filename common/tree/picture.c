// SPDX-License-Identifier: Apache-2.0
#include "common/tree/picture.h"

#include <pthread.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

// A picture is good for others who ask within this time.
#define FRESH_NS NS_PER_S

struct desk {
    struct instance *instance;
    pthread_mutex_t lock; // guards all below
    struct list waiters;
    struct picture *newest; // NULL: none yet
    struct notice *ask;     // ask.c's; NULL: there is nobody to ask
    uint64_t patience_ns;   // of who has waited longest
};

// ---- pictures ----------------------------------------------------------------------------------

struct picture *picture_hold(struct picture *picture)
{
    atomic_fetch_add(&picture->references, 1);
    return picture;
}

void picture_release(struct picture *picture)
{
    if (picture != NULL && atomic_fetch_sub(&picture->references, 1) == 1) {
        buf_free(&picture->items);
        mem_free(picture);
    }
}

static struct picture *picture_new(const char *reason, uint64_t taken_ns)
{
    struct picture *picture = mem_zalloc(sizeof *picture);
    picture->references = 1;
    picture->taken_ns = taken_ns;
    snprintf(picture->reason, sizeof picture->reason, "%s", reason);
    return picture;
}

// What this node knows by itself: at the root that is all.
static struct picture *picture_own(struct desk *desk, const char *reason)
{
    struct picture *picture = picture_new(reason, clock_mono_ns());
    picture->count = census_list(desk->instance->census, &picture->items, picture->taken_ns);
    return picture;
}

// ---- the desk, under lock ----------------------------------------------------------------------

static void deliver(struct picture_waiter *waiter, struct picture *picture)
{
    waiter->waiting = false;
    waiter->picture = picture_hold(picture);
    mailbox_post(waiter->mailbox, &waiter->task);
}

// Takes the reference over.
static void show(struct desk *desk, struct picture *picture)
{
    picture_release(desk->newest);
    desk->newest = picture;
    for (struct list *node = list_take(&desk->waiters); node != NULL;
         node = list_take(&desk->waiters)) {
        deliver(CONTAINER_OF(node, struct picture_waiter, node), picture);
    }
}

static bool is_fresh(const struct picture *picture)
{
    return picture != NULL && clock_mono_ns() - picture->taken_ns < FRESH_NS;
}

// What is known there is all there is to know.
static bool is_top(const struct instance *instance)
{
    return instance_leads(instance);
}

// ---- for anybody -------------------------------------------------------------------------------

struct desk *desk_open(struct instance *instance)
{
    struct desk *desk = mem_zalloc(sizeof *desk);
    desk->instance = instance;
    pthread_mutex_init(&desk->lock, NULL);
    list_init(&desk->waiters);
    return desk;
}

void desk_close(struct desk *desk)
{
    CHECK(list_empty(&desk->waiters));
    picture_release(desk->newest);
    pthread_mutex_destroy(&desk->lock);
    mem_free(desk);
}

void picture_want(struct desk *desk, struct picture_waiter *waiter, uint64_t patience_ns)
{
    list_init(&waiter->node);
    waiter->picture = NULL;
    pthread_mutex_lock(&desk->lock);
    bool top = is_top(desk->instance);
    if (!is_fresh(desk->newest) && (top || desk->ask == NULL)) {
        show(desk, picture_own(desk, top ? "" : "this node follows nobody"));
    }
    if (is_fresh(desk->newest)) {
        deliver(waiter, desk->newest);
    } else {
        bool first = list_empty(&desk->waiters);
        desk->patience_ns = first ? patience_ns : desk->patience_ns;
        waiter->waiting = true;
        list_append(&desk->waiters, &waiter->node);
        notice_raise(desk->ask);
    }
    pthread_mutex_unlock(&desk->lock);
}

bool picture_cancel(struct desk *desk, struct picture_waiter *waiter)
{
    pthread_mutex_lock(&desk->lock);
    bool waited = waiter->waiting;
    waiter->waiting = false;
    list_remove(&waiter->node);
    pthread_mutex_unlock(&desk->lock);
    return waited;
}

// ---- for who asks ------------------------------------------------------------------------------

void desk_hook(struct desk *desk, struct notice *ask)
{
    pthread_mutex_lock(&desk->lock);
    desk->ask = ask;
    if (ask == NULL && !list_empty(&desk->waiters)) {
        show(desk, picture_own(desk, "this node is stopping"));
    }
    pthread_mutex_unlock(&desk->lock);
}

bool desk_wants(struct desk *desk, uint64_t *ret_patience_ns)
{
    pthread_mutex_lock(&desk->lock);
    bool wants = !list_empty(&desk->waiters);
    *ret_patience_ns = desk->patience_ns;
    pthread_mutex_unlock(&desk->lock);
    return wants;
}

void desk_give(struct desk *desk, struct buf *items, size_t count, const char *reason,
               uint64_t taken_ns)
{
    struct picture *picture = picture_new(reason, taken_ns);
    picture->items = *items;
    picture->count = count;
    *items = (struct buf){0};
    pthread_mutex_lock(&desk->lock);
    show(desk, picture);
    pthread_mutex_unlock(&desk->lock);
}

void desk_give_own(struct desk *desk, const char *reason)
{
    struct picture *picture = picture_own(desk, reason);
    pthread_mutex_lock(&desk->lock);
    show(desk, picture);
    pthread_mutex_unlock(&desk->lock);
}
