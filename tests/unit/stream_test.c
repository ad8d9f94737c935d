// SPDX-License-Identifier: Apache-2.0
// Streams on both back ends: every byte once and in order, whatever pauses, fills or closes.
#include "tests/unit/io_fixture.h"

#include <string.h>

#include "common/io/stream.h"

#define IN_LIMIT (64 * 1024)

// A stream of either side of a test; what it does is chosen by its fields.
struct end {
    struct stream stream;
    uint64_t received, to_send, sent;
    uint64_t finish_at;  // received so much: stream_finish
    struct end *mate;    // ... when it has too
    bool echo;
    bool expect_pattern; // received bytes are fixture_byte(0..)
    bool pausing;        // pause in every on_data, resume by timer or deferred task
    unsigned calls;
    unsigned grain;      // use at most so many bytes a call
    int fail_with;       // returned by on_data
    bool close_in_data, close_in_drained;
    unsigned drained;
    int closed;
    int error;
    struct timer resume_timer;
    struct task resume_task;
    struct timer finish_timer;
};

static unsigned open_ends;

static void end_resume_timer(struct timer *timer)
{
    stream_resume(&CONTAINER_OF(timer, struct end, resume_timer)->stream);
}

static void end_resume_task(struct task *task)
{
    stream_resume(&CONTAINER_OF(task, struct end, resume_task)->stream);
}

static void end_finish_timer(struct timer *timer)
{
    stream_finish(&CONTAINER_OF(timer, struct end, finish_timer)->stream);
}

static void end_check(struct end *end, struct bytes data)
{
    for (size_t i = 0; end->expect_pattern && i < data.size; i++) {
        if (data.data[i] != fixture_byte(end->received + i)) {
            fail_msg("byte %llu is wrong", (unsigned long long)(end->received + i));
        }
    }
}

static void end_pause(struct end *end)
{
    stream_pause(&end->stream);
    if (end->calls % 8 == 0) {
        loop_timer_set(end->stream.watch.loop, &end->resume_timer, NS_PER_MS / 2);
    } else {
        loop_defer(end->stream.watch.loop, &end->resume_task);
    }
}

static ssize_t end_on_data(struct stream *stream, struct bytes data)
{
    struct end *end = CONTAINER_OF(stream, struct end, stream);
    assert_false(stream_closing(stream));
    assert_false(stream->paused);
    assert_true(data.size > 0);
    end->calls++;
    if (end->grain != 0 && data.size > end->grain) {
        data.size = end->grain;
    }
    end_check(end, data);
    end->received += data.size;
    if (end->echo) {
        stream_write(stream, data);
    }
    if (end->close_in_data) {
        stream_close(stream, OK);
    }
    struct end *mate = end->mate != NULL ? end->mate : end;
    if (end->finish_at != 0 && end->received >= end->finish_at &&
        mate->received >= mate->finish_at) {
        stream_finish(stream);
    } else if (end->pausing && !stream_closing(stream)) {
        end_pause(end);
    }
    return end->fail_with != OK ? end->fail_with : (ssize_t)data.size;
}

// Sends the pattern in frames of changing size.
static void end_feed(struct end *end)
{
    uint64_t frame = u64_min(end->to_send - end->sent, 1 + end->sent % 100003);
    struct buf *out = stream_out(&end->stream);
    uint8_t *to = buf_reserve(out, frame);
    for (uint64_t i = 0; i < frame; i++) {
        to[i] = fixture_byte(end->sent + i);
    }
    buf_commit(out, frame);
    end->sent += frame;
    stream_wrote(&end->stream);
}

static void end_on_drained(struct stream *stream)
{
    struct end *end = CONTAINER_OF(stream, struct end, stream);
    assert_int_equal(stream_pending(stream), 0);
    assert_false(stream_closing(stream));
    end->drained++;
    if (end->close_in_drained) {
        stream_close(stream, ERR_BUSY);
        stream_close(stream, OK);
    } else if (end->sent < end->to_send) {
        end_feed(end);
    }
}

