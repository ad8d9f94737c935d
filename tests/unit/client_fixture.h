// SPDX-License-Identifier: Apache-2.0
// A daemon that is none: a unix or TCP socket, a thread for each connection, and answers as a test
// wants them. What no step of the test's is for is answered like an instance without any key would,
// of which each connection shows an index of its own, as late as it may.
#ifndef QS_TESTS_UNIT_CLIENT_FIXTURE_H
#define QS_TESTS_UNIT_CLIENT_FIXTURE_H

#include <poll.h>
#include <pthread.h>

#include "common/base/clock.h"
#include "common/client/qs.h"
#include "common/io/address.h"
#include "common/wire/resp.h"
#include "tests/unit/support.h"

#define FALSE_STEPS 64
#define FALSE_ASKED 20000
#define FALSE_LINES 256
#define FALSE_GIVEN 3
#define OLD_HISTORY "00112233445566778899aabbccddeeff"
#define SECOND_MS 1000
#define NEW_HISTORY "ffeeddccbbaa99887766554433221100"

enum how {
    WHOLE,   // sends the answer
    DRIBBLE, // a byte at a time
    CUT,     // half of it, and closes
    CLOSE,   // nothing, and closes
    MUTE,    // nothing
    LAST,    // the answer, and closes
    EARLY,   // the answer at the request's first bytes, and closes
    GIVES,   // the answer, and the daemon's descriptors with it
};

struct false_step {
    const char *word; // the command, as a whole word
    const char *answer;
    enum how how;
};

struct false_daemon {
    char *directory; // NULL: it listens on TCP
    char *address;
    int fd;
    pthread_t thread;
    pthread_mutex_t lock;
    struct false_step steps[FALSE_STEPS];
    unsigned step_count;
    char *asked[FALSE_ASKED]; // the requests, words between blanks, greetings apart
    unsigned asked_count;
    unsigned lines;           // connections so far
    unsigned greeted;
    const char *history;
    uint64_t index;           // the newest
    uint64_t lag;             // a new connection shows an index that much lower
    int given[FALSE_GIVEN];   // descriptors, the test's
    bool closing;
    pthread_t threads[FALSE_LINES];
};

struct false_line {
    struct false_daemon *daemon;
    int fd;
    uint64_t shown;
    struct buf in;
};

// The next request with this word is answered so; steps of one word are taken in order.
SUPPORT void false_step(struct false_daemon *daemon, const char *word, enum how how,
                        const char *answer)
{
    pthread_mutex_lock(&daemon->lock);
    assert_true(daemon->step_count < FALSE_STEPS);
    daemon->steps[daemon->step_count++] =
        (struct false_step){.word = word, .answer = answer, .how = how};
    pthread_mutex_unlock(&daemon->lock);
}

// What it shows from now on; open connections show what they did until they are asked for more.
SUPPORT void false_show(struct false_daemon *daemon, const char *history, uint64_t index,
                        uint64_t lag)
{
    pthread_mutex_lock(&daemon->lock);
    daemon->history = history;
    daemon->index = index;
    daemon->lag = lag;
    pthread_mutex_unlock(&daemon->lock);
}

// How many connections were greeted.
SUPPORT unsigned false_greeted(struct false_daemon *daemon)
{
    pthread_mutex_lock(&daemon->lock);
    unsigned greeted = daemon->greeted;
    pthread_mutex_unlock(&daemon->lock);
    return greeted;
}

// How many requests began with these words.
SUPPORT unsigned false_asked(struct false_daemon *daemon, const char *words)
{
    unsigned count = 0;
    pthread_mutex_lock(&daemon->lock);
    for (unsigned i = 0; i < daemon->asked_count; i++) {
        count += strncmp(daemon->asked[i], words, strlen(words)) == 0 ? 1 : 0;
    }
    pthread_mutex_unlock(&daemon->lock);
    return count;
}

SUPPORT bool false_send(int fd, struct bytes bytes)
{
    size_t sent = 0;
    while (sent < bytes.size) {
        ssize_t size = send(fd, bytes.data + sent, bytes.size - sent, MSG_NOSIGNAL);
        if (size < 0) {
            return false;
        }
        sent += (size_t)size;
    }
    return true;
}

