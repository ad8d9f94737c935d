// SPDX-License-Identifier: Apache-2.0
// A read that must not start before an index is visible (MININDEX). Until then it holds back what
// stands behind it, as what starts later must not be answered from an earlier view; once its view
// is pinned it is a read like any other.
//
// A waiter is freed only when nobody can call it any more: the timer is cleared, and the posted
// task has run.
#include "qs/request.h"
#include "qs/session.h"

struct awaited {
    struct request *request;
    struct index_waiter waiter;
    struct timer timer;
};

// Reads, or says that the index is not there. The request may be gone afterwards.
static void go_on(struct request *request, uint64_t least)
{
    struct view *view = instance_pin(request->at->instance);
    uint64_t visible = view != NULL ? view->place.index : 0;
    view_release(view);
    if (visible >= least) {
        request_read(request); // at that view or a newer one
        return;
    }
    reply_error(request_out(request), "BEHIND %llu", (unsigned long long)visible);
    request_finish(request);
}

static void await_end(struct awaited *awaited)
{
    struct request *request = awaited->request;
    struct session *session = request->session;
    uint64_t least = awaited->waiter.index;
    loop_timer_clear(&awaited->timer);
    mem_free(awaited);
    request->wait = NULL;
    request->cancel = NULL;
    session->holds++; // beyond the request's end
    request->barrier = false;
    session->barriers--;
    go_on(request, least);
    session->holds--;
    session_settle(session);
}

static void await_reached(struct task *task)
{
    await_end(CONTAINER_OF(task, struct awaited, waiter.task));
}

// When it cannot be cancelled, its task is on the way.
static void await_give_up(struct awaited *awaited)
{
    if (instance_wait_cancel(awaited->request->at->instance, &awaited->waiter)) {
        await_end(awaited);
    }
}

static void await_expired(struct timer *timer)
{
    await_give_up(CONTAINER_OF(timer, struct awaited, timer));
}

static void await_cancel(struct request *request) { await_give_up(request->wait); }

void request_await(struct request *request, uint64_t least, uint64_t ms)
{
    struct session *session = request->session;
    struct view *view = instance_pin(request->at->instance);
    bool reached = view != NULL && view->place.index >= least;
    view_release(view);
    if (reached || ms == 0) {
        go_on(request, least);
        return;
    }
    struct loop *loop = session->home->loop;
    struct awaited *awaited = mem_zalloc(sizeof *awaited);
    awaited->request = request;
    awaited->waiter.index = least;
    awaited->waiter.loop = loop;
    awaited->waiter.task.run = await_reached;
    timer_init(&awaited->timer, await_expired);
    loop_timer_set(loop, &awaited->timer, ms * NS_PER_MS);
    request->barrier = true;
    session->barriers++;
    request->wait = awaited;
    request->cancel = await_cancel;
    instance_wait(request->at->instance, &awaited->waiter);
}
