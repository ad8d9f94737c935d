// SPDX-License-Identifier: Apache-2.0
// A request that must not go on before an index is visible (QS.WAITINDEX, MININDEX, what the same
// connection has written at the root that leads). Until then it holds back what stands behind it,
// as what starts later must not be answered from an earlier view; once it goes on it is like any
// other. It is bound to the history of the view that it first saw: when that ends, so does the
// wait.
//
// A waiter is freed only when nobody can call it any more: the timer is cleared, and the posted
// task has run.
#include "qs/request.h"
#include "qs/session.h"

struct awaited {
    struct request *request;
    struct token least;
    void (*reached)(struct request *request, uint64_t visible);
    struct index_waiter waiter;
    struct timer timer;
    bool barrier; // the request was one by itself
};

// Where the wait stands. OK: it is over; ERR_BEHIND, ERR_LOADING: not yet; else it never will be.
static int look(struct request *request, const struct token *least, uint64_t *ret_visible,
                unsigned *ret_forks)
{
    struct view *view;
    int code = session_view(request->session, request->at, &view);
    if (code != OK) {
        return code;
    }
    *ret_visible = view->place.index;
    *ret_forks = view->forks;
    code = token_check(least, view);
    if (code == OK && view->place.index < least->index) {
        code = ERR_BEHIND;
    }
    view_release(view);
    return code;
}

// The request may be gone afterwards.
static void answer(struct request *request, int code, uint64_t visible)
{
    struct buf *to = request_out(request);
    if (code == ERR_BEHIND) {
        reply_error(to, "BEHIND %llu", (unsigned long long)visible);
    } else {
        request_refuse(request, code, to);
    }
    request_finish(request);
}

static void await_end(struct awaited *awaited)
{
    struct request *request = awaited->request;
    struct session *session = request->session;
    void (*reached)(struct request *request, uint64_t visible) = awaited->reached;
    uint64_t visible = 0;
    unsigned forks;
    int code = look(request, &awaited->least, &visible, &forks);
    session->holds++; // beyond the request's end
    session->barriers -= awaited->barrier ? 0 : 1;
    request->barrier = awaited->barrier;
    loop_timer_clear(&awaited->timer);
    mem_free(awaited);
    request->wait = NULL;
    request->cancel = NULL;
    if (code == OK) {
        reached(request, visible);
    } else {
        answer(request, code, visible);
    }
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

void request_await(struct request *request, const struct token *least, uint64_t ms,
                   void (*reached)(struct request *request, uint64_t visible))
{
    struct session *session = request->session;
    uint64_t visible = 0;
    unsigned forks = 0; // of the first view, where there is none yet
    int code = look(request, least, &visible, &forks);
    if (code == OK) {
        reached(request, visible);
        return;
    }
    if ((code != ERR_BEHIND && code != ERR_LOADING) || ms == 0) {
        answer(request, code, visible);
        return;
    }
    struct loop *loop = session->home->loop;
    struct awaited *awaited = mem_zalloc(sizeof *awaited);
    awaited->request = request;
    awaited->least = *least;
    awaited->reached = reached;
    awaited->waiter.index = least->index;
    awaited->waiter.forks = forks;
    awaited->waiter.loop = loop;
    awaited->waiter.task.run = await_reached;
    timer_init(&awaited->timer, await_expired);
    loop_timer_set(loop, &awaited->timer, ms * NS_PER_MS);
    awaited->barrier = request->barrier;
    session->barriers += awaited->barrier ? 0 : 1;
    request->barrier = true;
    request->wait = awaited;
    request->cancel = await_cancel;
    instance_wait(request->at->instance, &awaited->waiter);
}

bool request_await_own(struct request *request,
                       void (*reached)(struct request *request, uint64_t visible))
{
    struct token own;
    if (!session_owes(request->session, request->at, &own)) {
        return false;
    }
    request_await(request, &own, request->at->instance->options->commit_wait, reached);
    return true;
}
