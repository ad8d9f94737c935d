// SPDX-License-Identifier: Apache-2.0
#include "bench/etcd.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/wire/import_text.h"

#define LIMIT_MS 10000 // of a request
#define HTTP_OK 200

// ---- answers ------------------------------------------------------------------------------------

// The first fault is kept; returns false.
static bool fail(struct etcd_answers *answers, const char *text)
{
    if (answers->fault[0] == '\0') {
        snprintf(answers->fault, sizeof answers->fault, "%s", text != NULL ? text : "no reason");
    }
    return false;
}

static bool decode(const json_t *object, const char *name, struct buf *to)
{
    const json_t *text = json_object_get(object, name);
    buf_clear(to);
    return text == NULL || // it is empty
           (json_is_string(text) &&
            base64_decode(to, bytes_of(json_string_value(text), json_string_length(text))));
}

static bool take_pair(struct etcd_answers *answers, const json_t *pair)
{
    if (!decode(pair, "key", &answers->key) || !decode(pair, "value", &answers->value) ||
        answers->key.size == 0) {
        return fail(answers, "a pair is not in base64");
    }
    if (answers->pair != NULL) {
        answers->pair(answers->of, buf_bytes(&answers->key), buf_bytes(&answers->value));
    }
    return true;
}

// A put is told without its type.
static bool take_event(struct etcd_answers *answers, const json_t *event)
{
    if (json_object_get(event, "type") != NULL) {
        return fail(answers, "something else than a put is told");
    }
    return take_pair(answers, json_object_get(event, "kv"));
}

static bool take_all(struct etcd_answers *answers, const json_t *all,
                     bool (*take)(struct etcd_answers *answers, const json_t *one))
{
    size_t count = json_array_size(all);
    bool fine = true;
    for (size_t i = 0; fine && i < count; i++) {
        fine = take(answers, json_array_get(all, i));
    }
    return fine;
}

// {"error": "text"} of a request, {"error": {"message": "text"}} of a stream.
static bool take_error(struct etcd_answers *answers, const json_t *error)
{
    const json_t *inner = json_object_get(error, "message");
    return fail(answers, json_string_value(inner != NULL ? inner : error));
}

static bool take_object(struct etcd_answers *answers, const json_t *object)
{
    const json_t *error = json_object_get(object, "error");
    if (error != NULL) {
        return take_error(answers, error);
    }
    const json_t *result = json_object_get(object, "result"); // of a stream
    const json_t *from = result != NULL ? result : object;
    if (!json_is_object(json_object_get(from, "header"))) {
        return fail(answers, "no answer of etcd's");
    }
    if (json_is_true(json_object_get(from, "canceled"))) {
        return fail(answers, "the watch was cancelled");
    }
    answers->watching = answers->watching || json_is_true(json_object_get(from, "created"));
    answers->count++;
    return take_all(answers, json_object_get(from, "kvs"), take_pair) &&
           take_all(answers, json_object_get(from, "events"), take_event);
}

static bool take_text(struct etcd_answers *answers, struct bytes text)
{
    json_t *object = json_loadb((const char *)text.data, text.size, 0, NULL);
    bool fine = object != NULL ? take_object(answers, object) : fail(answers, "no JSON");
    json_decref(object);
    return fine;
}

bool etcd_answers_add(struct etcd_answers *answers, struct bytes piece)
{
    bool fine = answers->fault[0] == '\0';
    size_t looked = answers->rest.size, taken = 0;
    buf_append_bytes(&answers->rest, piece);
    const uint8_t *data = answers->rest.data, *end;
    while (fine && looked < answers->rest.size &&
           (end = memchr(data + looked, '\n', answers->rest.size - looked)) != NULL) {
        looked = (size_t)(end - data) + 1;
        fine = take_text(answers, bytes_of(data + taken, looked - 1 - taken));
        taken = looked;
    }
    buf_consume(&answers->rest, taken);
    return fine;
}

bool etcd_answers_end(struct etcd_answers *answers)
{
    bool fine = answers->fault[0] == '\0' &&
                (answers->rest.size == 0 || take_text(answers, buf_bytes(&answers->rest)));
    buf_clear(&answers->rest);
    return fine;
}

void etcd_answers_free(struct etcd_answers *answers)
{
    buf_free(&answers->rest);
    buf_free(&answers->key);
    buf_free(&answers->value);
}

// ---- requests -----------------------------------------------------------------------------------

struct etcd {
    CURL *curl;
    CURLM *multi; // of a watch
    struct curl_slist *headers;
    unsigned port;
    struct buf body;
    struct etcd_answers answers;
};

static size_t receive(char *data, size_t one, size_t size, void *of)
{
    struct etcd *etcd = of;
    (void)one;
    return etcd_answers_add(&etcd->answers, bytes_of(data, size)) ? size : 0;
}