static void end_on_close(struct stream *stream, int error)
{
    struct end *end = CONTAINER_OF(stream, struct end, stream);
    end->closed++;
    end->error = error;
    loop_timer_clear(&end->resume_timer);
    loop_timer_clear(&end->finish_timer);
    assert_int_equal(stream->in.capacity + stream->out.capacity, 0);
    if (--open_ends == 0) {
        loop_stop(stream->watch.loop);
    }
}

static const struct stream_ops end_ops = {
    .on_data = end_on_data,
    .on_drained = end_on_drained,
    .on_close = end_on_close,
};

static void end_open(struct end *end, struct loop *loop, int fd)
{
    *end = (struct end){.expect_pattern = true, .resume_task = {.run = end_resume_task}};
    timer_init(&end->resume_timer, end_resume_timer);
    timer_init(&end->finish_timer, end_finish_timer);
    open_ends++;
    stream_open(&end->stream, loop, fd, IN_LIMIT, &end_ops);
}

static void open_pair(struct loop *loop, struct end *ends, void (*pair)(int *))
{
    int fds[2];
    pair(fds);
    open_ends = 0;
    end_open(&ends[0], loop, fds[0]);
    end_open(&ends[1], loop, fds[1]);
}

// `size` bytes go there and come back, through a reader that pauses and uses odd amounts.
static void echo(void **state, void (*pair)(int *), uint64_t size, unsigned grain, bool pausing)
{
    struct loop *loop = fixture_open(state);
    struct end ends[2];
    open_pair(loop, ends, pair);
    ends[0].to_send = size;
    ends[0].finish_at = size;
    ends[1].echo = true;
    ends[1].grain = grain;
    ends[1].pausing = pausing;
    end_feed(&ends[0]);
    loop_run(loop);
    assert_int_equal(ends[0].received, size);
    assert_int_equal(ends[1].received, size);
    assert_int_equal(ends[0].error, OK);
    assert_int_equal(ends[1].error, ERR_CLOSED);
    assert_int_equal(ends[0].closed + ends[1].closed, 2);
    assert_int_equal(ends[0].stream.bytes_out, size);
    assert_int_equal(ends[0].stream.bytes_in, size);
    fixture_close(loop);
}

static void test_echo_one_byte(void **state) { echo(state, fixture_pair, 1, 0, false); }
static void test_echo_unix(void **state) { echo(state, fixture_pair, 16 << 20, 0, false); }
static void test_echo_tcp(void **state) { echo(state, fixture_tcp_pair, 16 << 20, 0, false); }
static void test_echo_slow_unix(void **state) { echo(state, fixture_pair, 4 << 20, 7001, true); }
static void test_echo_slow_tcp(void **state) { echo(state, fixture_tcp_pair, 4 << 20, 7001, true); }

// Both sides send 16 MiB at the same time; one of them reads slowly.
static void test_both_ways(void **state)
{
    enum { SIZE = 16 << 20 };
    struct loop *loop = fixture_open(state);
    struct end ends[2];
    open_pair(loop, ends, fixture_tcp_pair);
    for (size_t i = 0; i < 2; i++) {
        ends[i].to_send = SIZE;
        end_feed(&ends[i]);
    }
    ends[1].pausing = true;
    for (size_t i = 0; i < 2; i++) {
        ends[i].finish_at = SIZE;
        ends[i].mate = &ends[1 - i];
    }
    loop_run(loop);
    assert_int_equal(ends[0].received, SIZE);
    assert_int_equal(ends[1].received, SIZE);
    assert_int_equal(ends[0].closed + ends[1].closed, 2);
    fixture_close(loop);
}

// A frame is 4 bytes of length and that many bytes of pattern; it is used whole or not at all.
struct framed {
    struct end end;
    uint64_t frames;
};

static ssize_t framed_on_data(struct stream *stream, struct bytes data)
{
    struct end *end = CONTAINER_OF(stream, struct end, stream);
    struct framed *framed = CONTAINER_OF(end, struct framed, end);
    if (data.size < 4 || data.size - 4 < load_u32(data.data)) {
        return 0;
    }
    size_t size = load_u32(data.data);
    end_check(end, bytes_of(data.data + 4, size));
    end->received += size;
    framed->frames++;
    return (ssize_t)(4 + size);
}

