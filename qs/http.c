// SPDX-License-Identifier: Apache-2.0
// The HTTP door: a thread of libmicrohttpd's own, so that a scrape waits for no loop and no loop
// for a scrape. Only GET and HEAD; a request's body is read and dropped. Connections are bounded
// in number, time and memory. Pages are rows of one table; each fills a buffer from snapshots. The
// tree's alone may have to wait for other nodes, suspended meanwhile (qs/http_tree.h).
#include "qs/http.h"

#include <inttypes.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/io/address.h"
#include "qs/http_tree.h"
#include "qs/status_parts.h"

#define CONNECTIONS_MAX 64
#define TIMEOUT_SECONDS 10
#define CONNECTION_BYTES (32 * KIB)

// A request: allocated with its head, freed when it is over.
struct http_request {
    struct http_tree *tree; // NULL: it waits for none
};

struct http {
    struct MHD_Daemon *server;
    struct daemon *daemon;
    struct http_trees *trees;
    char address[ADDRESS_TEXT_BYTES];
};

static unsigned page_metrics(struct daemon *daemon, struct buf *to)
{
    status_refresh(daemon);
    metrics_text_node(to, &daemon->metrics);
    const struct instance_metrics **metrics = mem_alloc(daemon->instance_count * sizeof *metrics);
    const char **names = mem_alloc(daemon->instance_count * sizeof *names);
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        metrics[i] = &daemon->instances[i].metrics;
        names[i] = daemon->instances[i].instance->name;
    }
    metrics_text_instances(to, metrics, names, daemon->instance_count);
    mem_free(metrics);
    mem_free(names);
    return MHD_HTTP_OK;
}

static void warn_of_age(struct daemon *daemon, struct buf *to)
{
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        struct instance *instance = daemon->instances[i].instance;
        if (METRIC_GET(&daemon->instances[i].metrics, instance, age_alarm) != 0) {
            buf_format(to, "warning: instance %s has old data, ", instance->name);
            uint64_t age_ms = status_ms(instance_age_ns(instance));
            if (age_ms == UINT64_MAX) {
                buf_append_text(to, "of unknown age");
            } else {
                buf_format(to, "%" PRIu64 " ms", age_ms);
            }
            buf_format(to, "; alarm_age is %" PRIu64 " ms\n", daemon->config->node.alarm_age);
        }
    }
}

static unsigned page_healthz(struct daemon *daemon, struct buf *to)
{
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        struct instance *instance = daemon->instances[i].instance;
        if (instance_state(instance) == INSTANCE_STOPPED) {
            buf_format(to, "instance %s has stopped taking updates, see the log\n", instance->name);
        }
    }
    if (to->size > 0) {
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    }
    buf_append_text(to, "ok\n");
    warn_of_age(daemon, to);
    return MHD_HTTP_OK;
}

static unsigned page_readyz(struct daemon *daemon, struct buf *to)
{
    uint64_t limit_ms = daemon->config->node.ready_age;
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        struct instance *instance = daemon->instances[i].instance;
        enum instance_state state = instance_state(instance);
        uint64_t age_ms = status_ms(instance_age_ns(instance));
        if (state != INSTANCE_SERVING) {
            buf_format(to, "instance %s is %s\n", instance->name, instance_state_text(state));
        } else if (age_ms == UINT64_MAX) {
            buf_format(to, "instance %s does not know the age of its data\n", instance->name);
        } else if (age_ms > limit_ms) {
            buf_format(to, "instance %s has data %" PRIu64 " ms old, ready_age is %" PRIu64 " ms\n",
                       instance->name, age_ms, limit_ms);
        }
    }
    if (to->size > 0) {
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    }
    buf_append_text(to, "ok\n");
    return MHD_HTTP_OK;
}

static unsigned page_status(struct daemon *daemon, struct buf *to)
{
    status_json(daemon, to);
    buf_append_text(to, "\n");
    return MHD_HTTP_OK;
}

struct page {
    const char *path;
    const char *type;
    // Returns the HTTP status. NULL: the page of the tree.
    unsigned (*fill)(struct daemon *daemon, struct buf *to);
    const char *help;
};

