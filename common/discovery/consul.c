// SPDX-License-Identifier: Apache-2.0
#include "common/discovery/consul.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define TOKEN_BYTES_MAX 4096
#define CONNECT_MS 2000
#define CONNECTIONS_KEPT 8
#define KEEPALIVE_S 5

struct consul {
    CURLM *multi;
    const struct consul_options *options;
    struct node_metrics *metrics;
    char *base;             // of each URL
    const char *socket;     // path of the agent's unix socket, or NULL
    struct timespec read;   // when the token's file that is known was written
    ino_t inode;
    char token[TOKEN_BYTES_MAX + 32]; // the whole header line; "" = none
    struct log_gate token_gate;
    unsigned life;
};

// ---- life --------------------------------------------------------------------------------------

int consul_open(struct consul **ret_consul, const struct consul_options *options,
                struct node_metrics *metrics, const char **ret_reason)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        *ret_reason = "libcurl does not start";
        return ERR_IO;
    }
    struct consul *consul = mem_zalloc(sizeof *consul);
    *consul = (struct consul){.multi = curl_multi_init(), .options = options, .metrics = metrics};
    CHECK(consul->multi != NULL);
    curl_multi_setopt(consul->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT);
    if (strncmp(options->http, "unix:", 5) == 0) {
        consul->socket = options->http + 5;
        consul->base = mem_text("http://localhost");
    } else {
        bool whole = strstr(options->http, "://") != NULL;
        consul->base = mem_format("%s%s", whole ? "" : "http://", options->http);
    }
    *ret_consul = consul;
    return OK;
}

void consul_close(struct consul *consul)
{
    curl_multi_cleanup(consul->multi);
    mem_free(consul->base);
    memset(consul->token, 0, sizeof consul->token);
    mem_free(consul);
}

void consul_wake(struct consul *consul) { curl_multi_wakeup(consul->multi); }

unsigned consul_life(const struct consul *consul) { return consul->life; }

void consul_begin_life(struct consul *consul) { consul->life++; }

// ---- the token ---------------------------------------------------------------------------------

static bool take_token(struct consul *consul, const uint8_t *text, size_t size)
{
    while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == '\r' ||
                        text[size - 1] == ' ')) {
        size--;
    }
    for (size_t i = 0; i < size; i++) {
        if (text[i] <= 0x20 || text[i] >= 0x7f) {
            return false;
        }
    }
    int length = snprintf(consul->token, sizeof consul->token, "X-Consul-Token: %.*s", (int)size,
                          (const char *)text);
    return size > 0 && length < (int)sizeof consul->token;
}

// Whoever replaces the file may be in the middle of it: the token that is known stays until
// another one can be read.
static void refresh_token(struct consul *consul)
{
    const char *path = consul->options->token_file;
    struct stat now;
    if (path == NULL) {
        return;
    }
    uint8_t text[TOKEN_BYTES_MAX];
    size_t size = 0;
    if (stat(path, &now) != 0) {
        LOG_GATED(&consul->token_gate, LOG_WARN, NULL, "cannot read the token_file %s: %s", path,
                  strerror(errno));
        return;
    }
    if (now.st_ino == consul->inode && now.st_mtim.tv_sec == consul->read.tv_sec &&
        now.st_mtim.tv_nsec == consul->read.tv_nsec) {
        return;
    }
    int error = file_load(path, text, sizeof text, &size);
    if (error != OK) {
        LOG_GATED(&consul->token_gate, LOG_WARN, NULL, "cannot read the token_file %s: %s", path,
                  error == ERR_CORRUPT ? "it is too long for a token" : strerror(errno));
    } else if (!take_token(consul, text, size)) {
        consul->token[0] = '\0';
        LOG_GATED(&consul->token_gate, LOG_WARN, NULL, "the token_file %s must hold one token, a "
                  "word without blanks", path);
    } else {
        consul->inode = now.st_ino;
        consul->read = now.st_mtim;
    }
}

// ---- one call ----------------------------------------------------------------------------------

static size_t on_body(char *data, size_t one, size_t size, void *argument)
{
    struct consul_call *call = argument;
    (void)one; // is 1
    if (call->body.size + size > CONSUL_ANSWER_MAX) {
        call->oversize = true;
        return 0;
    }
    buf_append(&call->body, data, size);
    return size;
}

static bool header_is(struct bytes line, const char *name, char *ret_value, size_t room)
{
    size_t length = strlen(name);
    if (line.size <= length || strncasecmp((const char *)line.data, name, length) != 0) {
        return false;
    }
    snprintf(ret_value, room, "%.*s", (int)(line.size - length), (const char *)line.data + length);
    return true;
}

static size_t on_header(char *data, size_t one, size_t size, void *argument)
{
    struct consul_call *call = argument;
    (void)one;
    char value[32];
    struct bytes line = bytes_of(data, size);
    if (header_is(line, "X-Consul-Index:", value, sizeof value)) {
        call->index = strtoull(value, NULL, 10);
    } else if (header_is(line, "X-Consul-KnownLeader:", value, sizeof value)) {
        call->leaderless = strstr(value, "false") != NULL;
    }
    return size;
}

