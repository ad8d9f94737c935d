// SPDX-License-Identifier: Apache-2.0
// What the section `hops` of the comparison with peers stands on: what is told of a run's writes,
// and the client of etcd's gateway, here against one that answers as it is told to.
#include <pthread.h>
#include <sys/socket.h>
#include <netinet/in.h>

#include "bench/etcd.h"
#include "bench/hop.h"
#include "common/base/clock.h"
#include "tests/unit/support.h"

// ---- what is told -------------------------------------------------------------------------------

enum { WRITES = 4, FIRST = 7 };

static struct hop_run *some_run(void)
{
    struct hop_run *run = mem_zalloc(sizeof *run);
    run->first = FIRST;
    run->count = WRITES;
    run->rate = 1000; // one a millisecond
    run->began_ns = NS_PER_S;
    run->seen = mem_zalloc(WRITES * sizeof *run->seen);
    return run;
}

static void run_free(struct hop_run *run)
{
    mem_free(run->seen);
    mem_free(run);
}

static void told(struct hop_run *run, uint64_t number, uint64_t now)
{
    char key[HOP_KEY_BYTES];
    hop_tell(run, bytes_of(key, hop_key(number, key)), now);
}

// The value is another number's.
static void told_pair(struct hop_run *run, uint64_t number, uint64_t of, uint64_t now)
{
    char key[HOP_KEY_BYTES];
    uint8_t value[HOP_VALUE_BYTES];
    hop_tell_pair(run, bytes_of(key, hop_key(number, key)), hop_value(of, value), now);
}

// Within the width of a bucket.
static bool is_about(uint64_t ns, uint64_t right)
{
    return ns >= right - right / 32 && ns <= right + right / 32;
}

static void writes_are_told_in_order(void **state)
{
    (void)state;
    struct hop_run *run = some_run();
    for (uint64_t n = 0; n < WRITES; n++) {
        told(run, FIRST + n, NS_PER_S + 3 * NS_PER_MS); // the last one in its moment
    }
    assert_true(run->told == WRITES && run->faults == 0);
    assert_true(histogram_ns(&run->latency, 0.25) == 0);
    assert_true(is_about(histogram_ns(&run->latency, 1), 3 * NS_PER_MS)); // of the first
    run_free(run);
    static const uint64_t wrong[][2] = {{FIRST, FIRST}, {FIRST + 1, FIRST}, {FIRST, FIRST + 2}};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        run = some_run();
        told(run, wrong[i][0], NS_PER_S);
        told(run, wrong[i][1], NS_PER_S);
        assert_true(run->faults > 0);
        run_free(run);
    }
}

static void pairs_are_told_once_in_any_order(void **state)
{
    (void)state;
    struct hop_run *run = some_run();
    for (uint64_t n = WRITES; n > 0; n--) {
        told_pair(run, FIRST + n - 1, FIRST + n - 1, NS_PER_S + n * NS_PER_MS);
    }
    assert_true(run->told == WRITES && run->faults == 0);
    assert_true(run->told_ns == NS_PER_S + NS_PER_MS);
    // Each a millisecond after it was due itself.
    assert_true(is_about(histogram_ns(&run->latency, 0.25), NS_PER_MS));
    assert_true(is_about(histogram_ns(&run->latency, 1), NS_PER_MS));
    told_pair(run, FIRST, FIRST, NS_PER_S); // again
    assert_true(run->told == WRITES && run->faults == 1);
    run_free(run);
    run = some_run();
    told_pair(run, FIRST - 1, FIRST - 1, NS_PER_S);
    told_pair(run, FIRST + WRITES, FIRST + WRITES, NS_PER_S);
    hop_tell_pair(run, bytes_text("hop:000000000000000"), bytes_text(""), NS_PER_S);
    hop_tell_pair(run, bytes_text("hop:000000000000000x"), bytes_text(""), NS_PER_S);
    hop_tell_pair(run, bytes_text("pop:0000000000000007"), bytes_text(""), NS_PER_S);
    assert_true(run->told == 0 && run->faults == 5); // none of them is the run's
    told_pair(run, FIRST, FIRST + 1, NS_PER_S);
    assert_true(run->told == 1 && run->faults == 6); // not its value
    run_free(run);
}