static const struct stream_ops framed_ops = {.on_data = framed_on_data, .on_close = end_on_close};

// Sends stretches of a file, each behind a head that is written.
struct feeder {
    struct end end;
    int file;
    off_t at;
    uint64_t left; // of the stretch
    uint64_t size;
    uint64_t frames;
    unsigned full;
};

static void feeder_go_on(struct feeder *feeder)
{
    struct stream *stream = &feeder->end.stream;
    while (feeder->left > 0 || (uint64_t)feeder->at < feeder->size) {
        if (feeder->left == 0) {
            uint8_t head[4];
            feeder->left = u64_min(feeder->size - (uint64_t)feeder->at,
                                   1 + (uint64_t)feeder->at * 31 % 60000);
            store_u32(head, (uint32_t)feeder->left);
            stream_write(stream, bytes_of(head, sizeof head));
            feeder->frames++;
        }
        ssize_t sent = stream_send_file(stream, feeder->file, &feeder->at, feeder->left);
        assert_true(sent >= 0);
        if (sent == 0) {
            feeder->full++;
            return;
        }
        feeder->left -= (uint64_t)sent;
    }
    stream_finish(stream);
}

static void feeder_on_drained(struct stream *stream)
{
    struct end *end = CONTAINER_OF(stream, struct end, stream);
    feeder_go_on(CONTAINER_OF(end, struct feeder, end));
}

static const struct stream_ops feeder_ops = {
    .on_data = end_on_data,
    .on_drained = feeder_on_drained,
    .on_close = end_on_close,
};

static int pattern_file(size_t size)
{
    char path[] = "/tmp/qs-stream-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    unlink(path);
    uint8_t *data = fixture_bytes(size);
    assert_int_equal(write(file, data, size), size);
    mem_free(data);
    return file;
}

static void send_file(void **state, void (*pair)(int *))
{
    enum { SIZE = 8 << 20 };
    struct loop *loop = fixture_open(state);
    struct feeder feeder = {.file = pattern_file(SIZE), .size = SIZE};
    struct framed framed = {.frames = 0};
    int fds[2];
    pair(fds);
    open_ends = 0;
    end_open(&feeder.end, loop, fds[0]);
    feeder.end.stream.ops = &feeder_ops;
    end_open(&framed.end, loop, fds[1]);
    framed.end.stream.ops = &framed_ops;
    stream_want_drained(&feeder.end.stream);
    loop_run(loop);
    assert_int_equal(framed.end.received, SIZE);
    assert_int_equal(framed.frames, feeder.frames);
    assert_int_equal(feeder.at, SIZE);
    assert_true(feeder.full > 0);
    assert_int_equal(feeder.end.stream.bytes_out, SIZE + 4 * feeder.frames);
    assert_int_equal(feeder.end.error, OK);
    assert_int_equal(framed.end.error, ERR_CLOSED);
    close(feeder.file);
    fixture_close(loop);
}

static void test_send_file_unix(void **state) { send_file(state, fixture_pair); }
static void test_send_file_tcp(void **state) { send_file(state, fixture_tcp_pair); }

static void test_send_file_too_short(void **state)
{
    struct loop *loop = fixture_open(state);
    struct end ends[2];
    open_pair(loop, ends, fixture_pair);
    int file = pattern_file(100);
    off_t at = 0;
    assert_int_equal(stream_send_file(&ends[0].stream, file, &at, 200), 100);
    assert_int_equal(at, 100);
    assert_int_equal(stream_send_file(&ends[0].stream, file, &at, 100), ERR_IO);
    stream_finish(&ends[0].stream);
    loop_run(loop);
    assert_int_equal(ends[1].received, 100);
    close(file);
    fixture_close(loop);
}

static void test_finish_sends_all(void **state)
{
    enum { SIZE = 4 << 20 };
    struct loop *loop = fixture_open(state);
    struct end ends[2];
    open_pair(loop, ends, fixture_pair);
    uint8_t *data = fixture_bytes(SIZE);
    stream_write(&ends[0].stream, bytes_of(data, SIZE));
    assert_int_equal(stream_pending(&ends[0].stream), SIZE);
    stream_flush(&ends[0].stream);
    assert_true(stream_pending(&ends[0].stream) > 0);
    stream_finish(&ends[0].stream);
    ends[1].pausing = true;
    loop_run(loop);
    assert_int_equal(ends[1].received, SIZE);
    assert_int_equal(ends[0].error, OK);
    assert_int_equal(ends[1].error, ERR_CLOSED);
    mem_free(data);
    fixture_close(loop);
}