SUPPORT bool false_give(int fd, const int given[FALSE_GIVEN], struct bytes answer)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(FALSE_GIVEN * sizeof(int))] = {0};
    struct iovec vector = {.iov_base = (void *)answer.data, .iov_len = answer.size};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(FALSE_GIVEN * sizeof(int)),
                               .cmsg_level = SOL_SOCKET,
                               .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), given, FALSE_GIVEN * sizeof(int));
    return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)answer.size;
}

// Sends the answer as the step says. False: the connection ends.
SUPPORT bool false_play(int fd, enum how how, struct bytes answer)
{
    switch (how) {
    case WHOLE:
        return false_send(fd, answer);
    case DRIBBLE:
        for (size_t i = 0; i < answer.size; i++) {
            if (!false_send(fd, bytes_of(answer.data + i, 1))) {
                return false;
            }
        }
        return true;
    case CUT:
        (void)false_send(fd, bytes_of(answer.data, answer.size / 2));
        return false;
    case MUTE:
        return true;
    case LAST:
    case EARLY:
        (void)false_send(fd, answer);
        return false;
    case CLOSE:
    case GIVES:
        break;
    }
    return false;
}

static inline uint64_t false_number(struct bytes token)
{
    const uint8_t *colon = memchr(token.data, ':', token.size);
    size_t skip = colon == NULL ? 0 : (size_t)(colon - token.data) + 1;
    uint64_t number;
    assert_true(parse_u64(bytes_of(token.data + skip, token.size - skip), &number));
    return number;
}

// As an empty instance would. Under the lock.
SUPPORT void false_default(struct false_line *line, const struct resp_parser *parser,
                           struct bytes data, struct buf *to)
{
    struct bytes word = resp_word(parser, data, 0);
    size_t count = resp_word_count(parser);
    bool waits = bytes_equal_text(word, "QS.WAITINDEX");
    bool least = count == 5 && bytes_equal_text(resp_word(parser, data, 2), "MININDEX");
    if (waits || least) {
        uint64_t number = false_number(resp_word(parser, data, waits ? 1 : 3));
        if (number > line->daemon->index) {
            reply_error(to, "BEHIND %llu", (unsigned long long)line->daemon->index);
            return;
        }
        line->shown = u64_max(line->shown, number);
    }
    if (bytes_equal_text(word, "QS.GET")) {
        reply_array(to, 3);
        reply_nil(to, 2);
        reply_integer(to, 0);
        reply_integer(to, (int64_t)line->shown);
    } else if (bytes_equal_text(word, "EXISTS")) {
        reply_integer(to, 0);
    } else if (bytes_equal_text(word, "QS.PUT")) {
        reply_integer(to, (int64_t)++line->daemon->index);
    } else {
        reply_integer(to, (int64_t)line->shown);
    }
}

// False: the connection ends.
SUPPORT bool false_answer(struct false_line *line, const struct resp_parser *parser,
                          struct bytes data)
{
    struct false_daemon *daemon = line->daemon;
    struct buf text = {0}, to = {0};
    for (size_t i = 0; i < resp_word_count(parser); i++) {
        struct bytes word = resp_word(parser, data, i);
        buf_append_text(&text, i == 0 ? "" : " ");
        buf_append_bytes(&text, bytes_of(word.data, u64_min(word.size, 100)));
    }
    buf_append(&text, "", 1);
    const char *asked = (const char *)text.data;
    enum how how = WHOLE;
    pthread_mutex_lock(&daemon->lock);
    bool greeting = strcmp(asked, "QS.INDEX TOKEN") == 0;
    size_t word_size = strcspn(asked, " ");
    unsigned at = 0;
    while (at < daemon->step_count && (strlen(daemon->steps[at].word) != word_size ||
                                       strncmp(asked, daemon->steps[at].word, word_size) != 0)) {
        at++;
    }
    if (greeting) {
        char token[QS_TOKEN_BYTES];
        snprintf(token, sizeof token, "%s:%llu", daemon->history, (unsigned long long)line->shown);
        reply_bulk(&to, bytes_text(token));
        daemon->greeted++;
    } else if (at < daemon->step_count) {
        how = daemon->steps[at].how;
        buf_append_text(&to, daemon->steps[at].answer);
        daemon->step_count--;
        memmove(&daemon->steps[at], &daemon->steps[at + 1],
                (daemon->step_count - at) * sizeof daemon->steps[0]);
    } else {
        false_default(line, parser, data, &to);
    }
    if (!greeting && daemon->asked_count < FALSE_ASKED) {
        daemon->asked[daemon->asked_count++] = mem_text(asked);
    }
    pthread_mutex_unlock(&daemon->lock);
    bool goes_on = how == GIVES ? false_give(line->fd, daemon->given, buf_bytes(&to))
                                : false_play(line->fd, how, buf_bytes(&to));
    buf_free(&text);
    buf_free(&to);
    return goes_on;
}