static void rates_are_plain_and_half_at_most(void **state)
{
    (void)state;
    static const uint64_t rates[][2] = {
        {0, 0},       {1, 0},       {2, 1},       {3, 1},        {399, 100},
        {400, 200},   {999, 200},   {1000, 500},  {4196, 2000},  {39999, 10000},
    };
    for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
        assert_int_equal(hop_rate(rates[i][0]), rates[i][1]);
    }
}

// ---- answers ------------------------------------------------------------------------------------

#define HEADER "\"header\":{\"revision\":\"2\"}"
#define CREATED "{\"result\":{" HEADER ",\"created\":true}}\n"
#define EVENT(pair) "{\"kv\":{" pair ",\"version\":\"1\"}}"
#define ONE "\"key\":\"b25l\",\"value\":\"AQ==\""
#define TWO "\"key\":\"dHdv\",\"value\":\"AQI=\""
#define EVENTS(all) "{\"result\":{" HEADER ",\"events\":[" all "]}}\n"

struct heard {
    char text[64]; // keys, each with the length of its value
};

static void hear(void *of, struct bytes key, struct bytes value)
{
    struct heard *heard = of;
    size_t at = strlen(heard->text);
    snprintf(heard->text + at, sizeof heard->text - at, "%.*s %zu;", (int)key.size,
             (const char *)key.data, value.size);
}

static void a_stream_may_be_cut_anywhere(void **state)
{
    (void)state;
    static const char text[] = CREATED EVENTS(EVENT(ONE) "," EVENT(TWO)) EVENTS(EVENT(TWO));
    for (size_t cut = 0; cut < sizeof text; cut++) {
        for (size_t step = 1; step <= sizeof text; step += sizeof text - 1) { // bytes, or the rest
            struct heard heard = {""};
            struct etcd_answers answers = {.pair = hear, .of = &heard};
            assert_true(etcd_answers_add(&answers, bytes_of(text, cut)));
            assert_true(answers.watching == (cut >= strlen(CREATED)));
            for (size_t at = cut; at < strlen(text); at += step) {
                size_t size = strlen(text) - at < step ? strlen(text) - at : step;
                assert_true(etcd_answers_add(&answers, bytes_of(text + at, size)));
            }
            assert_string_equal(heard.text, "one 1;two 2;two 2;");
            assert_true(answers.count == 3 && answers.rest.size == 0);
            etcd_answers_free(&answers);
        }
    }
}

static void an_answer_may_end_without_a_line_feed(void **state)
{
    (void)state;
    struct heard heard = {""};
    struct etcd_answers answers = {.pair = hear, .of = &heard};
    struct bytes text = bytes_text("{" HEADER ",\"kvs\":[{" ONE "},{" TWO "}],\"count\":\"2\"}");
    assert_true(etcd_answers_add(&answers, text));
    assert_true(heard.text[0] == '\0' && answers.count == 0);
    assert_true(etcd_answers_end(&answers) && answers.count == 1);
    assert_string_equal(heard.text, "one 1;two 2;");
    assert_true(etcd_answers_add(&answers, text) && etcd_answers_end(&answers)); // the next one's
    assert_int_equal(answers.count, 2);
    etcd_answers_free(&answers);
}