static void finish_at_once(struct timer *timer)
{
    struct end *end = CONTAINER_OF(timer, struct end, finish_timer);
    stream_finish(&end->stream);
    assert_true(timer_is_set(&end->stream.close_timer));
    loop_timer_set(end->stream.watch.loop, &end->stream.close_timer, NS_PER_MS);
}

// The other side never reads: a graceful close ends all the same.
static void test_finish_is_bounded(void **state)
{
    struct loop *loop = fixture_open(state);
    struct end end;
    int fds[2];
    fixture_pair(fds);
    open_ends = 0;
    end_open(&end, loop, fds[0]);
    uint8_t *data = fixture_bytes(4 << 20);
    stream_write(&end.stream, bytes_of(data, 4 << 20));
    timer_init(&end.finish_timer, finish_at_once);
    loop_timer_set(loop, &end.finish_timer, NS_PER_MS);
    loop_run(loop);
    assert_int_equal(end.closed, 1);
    assert_int_equal(end.error, ERR_TIMEOUT);
    close(fds[1]);
    mem_free(data);
    fixture_close(loop);
}

static void test_close_in_on_data(void **state)
{
    struct loop *loop = fixture_open(state);
    struct end ends[2];
    open_pair(loop, ends, fixture_pair);
    ends[1].close_in_data = true;
    ends[1].grain = 3;
    ends[1].echo = true; // its flush is queued when it closes
    ends[0].to_send = 100;
    end_feed(&ends[0]);
    loop_run(loop);
    assert_int_equal(ends[1].calls, 1);
    assert_int_equal(ends[1].error, OK);
    assert_int_equal(ends[0].error, ERR_CLOSED);
    fixture_close(loop);
}

static void test_close_in_on_drained(void **state)
{
    struct loop *loop = fixture_open(state);
    struct end ends[2];
    open_pair(loop, ends, fixture_pair);
    ends[0].close_in_drained = true;
    stream_want_drained(&ends[0].stream);
    loop_run(loop);
    assert_int_equal(ends[0].drained, 1);
    assert_int_equal(ends[0].error, ERR_BUSY);
    fixture_close(loop);
}

static void test_error_from_on_data(void **state)
{
    struct loop *loop = fixture_open(state);
    struct end ends[2];
    open_pair(loop, ends, fixture_pair);
    ends[1].fail_with = ERR_PROTOCOL;
    ends[0].to_send = 10;
    end_feed(&ends[0]);
    loop_run(loop);
    assert_int_equal(ends[1].error, ERR_PROTOCOL);
    assert_int_equal(ends[1].calls, 1);
    fixture_close(loop);
}

// The other side ends its direction after the request: the answer still reaches it.
static void half_close(void **state, bool pausing)
{
    struct loop *loop = fixture_open(state);
    struct end end;
    int fds[2];
    fixture_tcp_pair(fds);
    open_ends = 0;
    end_open(&end, loop, fds[0]);
    end.echo = true;
    end.pausing = pausing;
    end.grain = 10000;
    uint8_t *data = fixture_bytes(100000);
    assert_int_equal(send(fds[1], data, 100000, 0), 100000);
    shutdown(fds[1], SHUT_WR);
    loop_run(loop);
    assert_int_equal(end.received, 100000);
    assert_int_equal(end.error, ERR_CLOSED);
    memset(data, 0, 100000);
    assert_int_equal(fcntl(fds[1], F_SETFL, 0), 0);
    assert_int_equal(recv(fds[1], data, 100000, MSG_WAITALL), 100000);
    for (size_t i = 0; i < 100000; i++) {
        assert_int_equal(data[i], fixture_byte(i));
    }
    assert_int_equal(recv(fds[1], data, 1, 0), 0);
    close(fds[1]);
    mem_free(data);
    fixture_close(loop);
}

