// SPDX-License-Identifier: Apache-2.0
#include "common/tree/link.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/address.h"

static struct log_gate goodbye_gate;

static struct link *link_of(struct stream *stream)
{
    return CONTAINER_OF(stream, struct link, stream);
}

static uint64_t now_ns(const struct link *link) { return loop_now_ns(link->stream.watch.loop); }

static bool is_over(const struct link *link)
{
    return link->ending || stream_closing(&link->stream);
}

// ---- sending -----------------------------------------------------------------------------------

struct buf *link_out(struct link *link)
{
    CHECK(link->raw_out_left == 0);
    return stream_out(&link->stream);
}

void link_wrote(struct link *link) { stream_wrote(&link->stream); }

bool link_may_talk(const struct link *link)
{
    return !is_over(link) && link->raw_out_left == 0 &&
           stream_pending(&link->stream) < LINK_PENDING_MAX;
}

static void pay_pong(struct link *link)
{
    if (link->pong_ns != 0 && link_may_talk(link)) {
        struct message_pong pong = {.sent_ns = link->pong_ns};
        message_pong_encode(link_out(link), &pong);
        link_wrote(link);
        link->pong_ns = 0;
    }
}

static void send_ping(struct link *link)
{
    if (link->trusted && link_may_talk(link)) {
        // The clock itself, not the turn's: the time since the turn began is no round trip.
        struct message_ping ping = {.sent_ns = clock_mono_ns()};
        message_ping_encode(link_out(link), &ping);
        link_wrote(link);
    }
}

void link_announce(struct link *link, uint64_t size)
{
    CHECK(size > 0);
    struct message_blocks blocks = {.bytes = size};
    message_blocks_encode(link_out(link), &blocks);
    link_wrote(link);
    link->raw_out_left = size;
}

void link_announce_patch(struct link *link, uint64_t number, uint64_t size)
{
    CHECK(size > 0 && number > 0);
    struct message_patch patch = {.block = number, .bytes = size};
    message_patch_encode(link_out(link), &patch);
    link_wrote(link);
    link->raw_out_left = size;
}

static void raw_sent(struct link *link, uint64_t size)
{
    CHECK(size <= link->raw_out_left);
    link->raw_out_left -= size;
    pay_pong(link);
}

ssize_t link_send_file(struct link *link, int fd, off_t *offset, size_t size)
{
    CHECK(size <= link->raw_out_left);
    ssize_t sent = stream_send_file(&link->stream, fd, offset, size);
    if (sent > 0) {
        raw_sent(link, (uint64_t)sent);
    }
    return sent;
}

void link_send_raw(struct link *link, struct bytes data)
{
    stream_write(&link->stream, data);
    raw_sent(link, data.size);
}

void link_pause(struct link *link) { stream_pause(&link->stream); }

void link_resume(struct link *link)
{
    if (link->stream.paused) {
        link->heard_ns = now_ns(link);
        link->paused_ns = clock_mono_ns();
        stream_resume(&link->stream);
    }
}

// ---- ending ------------------------------------------------------------------------------------

void link_close(struct link *link, int error)
{
    link->ending = true;
    if (link->error == OK) {
        link->error = error;
    }
    loop_timer_clear(&link->timer);
    stream_close(&link->stream, error);
}

void link_finish(struct link *link, int error)
{
    if (link->ending) {
        return;
    }
    link->ending = true;
    link->error = error;
    loop_timer_clear(&link->timer);
    // A paused stream hands over nothing, but its end must be seen.
    stream_finish(&link->stream);
}

void link_dismiss(struct link *link, int error, const char *reason)
{
    if (link->ending) {
        return;
    }
    if (link->raw_out_left == 0 && !link->connecting) {
        struct message_goodbye goodbye = {.error = (uint64_t)-error, .reason = bytes_text(reason)};
        message_goodbye_encode(link_out(link), &goodbye);
        link_wrote(link);
        link_finish(link, error);
    } else {
        link_close(link, error);
    }
}

static void on_close(struct stream *stream, int error)
{
    struct link *link = link_of(stream);
    link->ending = true;
    loop_timer_clear(&link->timer);
    link->error = link->error != OK ? link->error : error;
    if (link->on_end != NULL) {
        link->on_end(link);
    }
    link->ops->on_close(link, link->error);
}

// ---- receiving ---------------------------------------------------------------------------------