static void faults_are_kept(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"{\"error\":\"illegal base64 data\",\"code\":3}\n", "illegal base64 data"},
        {"{\"error\":{\"grpc_code\":8,\"message\":\"no space\"}}\n", "no space"},
        {"{\"error\":{}}\n", "no reason"},
        {"{\"result\":{" HEADER ",\"canceled\":true}}\n", "the watch was cancelled"},
        {"{}\n", "no answer of etcd's"},
        {"[]\n", "no answer of etcd's"},
        {"404 page not found\n", "no JSON"},
        {"{" HEADER "\n}\n", "no JSON"},
        {EVENTS("{\"type\":\"DELETE\",\"kv\":{\"key\":\"b25l\"}}"), "something else than a put"},
        {EVENTS(EVENT("\"key\":\"b25\",\"value\":\"AQ==\"")), "not in base64"},
        {EVENTS(EVENT("\"key\":\"b25l\",\"value\":7")), "not in base64"},
        {EVENTS(EVENT("\"value\":\"AQ==\"")), "not in base64"},
        {EVENTS("7"), "not in base64"},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct heard heard = {""};
        struct etcd_answers answers = {.pair = hear, .of = &heard};
        assert_true(etcd_answers_add(&answers, bytes_text(CREATED)));
        assert_false(etcd_answers_add(&answers, bytes_text(wrong[i][0])));
        assert_false(etcd_answers_add(&answers, bytes_text(EVENTS(EVENT(ONE))))); // too late
        assert_false(etcd_answers_end(&answers));
        assert_non_null(strstr(answers.fault, wrong[i][1]));
        assert_string_equal(heard.text, "");
        etcd_answers_free(&answers);
    }
}

// ---- requests -----------------------------------------------------------------------------------

// Takes one request and gives one answer; then it is gone, or waits until the client is.
struct gateway {
    const char *answer;
    bool waits;
    int listener;
    unsigned port;
    pthread_t thread;
    char request[1024];
};

static bool is_whole(const char *request)
{
    const char *length = strstr(request, "Content-Length: "), *end = strstr(request, "\r\n\r\n");
    return length != NULL && end != NULL && strlen(end + 4) >= strtoul(length + 16, NULL, 10);
}

static void *serve(void *of)
{
    struct gateway *gateway = of;
    int fd = accept(gateway->listener, NULL, NULL);
    size_t size = 0;
    ssize_t got = 1;
    while (got > 0 && !is_whole(gateway->request)) {
        got = recv(fd, gateway->request + size, sizeof gateway->request - 1 - size, 0);
        size += got > 0 ? (size_t)got : 0;
    }
    (void)!write(fd, gateway->answer, strlen(gateway->answer));
    char rest;
    while (gateway->waits && recv(fd, &rest, 1, 0) > 0) {
    }
    close(fd);
    return NULL;
}

static void gateway_open(struct gateway *gateway, const char *answer, bool waits)
{
    *gateway = (struct gateway){.answer = answer, .waits = waits};
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    gateway->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(gateway->listener, (const struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(gateway->listener, 1), 0);
    assert_int_equal(getsockname(gateway->listener, (struct sockaddr *)&address, &size), 0);
    gateway->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&gateway->thread, NULL, serve, gateway), 0);
}

static void gateway_close(struct gateway *gateway)
{
    pthread_join(gateway->thread, NULL);
    close(gateway->listener);
}

static void assert_asked(const struct gateway *gateway, const char *path, const char *body)
{
    assert_true(strncmp(gateway->request, path, strlen(path)) == 0);
    assert_string_equal(strstr(gateway->request, "\r\n\r\n") + 4, body);
}

#define OK_OF(length) "HTTP/1.1 200 OK\r\nContent-Length: " length "\r\n\r\n"