static void set_tls(CURL *easy, const struct consul_options *options)
{
    if (options->ca_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, options->ca_file);
    }
    if (options->cert_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_SSLCERT, options->cert_file);
    }
    if (options->key_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_SSLKEY, options->key_file);
    }
}

static void begin(struct consul *consul, struct consul_call *call, const char *path,
                  unsigned timeout_ms)
{
    CHECK(!consul_busy(call));
    CURL *easy = curl_easy_init();
    CHECK(easy != NULL);
    call->consul = consul;
    call->easy = easy;
    call->index = 0;
    call->leaderless = call->oversize = false;
    buf_clear(&call->body);
    char *url = mem_format("%s%s", consul->base, path);
    curl_easy_setopt(easy, CURLOPT_URL, url); // copied
    mem_free(url);
    refresh_token(consul);
    if (consul->token[0] != '\0') {
        call->headers = curl_slist_append(NULL, consul->token);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
    }
    if (consul->socket != NULL) {
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, consul->socket);
    }
    set_tls(easy, consul->options);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); // whatever the environment says
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    // A question may wait for minutes: an agent's host that went and came back shall be noticed.
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_S);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_S);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
}

static void submit(struct consul *consul, struct consul_call *call)
{
    METRIC_ADD(consul->metrics, node, consul_calls, 1);
    CHECK(curl_multi_add_handle(consul->multi, call->easy) == CURLM_OK);
}

void consul_get(struct consul *consul, struct consul_call *call, const char *path,
                unsigned timeout_ms)
{
    begin(consul, call, path, timeout_ms);
    submit(consul, call);
}

void consul_put(struct consul *consul, struct consul_call *call, const char *path,
                struct bytes body, unsigned timeout_ms)
{
    begin(consul, call, path, timeout_ms);
    buf_clear(&call->sent);
    buf_append_bytes(&call->sent, body);
    buf_append(&call->sent, "", 1); // so that it points somewhere when it is empty
    curl_easy_setopt(call->easy, CURLOPT_CUSTOMREQUEST, "PUT");
    curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.size);
    curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, (char *)call->sent.data);
    submit(consul, call);
}

static void end(struct consul_call *call)
{
    curl_multi_remove_handle(call->consul->multi, call->easy);
    curl_easy_cleanup(call->easy);
    curl_slist_free_all(call->headers);
    buf_free(&call->sent);
    call->easy = call->headers = NULL;
}

void consul_cancel(struct consul_call *call)
{
    if (consul_busy(call)) {
        end(call);
    }
    buf_free(&call->body);
}

// ---- answers -----------------------------------------------------------------------------------

static void judge(const struct consul_call *call, CURLcode code, struct consul_answer *answer)
{
    if (call->oversize) {
        answer->error = ERR_REPLY_SIZE;
        answer->reason = "the answer is too large";
    } else if (code != CURLE_OK) {
        answer->error = code == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT : ERR_IO;
        answer->reason = curl_easy_strerror(code);
    } else if (answer->status < 200 || answer->status > 299) {
        answer->error = ERR_REFUSED;
        answer->reason = "Consul refused";
    }
}

static void finish(struct consul_call *call, CURLcode code)
{
    long status = 0;
    if (code == CURLE_OK) {
        curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
    }
    struct consul_answer answer = {
        .error = OK,
        .status = (unsigned)status,
        .index = call->index,
        .leader = !call->leaderless,
        .reason = "",
    };
    judge(call, code, &answer);
    METRIC_ADD(call->consul->metrics, node, consul_errors, answer.error != OK);
    end(call);
    struct buf body = call->body; // the callback may ask again at once
    call->body = (struct buf){0};
    answer.body = buf_bytes(&body);
    call->answered(call, &answer);
    buf_free(&body);
}

// Returns whether there was one.
static bool give_answers(struct consul *consul)
{
    bool any = false;
    int left, running;
    curl_multi_perform(consul->multi, &running);
    const CURLMsg *message;
    while ((message = curl_multi_info_read(consul->multi, &left)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            CURLcode code = message->data.result;
            char *call = NULL;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
            finish((struct consul_call *)(void *)call, code);
            any = true;
        }
    }
    return any;
}

void consul_wait(struct consul *consul, struct pollfd *others, unsigned other_count,
                 unsigned timeout_ms)
{
    CHECK(other_count <= CONSUL_WAIT_MAX);
    struct curl_waitfd extra[CONSUL_WAIT_MAX];
    for (unsigned i = 0; i < other_count; i++) {
        extra[i] = (struct curl_waitfd){.fd = others[i].fd};
        extra[i].events = (short)((others[i].events & POLLIN ? CURL_WAIT_POLLIN : 0) |
                                  (others[i].events & POLLOUT ? CURL_WAIT_POLLOUT : 0));
    }
    if (give_answers(consul)) { // what was asked goes out before the wait
        timeout_ms = 0;
    }
    curl_multi_poll(consul->multi, extra, other_count, (int)timeout_ms, NULL);
    for (unsigned i = 0; i < other_count; i++) {
        others[i].revents = (short)((extra[i].revents & CURL_WAIT_POLLIN ? POLLIN : 0) |
                                    (extra[i].revents & CURL_WAIT_POLLOUT ? POLLOUT : 0));
    }
    (void)give_answers(consul);
}
