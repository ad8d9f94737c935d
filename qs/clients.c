// SPDX-License-Identifier: Apache-2.0
// Listeners stand on the loops in turn; an accepted connection goes to the next loop of a round
// robin, by a posted task. Everything alive holds a reference on `clients`, a connection on its
// way between two loops too: so `closed` is raised when really nothing is left.
#include "common/wire/resp.h"
#include "qs/clients.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "qs/cursors.h"
#include "qs/session.h"

struct listener {
    struct watch watch;
    struct list node; // in its client_loop's listeners
    struct client_loop *home;
    struct daemon_instance *first;
    struct task open_task;
    int fd;
};

struct arrival {
    struct task task;
    struct client_loop *home;
    struct daemon_instance *first;
    int fd;
};

void clients_hold(struct clients *clients) { atomic_fetch_add(&clients->references, 1); }

void clients_drop(struct clients *clients)
{
    if (atomic_fetch_sub(&clients->references, 1) == 1) {
        CHECK(clients->closed != NULL);
        notice_raise(clients->closed);
    }
}

// ---- connections -------------------------------------------------------------------------------

// On the new home's loop.
static void arrive(struct task *task)
{
    struct arrival *arrival = CONTAINER_OF(task, struct arrival, task);
    struct clients *clients = arrival->home->clients;
    if (atomic_load(&clients->closing)) {
        close(arrival->fd);
        atomic_fetch_sub(&clients->open, 1);
        clients_drop(clients);
    } else {
        session_open(arrival->home, arrival->fd, arrival->first);
    }
    mem_free(arrival);
}

static void refuse(struct clients *clients, int fd)
{
    struct buf words = {0};
    METRIC_ADD(&clients->daemon->metrics, node, clients_refused, 1); // who was told sees it counted
    reply_error_code(&words, ERR_CLIENTS_LIMIT);
    // Best effort, as the socket's buffer is empty; the connection ends either way.
    (void)!send(fd, words.data, words.size, MSG_NOSIGNAL | MSG_DONTWAIT);
    buf_free(&words);
    close(fd);
}

static void on_accept(struct watch *watch, int fd)
{
    struct listener *listener = CONTAINER_OF(watch, struct listener, watch);
    struct clients *clients = listener->home->clients;
    uint64_t open = atomic_fetch_add(&clients->open, 1);
    if (open >= clients->daemon->config->node.clients_max) {
        atomic_fetch_sub(&clients->open, 1);
        refuse(clients, fd);
        return;
    }
    clients_hold(clients);
    unsigned turn = atomic_fetch_add(&clients->turn, 1) % clients->loop_count;
    struct arrival *arrival = mem_alloc(sizeof *arrival);
    *arrival = (struct arrival){.task = {.run = arrive},
                                .home = &clients->loops[turn],
                                .first = listener->first,
                                .fd = fd};
    loop_post(arrival->home->loop, &arrival->task);
}

// ---- listeners ---------------------------------------------------------------------------------

static void listener_free(struct listener *listener)
{
    struct clients *clients = listener->home->clients;
    list_remove(&listener->node);
    mem_free(listener);
    clients_drop(clients);
}

static void on_listener_closed(struct watch *watch)
{
    listener_free(CONTAINER_OF(watch, struct listener, watch));
}

static void listener_start(struct task *task)
{
    static const struct watch_ops ops = {.on_accept = on_accept, .on_closed = on_listener_closed};
    struct listener *listener = CONTAINER_OF(task, struct listener, open_task);
    list_append(&listener->home->listeners, &listener->node);
    loop_watch_open(listener->home->loop, &listener->watch, listener->fd, &ops);
    loop_accept_start(&listener->watch);
}

static int listen_on(struct clients *clients, const char *text, struct daemon_instance *first,
                     struct client_loop *home, struct listener **ret_listener, char **ret_reason)
{
    struct address address;
    const char *reason = NULL;
    int fd = -1;
    int code = address_parse(&address, text, &reason);
    if (code == OK) {
        code = address_listen(&address, &fd, &reason);
    }
    if (code != OK) {
        *ret_reason = mem_format("client address %s: %s", text, reason);
        return code;
    }
    struct listener *listener = mem_zalloc(sizeof *listener);
    list_init(&listener->node);
    listener->home = home;
    listener->first = first;
    listener->fd = fd;
    listener->open_task.run = listener_start;
    clients_hold(clients);
    *ret_listener = listener;
    return OK;
}