static void test_half_close(void **state) { half_close(state, false); }
static void test_half_close_paused(void **state) { half_close(state, true); }

static void test_connect_refused(void **state)
{
    struct loop *loop = fixture_open(state);
    struct address address;
    struct end end;
    int fd = -1;
    close(fixture_listen(&address));
    open_ends = 0;
    int error = address_connect(&address, &fd);
    if (error == OK) {
        end_open(&end, loop, fd);
        stream_write(&end.stream, bytes_text("never arrives"));
        loop_run(loop);
        error = end.error;
        assert_int_equal(end.closed, 1);
        assert_int_equal(end.received, 0);
    }
    assert_int_equal(error, ERR_REFUSED);
    fixture_close(loop);
}

static ssize_t greedy_on_data(struct stream *stream, struct bytes data)
{
    struct end *end = CONTAINER_OF(stream, struct end, stream);
    end->received = data.size;
    return 0;
}

static void test_request_too_big(void **state)
{
    static const struct stream_ops greedy_ops = {.on_data = greedy_on_data,
                                                 .on_close = end_on_close};
    struct loop *loop = fixture_open(state);
    struct end ends[2];
    open_pair(loop, ends, fixture_pair);
    ends[1].stream.ops = &greedy_ops;
    ends[0].to_send = 4 * IN_LIMIT;
    end_feed(&ends[0]);
    loop_run(loop);
    assert_int_equal(ends[1].error, ERR_REQUEST_SIZE);
    assert_true(ends[1].received > IN_LIMIT);
    assert_true(ends[1].received <= 2 * IN_LIMIT);
    fixture_close(loop);
}

static void memory_on_drained(struct stream *stream)
{
    assert_int_equal(stream->out.capacity, 0);
    stream_finish(stream);
}

static void test_big_buffers_are_given_back(void **state)
{
    static const struct stream_ops ops = {
        .on_data = end_on_data,
        .on_drained = memory_on_drained,
        .on_close = end_on_close,
    };
    struct loop *loop = fixture_open(state);
    struct end ends[2];
    open_pair(loop, ends, fixture_pair);
    ends[0].stream.ops = &ops;
    uint8_t *data = fixture_bytes(1 << 20);
    stream_write(&ends[0].stream, bytes_of(data, 1 << 20));
    loop_run(loop);
    assert_int_equal(ends[1].received, 1 << 20);
    mem_free(data);
    fixture_close(loop);
}

static void test_thousand_streams(void **state)
{
    enum { STREAMS = 1000 };
    struct loop *loop = fixture_open(state);
    struct end *ends = mem_alloc(2 * STREAMS * sizeof *ends);
    open_ends = 0;
    for (size_t i = 0; i < STREAMS; i++) {
        int fds[2];
        fixture_pair(fds);
        end_open(&ends[2 * i], loop, fds[0]);
        end_open(&ends[2 * i + 1], loop, fds[1]);
        ends[2 * i].to_send = 5000;
        ends[2 * i].finish_at = 5000;
        ends[2 * i + 1].echo = true;
        end_feed(&ends[2 * i]);
    }
    loop_run(loop);
    for (size_t i = 0; i < 2 * STREAMS; i++) {
        assert_int_equal(ends[i].received, 5000);
        assert_int_equal(ends[i].closed, 1);
    }
    mem_free(ends);
    fixture_close(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_echo_one_byte),
        BOTH(test_echo_unix),
        BOTH(test_echo_tcp),
        BOTH(test_echo_slow_unix),
        BOTH(test_echo_slow_tcp),
        BOTH(test_both_ways),
        BOTH(test_send_file_unix),
        BOTH(test_send_file_tcp),
        BOTH(test_send_file_too_short),
        BOTH(test_finish_sends_all),
        BOTH(test_finish_is_bounded),
        BOTH(test_close_in_on_data),
        BOTH(test_close_in_on_drained),
        BOTH(test_error_from_on_data),
        BOTH(test_half_close),
        BOTH(test_half_close_paused),
        BOTH(test_connect_refused),
        BOTH(test_request_too_big),
        BOTH(test_big_buffers_are_given_back),
        BOTH(test_thousand_streams),
    };
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