static int on_ping(struct link *link, struct bytes payload)
{
    struct message_ping ping;
    int error = message_ping_decode(payload, &ping);
    if (error == OK) {
        link->pong_ns = ping.sent_ns;
        pay_pong(link);
    }
    return error;
}

static int on_pong(struct link *link, struct bytes payload)
{
    struct message_pong pong;
    int error = message_pong_decode(payload, &pong);
    uint64_t now = clock_mono_ns();
    // What waited behind our own pause measures us, not the way.
    if (error != OK || pong.sent_ns > now || pong.sent_ns <= link->paused_ns ||
        now - pong.sent_ns > link->silence_ns) {
        return error;
    }
    uint64_t sample = now - pong.sent_ns;
    link->rtt_ns = link->rtt_ns == 0 ? sample : (link->rtt_ns * 7 + sample) / 8;
    return OK;
}

static int on_goodbye(struct link *link, struct bytes payload)
{
    struct message_goodbye goodbye;
    int error = message_goodbye_decode(payload, &goodbye);
    if (error != OK) {
        return error;
    }
    link_words(link->last_words, sizeof link->last_words, goodbye.reason);
    LOG_GATED(&goodbye_gate, LOG_INFO, link->scope, "%s says goodbye: %s", link->address,
              link->last_words);
    link->closed_by_peer = true;
    link_close(link, ERR_CLOSED);
    return OK;
}

static int on_announcement(struct link *link, uint16_t code, struct bytes payload)
{
    struct message_patch patch = {0};
    struct message_blocks blocks = {0};
    int error = code == MESSAGE_patch ? message_patch_decode(payload, &patch)
                                      : message_blocks_decode(payload, &blocks);
    if (error != OK) {
        return error;
    }
    uint64_t size = code == MESSAGE_patch ? patch.bytes : blocks.bytes;
    bool sound = size > 0 && (code == MESSAGE_blocks || patch.block > 0);
    if (link->ops->on_raw == NULL || !link->trusted || !sound) {
        return ERR_PROTOCOL;
    }
    link->raw_left = size;
    link->raw_block = patch.block;
    return OK;
}

static void trust(struct link *link)
{
    link->trusted = true;
    link->payload_max = FRAME_PAYLOAD_MAX;
}

static int on_frame(struct link *link, const struct frame *frame)
{
    if (frame->code == MESSAGE_goodbye) {
        return on_goodbye(link, frame->payload);
    }
    if (frame->code == MESSAGE_blocks || frame->code == MESSAGE_patch) {
        return on_announcement(link, frame->code, frame->payload);
    }
    if (frame->code == MESSAGE_ping && link->trusted) {
        return on_ping(link, frame->payload);
    }
    if (frame->code == MESSAGE_pong && link->trusted) {
        return on_pong(link, frame->payload);
    }
    bool greeted_us = link->ops->on_connected != NULL;
    int error = link->ops->on_message(link, frame->code, frame->payload);
    if (error == OK && greeted_us && !link->trusted && !is_over(link)) {
        trust(link);
        send_ping(link); // the round trip is wanted soon
    }
    return error;
}

// One step through what was received. Returns bytes used, 0 = more is needed, or an error.
static ssize_t receive_step(struct link *link, struct bytes data)
{
    if (link->raw_left > 0) {
        size_t size = u64_min(data.size, link->raw_left);
        int error = link->ops->on_raw(link, bytes_of(data.data, size));
        link->raw_left -= size;
        return error == OK ? (ssize_t)size : error;
    }
    struct frame frame;
    ssize_t used = frame_decode(data, link->payload_max, &frame);
    if (used <= 0) {
        return used;
    }
    int error = on_frame(link, &frame);
    return error == OK ? used : error;
}

static ssize_t on_data(struct stream *stream, struct bytes data)
{
    struct link *link = link_of(stream);
    link->heard_ns = now_ns(link);
    link->connecting = false;
    size_t used = 0;
    while (used < data.size && !is_over(link) && !stream->paused) {
        ssize_t step = receive_step(link, bytes_of(data.data + used, data.size - used));
        if (step < 0 && !is_over(link)) {
            link_dismiss(link, (int)step, error_text((int)step));
        }
        if (step <= 0) {
            break;
        }
        used += (size_t)step;
    }
    return (ssize_t)used;
}