struct opening {
    struct clients *clients;
    struct list listeners; // bound, not started
    unsigned count;
    char **ret_reason;
};

static int listen_all(struct opening *opening, const char *const *texts,
                      struct daemon_instance *first)
{
    struct clients *clients = opening->clients;
    for (size_t i = 0; texts != NULL && texts[i] != NULL; i++) {
        struct client_loop *home = &clients->loops[opening->count++ % clients->loop_count];
        struct listener *listener;
        int code = listen_on(clients, texts[i], first, home, &listener, opening->ret_reason);
        if (code != OK) {
            return code;
        }
        list_append(&opening->listeners, &listener->node);
    }
    return OK;
}

static int listen_everywhere(struct opening *opening)
{
    struct daemon *daemon = opening->clients->daemon;
    struct daemon_instance *only = daemon->instance_count == 1 ? &daemon->instances[0] : NULL;
    int code = listen_all(opening, daemon->config->node.client, only);
    for (unsigned i = 0; i < daemon->instance_count && code == OK; i++) {
        struct daemon_instance *at = &daemon->instances[i];
        code = listen_all(opening, at->instance->options->client, at);
    }
    return code;
}

// ---- all ---------------------------------------------------------------------------------------

static void loop_close_all(struct task *task)
{
    struct client_loop *home = CONTAINER_OF(task, struct client_loop, close_task);
    LIST_FOR_EACH(node, &home->listeners) {
        struct listener *listener = CONTAINER_OF(node, struct listener, node);
        loop_watch_close(&listener->watch);
    }
    LIST_FOR_EACH(session_node, &home->sessions) {
        session_close(CONTAINER_OF(session_node, struct session, node));
    }
    clients_drop(home->clients);
}

static struct clients *clients_new(struct daemon *daemon)
{
    size_t size = sizeof(struct clients) + daemon->loop_count * sizeof(struct client_loop);
    struct clients *clients = mem_zalloc(size);
    clients->daemon = daemon;
    clients->cursors = cursors_open((unsigned)daemon->config->node.cursors_max);
    pthread_mutex_init(&clients->lock, NULL);
    list_init(&clients->all);
    clients->references = 1;
    clients->loop_count = daemon->loop_count;
    for (unsigned i = 0; i < daemon->loop_count; i++) {
        struct client_loop *home = &clients->loops[i];
        home->clients = clients;
        home->loop = daemon->loops[i];
        list_init(&home->sessions);
        list_init(&home->listeners);
        list_init(&home->spare);
        home->close_task.run = loop_close_all;
    }
    return clients;
}

int clients_open(struct clients **ret_clients, struct daemon *daemon, char **ret_reason)
{
    CHECK(daemon->loop_count > 0);
    struct clients *clients = clients_new(daemon);
    struct opening opening = {.clients = clients, .ret_reason = ret_reason};
    list_init(&opening.listeners);
    int code = listen_everywhere(&opening);
    if (code == OK) {
        *ret_clients = clients;
    }
    LIST_FOR_EACH(node, &opening.listeners) {
        struct listener *listener = CONTAINER_OF(node, struct listener, node);
        list_remove(node);
        if (code == OK) {
            loop_post(listener->home->loop, &listener->open_task);
        } else {
            close(listener->fd);
            listener_free(listener);
        }
    }
    if (code != OK) {
        clients_free(clients);
    }
    return code;
}

void clients_close(struct clients *clients, struct notice *closed)
{
    clients->closed = closed;
    atomic_store(&clients->closing, true);
    for (unsigned i = 0; i < clients->loop_count; i++) {
        clients_hold(clients);
        loop_post(clients->loops[i].loop, &clients->loops[i].close_task);
    }
    clients_drop(clients);
}

void clients_free(struct clients *clients)
{
    for (unsigned i = 0; i < clients->loop_count; i++) {
        request_free_spare(&clients->loops[i]);
        mem_free(clients->loops[i].words);
    }
    cursors_close(clients->cursors);
    pthread_mutex_destroy(&clients->lock);
    mem_free(clients);
}