static const struct page pages[] = {
    {"/metrics", "text/plain; version=0.0.4; charset=utf-8", page_metrics, "Prometheus metrics"},
    {"/healthz", "text/plain; charset=utf-8", page_healthz,
     "200 while every instance takes updates; warns of data older than alarm_age"},
    {"/readyz", "text/plain; charset=utf-8", page_readyz,
     "200 while all data is younger than ready_age"},
    {"/api/status", "application/json", page_status, "everything about this daemon"},
    {"/api/tree", "application/json", NULL,
     "this node's place in the tree of each instance, and every node of it"},
};

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
                              struct buf *body)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        body->size, body->data != NULL ? (void *)body->data : "", MHD_RESPMEM_MUST_COPY);
    buf_free(body);
    if (response == NULL) {
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    }
    enum MHD_Result queued = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return queued;
}

static const struct page *page_at(const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        if (strcmp(path, pages[i].path) == 0) {
            return &pages[i];
        }
    }
    return NULL;
}

static enum MHD_Result answer_page(struct http *http, struct MHD_Connection *connection,
                                   struct http_request *request, const char *path,
                                   const char *method)
{
    struct buf body = {0};
    const char *plain = "text/plain; charset=utf-8";
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        buf_append_text(&body, "only GET and HEAD\n");
        return answer(connection, MHD_HTTP_METHOD_NOT_ALLOWED, plain, &body);
    }
    const struct page *page = page_at(path);
    if (page != NULL && page->fill != NULL) {
        unsigned status = page->fill(http->daemon, &body);
        return answer(connection, status, page->type, &body);
    }
    if (page != NULL && request->tree == NULL) {
        request->tree = http_tree_start(http->trees, connection);
        return MHD_YES; // on_request is called again
    }
    if (page != NULL) {
        http_tree_show(request->tree, &body);
        return answer(connection, MHD_HTTP_OK, page->type, &body);
    }
    buf_append_text(&body, "there is:\n");
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        buf_format(&body, "  %-12s %s\n", pages[i].path, pages[i].help);
    }
    return answer(connection, MHD_HTTP_NOT_FOUND, plain, &body);
}

// libmicrohttpd calls this once for the head, once for each part of a body, and once at the end;
// an answer before the end would cut the connection.
static enum MHD_Result on_request(void *argument, struct MHD_Connection *connection,
                                  const char *path, const char *method, const char *version,
                                  const char *upload, size_t *upload_size, void **request)
{
    (void)version;
    (void)upload;
    if (*request == NULL) {
        *request = mem_zalloc(sizeof(struct http_request));
        return MHD_YES;
    }
    if (*upload_size != 0) {
        *upload_size = 0;
        return MHD_YES;
    }
    return answer_page(argument, connection, *request, path, method);
}

static void on_over(void *argument, struct MHD_Connection *connection, void **request,
                    enum MHD_RequestTerminationCode code)
{
    (void)argument;
    (void)connection;
    (void)code;
    struct http_request *over = *request;
    if (over != NULL) {
        http_tree_free(over->tree);
        mem_free(over);
        *request = NULL;
    }
}

static int start_server(struct http *http, int fd, const char **ret_reason)
{
    http->trees = http_trees_open(http->daemon);
    http->server = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0,
                                    NULL, NULL, on_request, http, MHD_OPTION_NOTIFY_COMPLETED,
                                    on_over, http, MHD_OPTION_LISTEN_SOCKET, fd,
                                    MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
                                    MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)TIMEOUT_SECONDS,
                                    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
                                    MHD_OPTION_END);
    if (http->server == NULL) {
        http_trees_close(http->trees);
        close(fd);
        *ret_reason = "the HTTP server did not start";
        return ERR_IO;
    }
    return OK;
}

int http_open(struct http **ret_http, struct daemon *daemon, const char **ret_reason)
{
    const char *admin = daemon->config->node.admin;
    if (admin == NULL) {
        *ret_http = NULL;
        return OK;
    }
    struct address address;
    int fd;
    int error = address_parse(&address, admin, ret_reason);
    if (error == OK) {
        error = address_listen(&address, &fd, ret_reason);
    }
    if (error != OK) {
        return error;
    }
    struct http *http = mem_zalloc(sizeof *http);
    http->daemon = daemon;
    if (address_of_socket(fd, &address) == OK) {
        address_text(&address, http->address);
    }
    error = start_server(http, fd, ret_reason);
    if (error != OK) {
        mem_free(http);
        return error;
    }
    log_line(LOG_INFO, NULL, "HTTP on %s", http->address);
    *ret_http = http;
    return OK;
}

void http_close(struct http *http)
{
    if (http != NULL) {
        http_trees_end(http->trees);
        MHD_stop_daemon(http->server);
        http_trees_close(http->trees);
        mem_free(http);
    }
}