// Answers all requests that are whole. False: the connection ends.
SUPPORT bool false_requests(struct false_line *line)
{
    static const struct resp_limits limits = {
        .request_bytes = 64 * MIB, .words_max = 1000, .inline_max = 100};
    for (;;) {
        struct resp_parser parser;
        resp_open(&parser, &limits);
        ssize_t used = resp_parse(&parser, buf_bytes(&line->in));
        assert_true(used >= 0);
        bool goes_on = used == 0 || false_answer(line, &parser, buf_bytes(&line->in));
        resp_close(&parser);
        if (used == 0 || !goes_on) {
            return goes_on;
        }
        buf_consume(&line->in, (size_t)used);
    }
}

SUPPORT void *false_serve(void *argument)
{
    struct false_line *line = argument;
    struct false_daemon *daemon = line->daemon;
    bool goes_on = true, closing = false;
    while (goes_on && !closing) {
        struct pollfd waiting = {.fd = line->fd, .events = POLLIN};
        if (poll(&waiting, 1, 20) > 0) {
            uint8_t *to = buf_reserve(&line->in, 65536);
            ssize_t size = recv(line->fd, to, 65536, 0);
            goes_on = size > 0;
            buf_commit(&line->in, size > 0 ? (size_t)size : 0);
            pthread_mutex_lock(&daemon->lock);
            bool early = daemon->greeted > 0 && daemon->step_count > 0 &&
                         daemon->steps[0].how == EARLY;
            const char *answer = early ? daemon->steps[0].answer : "";
            daemon->step_count = early ? 0 : daemon->step_count;
            pthread_mutex_unlock(&daemon->lock);
            goes_on = goes_on && (early ? false_play(line->fd, EARLY, bytes_text(answer))
                                        : false_requests(line));
        }
        pthread_mutex_lock(&daemon->lock);
        closing = daemon->closing;
        pthread_mutex_unlock(&daemon->lock);
    }
    close(line->fd);
    buf_free(&line->in);
    mem_free(line);
    return NULL;
}

SUPPORT void *false_accept(void *argument)
{
    struct false_daemon *daemon = argument;
    for (;;) {
        struct pollfd waiting = {.fd = daemon->fd, .events = POLLIN};
        int ready = poll(&waiting, 1, 20);
        pthread_mutex_lock(&daemon->lock);
        bool closing = daemon->closing;
        pthread_mutex_unlock(&daemon->lock);
        if (closing) {
            return NULL;
        }
        int fd = ready > 0 ? accept4(daemon->fd, NULL, NULL, SOCK_CLOEXEC) : -1;
        if (fd < 0) {
            continue;
        }
        struct false_line *line = mem_zalloc(sizeof *line);
        line->daemon = daemon;
        line->fd = fd;
        pthread_mutex_lock(&daemon->lock);
        line->shown = daemon->index - u64_min(daemon->index, daemon->lag);
        assert_true(daemon->lines < FALSE_LINES);
        assert_int_equal(
            pthread_create(&daemon->threads[daemon->lines], NULL, false_serve, line), 0);
        daemon->lines++;
        pthread_mutex_unlock(&daemon->lock);
    }
}