static void on_drained(struct stream *stream)
{
    struct link *link = link_of(stream);
    if (is_over(link)) {
        return;
    }
    pay_pong(link);
    if (link->ops->on_drained != NULL) {
        link->ops->on_drained(link);
    }
}

// ---- opening -----------------------------------------------------------------------------------

static uint64_t tick_ns(const struct link *link)
{
    return u64_max(u64_min(link->ping_every_ns, link->silence_ns / 4), NS_PER_MS);
}

// Rings when the other side has been silent for too long, not at some tick behind.
static void set_timer(struct link *link)
{
    uint64_t now = now_ns(link);
    uint64_t heard_ns = now - link->heard_ns;
    uint64_t left_ns = link->silence_ns > heard_ns ? link->silence_ns - heard_ns : 0;
    uint64_t wait_ns = u64_max(u64_min(tick_ns(link), left_ns + 1), NS_PER_MS);
    link->due_ns = now + wait_ns;
    loop_timer_set(link->stream.watch.loop, &link->timer, wait_ns);
}

static void on_tick(struct timer *timer)
{
    struct link *link = CONTAINER_OF(timer, struct link, timer);
    uint64_t now = now_ns(link);
    // While this node itself stood still it heard nobody: what was sent waits in the socket.
    uint64_t late_ns = now > link->due_ns ? now - link->due_ns : 0;
    link->heard_ns = u64_min(now, link->heard_ns + late_ns);
    link->opened_ns = u64_min(now, link->opened_ns + late_ns);
    if (link->stream.paused) {
        link->heard_ns = now; // we are not listening: that is no silence of the other side
    }
    bool idle = !link->trusted && now - link->opened_ns > link->silence_ns;
    if (idle || now - link->heard_ns > link->silence_ns) {
        link_close(link, ERR_TIMEOUT);
        return;
    }
    send_ping(link);
    set_timer(link);
}

// Deferred tasks run before the turn frees what was closed, so the link is still there.
static void say_hello(struct task *task)
{
    struct link *link = CONTAINER_OF(task, struct link, hello_task);
    if (!is_over(link)) {
        link->ops->on_connected(link);
    }
}

void link_open(struct link *link, struct loop *loop, int fd, bool connecting,
               uint64_t ping_every_ns, uint64_t silence_ns, const struct link_ops *ops)
{
    static const struct stream_ops stream_ops = {
        .on_data = on_data,
        .on_drained = on_drained,
        .on_close = on_close,
    };
    CHECK(ops->on_message != NULL && ops->on_close != NULL);
    CHECK(!connecting || ops->on_connected != NULL);
    *link = (struct link){.ops = ops,
                          .payload_max = LINK_GREETING_MAX,
                          .ping_every_ns = ping_every_ns,
                          .silence_ns = silence_ns,
                          .connecting = connecting,
                          .opened_ns = loop_now_ns(loop),
                          .heard_ns = loop_now_ns(loop)};
    struct address address;
    if (!connecting && address_of_peer(fd, &address) == OK) {
        address_text(&address, link->address);
    }
    stream_open(&link->stream, loop, fd, FRAME_PAYLOAD_MAX + FRAME_HEAD_BYTES, &stream_ops);
    timer_init(&link->timer, on_tick);
    set_timer(link);
    if (connecting) {
        link->hello_task.run = say_hello;
        loop_defer(loop, &link->hello_task);
    }
}

void link_adopt(struct link *link, const struct link_ops *ops, void *owner)
{
    CHECK(ops->on_message != NULL && ops->on_close != NULL);
    link->ops = ops;
    link->owner = owner;
    link->connecting = false;
    trust(link);
}

// ---- words -------------------------------------------------------------------------------------

struct bytes link_text(const char *text) { return bytes_text(text != NULL ? text : ""); }

void link_words(char *to, size_t size, struct bytes text)
{
    CHECK(size > 0);
    size_t length = u64_min(text.size, size - 1);
    for (size_t i = 0; i < length; i++) {
        to[i] = text.data[i] >= ' ' && text.data[i] <= '~' ? (char)text.data[i] : '?';
    }
    to[length] = '\0';
}

bool link_name_valid(struct bytes name, size_t limit)
{
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '.' && c != '_' && c != '-') {
            return false;
        }
    }
    return name.size >= 1 && name.size <= limit;
}