static void a_put_is_whole_or_a_fault(void **state)
{
    (void)state;
    static const struct {
        const char *answer, *fault; // NULL: none
    } rows[] = {
        {OK_OF("27") "{" HEADER "}", NULL},
        {OK_OF("0"), "no right answer"},
        {OK_OF("55") "{" HEADER "}\n{" HEADER "}", "no right answer"},
        {"HTTP/1.1 500 No\r\nContent-Length: 27\r\n\r\n{" HEADER "}", "no right answer"},
        {"HTTP/1.1 400 No\r\nContent-Length: 16\r\n\r\n{\"error\":\"full\"}", "full"},
        {OK_OF("28") "{" HEADER "}", "partial"}, // it ends too early
        {"", "Server returned nothing"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct gateway gateway;
        gateway_open(&gateway, rows[i].answer, false);
        struct etcd *etcd = etcd_open(gateway.port, NULL, NULL);
        bool done = etcd_put(etcd, bytes_text("one"), bytes_of("\1\2", 2));
        assert_int_equal(done, rows[i].fault == NULL);
        assert_non_null(strstr(etcd_fault(etcd), done ? "" : rows[i].fault));
        etcd_close(etcd);
        gateway_close(&gateway);
        assert_asked(&gateway, "POST /v3/kv/put ", "{\"key\":\"b25l\",\"value\":\"AQI=\"}");
    }
}

static void a_range_gives_its_pairs(void **state)
{
    (void)state;
    struct gateway gateway;
    struct heard heard = {""};
    gateway_open(&gateway, OK_OF("65") "{" HEADER ",\"kvs\":[{" ONE "}]}", false);
    struct etcd *etcd = etcd_open(gateway.port, hear, &heard);
    assert_true(etcd_range(etcd, bytes_text("one"), bytes_text("two")));
    assert_string_equal(heard.text, "one 1;");
    etcd_close(etcd);
    gateway_close(&gateway);
    assert_asked(&gateway, "POST /v3/kv/range ", "{\"key\":\"b25l\",\"range_end\":\"dHdv\"}");
}

static void a_watch_goes_on_until_it_ends(void **state)
{
    (void)state;
    static const char answer[] = "HTTP/1.1 200 OK\r\n\r\n" CREATED EVENTS(EVENT(ONE));
    for (int waits = 0; waits < 2; waits++) {
        struct gateway gateway;
        struct heard heard = {""};
        gateway_open(&gateway, answer, waits);
        struct etcd *etcd = etcd_open(gateway.port, hear, &heard);
        bool fine = etcd_watch(etcd, bytes_text("one"), bytes_text("two"));
        assert_true(fine || !waits);
        while (fine && (!waits || heard.text[0] == '\0')) {
            fine = etcd_wait(etcd, 100);
        }
        assert_int_equal(fine, waits);
        assert_string_equal(etcd_fault(etcd), waits ? "" : "the watch has ended");
        assert_string_equal(heard.text, "one 1;");
        etcd_close(etcd);
        gateway_close(&gateway);
        assert_asked(&gateway, "POST /v3/watch ",
                     "{\"create_request\":{\"key\":\"b25l\",\"range_end\":\"dHdv\"}}");
    }
}

static void a_watch_that_is_refused_says_why(void **state)
{
    (void)state;
    struct gateway gateway;
    gateway_open(&gateway, "HTTP/1.1 200 OK\r\n\r\n{\"error\":{\"message\":\"not now\"}}\n", true);
    struct etcd *etcd = etcd_open(gateway.port, NULL, NULL);
    assert_false(etcd_watch(etcd, bytes_text("one"), bytes_text("two")));
    assert_string_equal(etcd_fault(etcd), "not now");
    etcd_close(etcd);
    gateway_close(&gateway);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_are_told_in_order),
        cmocka_unit_test(pairs_are_told_once_in_any_order),
        cmocka_unit_test(rates_are_plain_and_half_at_most),
        cmocka_unit_test(a_stream_may_be_cut_anywhere),
        cmocka_unit_test(an_answer_may_end_without_a_line_feed),
        cmocka_unit_test(faults_are_kept),
        cmocka_unit_test(a_put_is_whole_or_a_fault),
        cmocka_unit_test(a_range_gives_its_pairs),
        cmocka_unit_test(a_watch_goes_on_until_it_ends),
        cmocka_unit_test(a_watch_that_is_refused_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
