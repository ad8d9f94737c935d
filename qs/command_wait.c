// SPDX-License-Identifier: Apache-2.0
// Commands that wait for the world: WAIT (children that have synced this connection's last write)
// and QS.WAITINDEX (an index becomes visible here). Both are barriers: what stands behind them in
// the pipeline is there because of them.
//
// A waiter is freed only when nobody can call it any more: the timer is cleared, and the notice has
// run.
#include "qs/dispatch.h"

// Longer than any process lives, and still a sound number of nanoseconds.
#define WAIT_MS_MAX ((int64_t)10 * 365 * 86400 * 1000)

static bool parse_ms(struct bytes text, int64_t *ret_ms, struct buf *to)
{
    int64_t ms;
    if (!parse_i64(text, &ms) || ms > WAIT_MS_MAX) {
        reply_error(to, "ERR timeout is not an integer or out of range");
        return false;
    }
    if (ms < 0) {
        reply_error(to, "ERR timeout is negative");
        return false;
    }
    *ret_ms = ms;
    return true;
}

// ---- WAIT --------------------------------------------------------------------------------------

struct sync_wait {
    struct request *request;
    struct fanout_subscriber subscriber;
    struct notice notice;
    struct timer timer;
    uint64_t index;
    uint64_t count;
    bool over; // unsubscribed; only a notice on its way is waited for
};

static unsigned synced(const struct sync_wait *wait)
{
    struct fanout *fanout = wait->request->at->fanout;
    return fanout != NULL ? fanout_synced(fanout, wait->index) : 0;
}

static void sync_answer(struct sync_wait *wait)
{
    struct request *request = wait->request;
    unsigned count = synced(wait);
    request->wait = NULL;
    request->cancel = NULL;
    mem_free(wait);
    reply_integer(request_out(request), count);
    request_finish(request);
}

static void sync_end(struct sync_wait *wait)
{
    wait->over = true;
    loop_timer_clear(&wait->timer);
    fanout_unsubscribe(wait->request->at->fanout, &wait->subscriber);
    if (!atomic_load(&wait->notice.pending)) {
        sync_answer(wait);
    }
}

static void sync_seen(struct notice *notice)
{
    struct sync_wait *wait = CONTAINER_OF(notice, struct sync_wait, notice);
    if (wait->over) {
        sync_answer(wait);
    } else if (synced(wait) >= wait->count) {
        sync_end(wait);
    }
}

static void sync_expired(struct timer *timer)
{
    sync_end(CONTAINER_OF(timer, struct sync_wait, timer));
}

static void sync_cancel(struct request *request)
{
    struct sync_wait *wait = request->wait;
    if (!wait->over) {
        sync_end(wait);
    }
}

// The index of this connection's last write, in the instance that it has selected now.
static uint64_t last_write(const struct request *request)
{
    const struct session *session = request->session;
    return session->last_at == request->at ? session->last_index : 0;
}

static void sync_wait_start(struct request *request, uint64_t count, uint64_t ms)
{
    struct loop *loop = request->session->home->loop;
    struct sync_wait *wait = mem_zalloc(sizeof *wait);
    wait->request = request;
    wait->index = last_write(request);
    wait->count = count;
    list_init(&wait->subscriber.node);
    wait->subscriber.notice = &wait->notice;
    timer_init(&wait->timer, sync_expired);
    notice_init(&wait->notice, loop_mailbox(loop), sync_seen);
    request->wait = wait;
    request->cancel = sync_cancel;
    fanout_subscribe(request->at->fanout, &wait->subscriber);
    if (ms > 0) {
        loop_timer_set(loop, &wait->timer, ms * NS_PER_MS);
    }
    // A child may have reported between the first look and the subscription.
    if (synced(wait) >= count) {
        sync_end(wait);
    }
}

static void start_wait(struct request *request, struct call *call)
{
    int64_t count;
    int64_t ms;
    struct buf error = {0};
    if (!parse_i64(call_word(call, 1), &count)) {
        reply_error(&error, "ERR value is not an integer or out of range");
    } else if (parse_ms(call_word(call, 2), &ms, &error)) {
        struct fanout *fanout = request->at->fanout;
        unsigned now = fanout != NULL ? fanout_synced(fanout, last_write(request)) : 0;
        if (fanout != NULL && count > 0 && now < (uint64_t)count) {
            sync_wait_start(request, (uint64_t)count, (uint64_t)ms);
            return;
        }
        reply_integer(&error, now);
    }
    buf_append_bytes(request_out(request), buf_bytes(&error));
    buf_free(&error);
    request_finish(request);
}

const struct command_steps *command_wait(void)
{
    static const struct command_steps steps = {.start = start_wait, .barrier = true};
    return &steps;
}

// ---- QS.WAITINDEX ------------------------------------------------------------------------------

static void index_reached(struct request *request, uint64_t visible)
{
    reply_integer(request_out(request), (int64_t)visible);
    request_finish(request);
}

static void start_waitindex(struct request *request, struct call *call)
{
    struct token token;
    int64_t ms;
    struct buf error = {0};
    if (token_parse(call_word(call, 1), &token) != OK) {
        reply_error(&error, "ERR value is not an integer or out of range");
    } else if (parse_ms(call_word(call, 2), &ms, &error)) {
        request_await(request, &token, (uint64_t)ms, index_reached);
        return;
    }
    buf_append_bytes(request_out(request), buf_bytes(&error));
    buf_free(&error);
    request_finish(request);
}

const struct command_steps *command_qs_waitindex(void)
{
    static const struct command_steps steps = {.start = start_waitindex, .barrier = true};
    return &steps;
}