// Ends the listener and all connections; false_begin goes on at the same address.
SUPPORT void false_end(struct false_daemon *daemon)
{
    pthread_mutex_lock(&daemon->lock);
    daemon->closing = true;
    pthread_mutex_unlock(&daemon->lock);
    pthread_join(daemon->thread, NULL);
    for (unsigned i = 0; i < daemon->lines; i++) {
        pthread_join(daemon->threads[i], NULL);
    }
    daemon->lines = 0;
    close(daemon->fd);
}

SUPPORT void false_begin(struct false_daemon *daemon, const char *history, uint64_t index)
{
    struct address address;
    const char *reason;
    false_show(daemon, history, index, daemon->lag);
    daemon->closing = false;
    assert_int_equal(address_parse(&address, daemon->address, &reason), OK);
    assert_int_equal(address_listen(&address, &daemon->fd, &reason), OK);
    assert_int_equal(address_of_socket(daemon->fd, &address), OK);
    mem_free(daemon->address);
    daemon->address = mem_alloc(ADDRESS_TEXT_BYTES);
    address_text(&address, daemon->address);
    assert_int_equal(pthread_create(&daemon->thread, NULL, false_accept, daemon), 0);
}

SUPPORT void false_open(struct false_daemon *daemon, bool tcp)
{
    *daemon = (struct false_daemon){.directory = tcp ? NULL : test_mkdir()};
    daemon->address = tcp ? mem_text("127.0.0.1:0")
                          : mem_format("unix:%s/sock", daemon->directory);
    assert_int_equal(pthread_mutex_init(&daemon->lock, NULL), 0);
    false_begin(daemon, OLD_HISTORY, 10);
}

SUPPORT void false_close(struct false_daemon *daemon)
{
    false_end(daemon);
    for (unsigned i = 0; i < daemon->asked_count; i++) {
        mem_free(daemon->asked[i]);
    }
    pthread_mutex_destroy(&daemon->lock);
    if (daemon->directory != NULL) {
        test_rmdir(daemon->directory);
    }
    mem_free(daemon->address);
}

// ---- a handle for each test --------------------------------------------------------------------

SUPPORT struct qs *open_with(const struct false_daemon *daemon, uint32_t timeout_ms,
                            uint32_t connections)
{
    struct qs_options options = {.size = sizeof options,
                                 .timeout_ms = timeout_ms,
                                 .connections = connections,
                                 .reply_bytes = MIB,
                                 .shared = QS_SHARED_NONE};
    struct qs *qs;
    assert_int_equal(qs_open(&qs, daemon->address, &options), QS_OK);
    return qs;
}

// Long enough for any answer that will come.
SUPPORT struct qs *open_qs(const struct false_daemon *daemon)
{
    return open_with(daemon, 20 * SECOND_MS, 0);
}

struct test {
    struct false_daemon daemon;
    struct qs *qs;
    struct qs_result *result;
};

SUPPORT int set_up(void **state)
{
    struct test *test = mem_zalloc(sizeof *test);
    false_open(&test->daemon, false);
    test->qs = open_qs(&test->daemon);
    test->result = qs_result_new();
    *state = test;
    return 0;
}

SUPPORT int tear_down(void **state)
{
    struct test *test = *state;
    qs_result_free(test->result);
    qs_close(test->qs);
    false_close(&test->daemon);
    mem_free(test);
    return 0;
}

SUPPORT void reopen(struct test *test, uint32_t timeout_ms, uint32_t connections)
{
    qs_close(test->qs);
    test->qs = open_with(&test->daemon, timeout_ms, connections);
}

SUPPORT int get(struct test *test) { return qs_get(test->qs, "k", 1, test->result); }

SUPPORT void check_value(const struct test *test, const char *expected)
{
    struct qs_bytes value;
    assert_int_equal(qs_value(test->result, 0, &value), QS_OK);
    assert_int_equal(value.size, strlen(expected));
    assert_memory_equal(value.data, expected, value.size);
}

SUPPORT int put(struct test *test) { return qs_put(test->qs, "k", 1, "v", 1, NULL); }

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