struct etcd *etcd_open(unsigned port, etcd_pair *pair, void *of)
{
    CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    struct etcd *etcd = mem_zalloc(sizeof *etcd);
    *etcd = (struct etcd){
        .curl = curl_easy_init(),
        .headers = curl_slist_append(NULL, "Content-Type: application/json"),
        .port = port,
        .answers = {.pair = pair, .of = of},
    };
    CHECK(etcd->curl != NULL && etcd->headers != NULL);
    curl_easy_setopt(etcd->curl, CURLOPT_HTTPHEADER, etcd->headers);
    curl_easy_setopt(etcd->curl, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(etcd->curl, CURLOPT_WRITEDATA, etcd);
    curl_easy_setopt(etcd->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(etcd->curl, CURLOPT_PROXY, ""); // whatever the environment says
    return etcd;
}

void etcd_close(struct etcd *etcd)
{
    if (etcd->multi != NULL) {
        curl_multi_remove_handle(etcd->multi, etcd->curl);
        curl_multi_cleanup(etcd->multi);
    }
    curl_easy_cleanup(etcd->curl);
    curl_slist_free_all(etcd->headers);
    etcd_answers_free(&etcd->answers);
    buf_free(&etcd->body);
    mem_free(etcd);
}

const char *etcd_fault(const struct etcd *etcd) { return etcd->answers.fault; }

// {"first": "...", "second": "..."}, which may stand inside of something.
static void make_body(struct etcd *etcd, const char *before, const char *const names[2],
                      const struct bytes fields[2], const char *after)
{
    buf_clear(&etcd->body);
    buf_append_text(&etcd->body, before);
    for (size_t i = 0; i < 2; i++) {
        buf_format(&etcd->body, "%s\"%s\":\"", i == 0 ? "{" : ",", names[i]);
        base64_encode(&etcd->body, fields[i]);
        buf_append_text(&etcd->body, "\"");
    }
    buf_format(&etcd->body, "}%s", after);
}

static void set_request(struct etcd *etcd, const char *path, long limit_ms)
{
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/v3/%s", etcd->port, path);
    curl_easy_setopt(etcd->curl, CURLOPT_URL, url);
    curl_easy_setopt(etcd->curl, CURLOPT_POSTFIELDSIZE, (long)etcd->body.size);
    curl_easy_setopt(etcd->curl, CURLOPT_POSTFIELDS, etcd->body.data);
    curl_easy_setopt(etcd->curl, CURLOPT_TIMEOUT_MS, limit_ms);
}

static bool call(struct etcd *etcd, const char *path)
{
    set_request(etcd, path, LIMIT_MS);
    uint64_t before = etcd->answers.count;
    CURLcode code = curl_easy_perform(etcd->curl);
    long status = 0;
    curl_easy_getinfo(etcd->curl, CURLINFO_RESPONSE_CODE, &status);
    bool fine = code == CURLE_OK && etcd_answers_end(&etcd->answers) && status == HTTP_OK &&
                etcd->answers.count == before + 1;
    return fine ||
           fail(&etcd->answers, code != CURLE_OK ? curl_easy_strerror(code) : "no right answer");
}

bool etcd_put(struct etcd *etcd, struct bytes key, struct bytes value)
{
    static const char *const names[2] = {"key", "value"};
    make_body(etcd, "", names, (const struct bytes[2]){key, value}, "");
    return call(etcd, "kv/put");
}

static const char *const range_names[2] = {"key", "range_end"};

bool etcd_range(struct etcd *etcd, struct bytes first, struct bytes end)
{
    make_body(etcd, "", range_names, (const struct bytes[2]){first, end}, "");
    return call(etcd, "kv/range");
}

// ---- watching -----------------------------------------------------------------------------------

bool etcd_wait(struct etcd *etcd, unsigned wait_ms)
{
    int running = 0;
    bool fine = curl_multi_poll(etcd->multi, NULL, 0, (int)wait_ms, NULL) == CURLM_OK &&
                curl_multi_perform(etcd->multi, &running) == CURLM_OK && running > 0;
    return fine || fail(&etcd->answers, "the watch has ended");
}

bool etcd_watch(struct etcd *etcd, struct bytes first, struct bytes end)
{
    make_body(etcd, "{\"create_request\":", range_names, (const struct bytes[2]){first, end}, "}");
    set_request(etcd, "watch", 0);
    etcd->multi = curl_multi_init();
    int running = 0;
    bool fine = etcd->multi != NULL && curl_multi_add_handle(etcd->multi, etcd->curl) == CURLM_OK &&
                curl_multi_perform(etcd->multi, &running) == CURLM_OK;
    uint64_t until = clock_mono_ns() + LIMIT_MS * NS_PER_MS;
    while (fine && !etcd->answers.watching) {
        fine = clock_mono_ns() < until && etcd_wait(etcd, 1);
    }
    return fine || fail(&etcd->answers, "the watch does not begin");
}
