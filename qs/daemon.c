// SPDX-License-Identifier: Apache-2.0
// Startup is a table of open/close pairs: opened in order, closed in reverse, from wherever it
// stopped. Nothing runs before all is open; nothing is freed before the threads that use it ended.
#include "qs/daemon.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/chair/chair.h"
#include "common/tree/regain.h"
#include "proxy/fetch.h"
#include "proxy/proxy.h"
#include "qs/clients.h"
#include "qs/discover.h"
#include "qs/forwarded.h"
#include "qs/http.h"
#include "replica/answer.h"
#include "replica/replica.h"
#include "replica/sequencer.h"

#define LOOPS_AUTO_MAX 4

// ---- waiting for something that closes on other threads -----------------------------------------

// A mailbox of the main thread: it sleeps on the semaphore until a notice was raised.
struct gate {
    struct mailbox mailbox;
    sem_t woken;
    struct notice closed;
    bool passed;
};

static void gate_wake(void *argument) { sem_post(argument); }

static void gate_pass(struct notice *notice)
{
    CONTAINER_OF(notice, struct gate, closed)->passed = true;
}

static void gate_open(struct gate *gate)
{
    sem_init(&gate->woken, 0, 0);
    gate->mailbox = (struct mailbox){.wake = gate_wake, .argument = &gate->woken};
    notice_init(&gate->closed, &gate->mailbox, gate_pass);
    gate->passed = false;
}

static void gate_await(struct gate *gate)
{
    while (!gate->passed) {
        while (sem_wait(&gate->woken) != 0) {
        }
        struct task *task = mailbox_take(&gate->mailbox);
        while (task != NULL) {
            struct task *next = task->next;
            task->run(task);
            task = next;
        }
    }
    sem_destroy(&gate->woken);
}

// ---- parts, in the order of opening
// --------------------------------------------------------------

static unsigned loops_wanted(const struct node_options *options)
{
    if (options->loops != 0) {
        return (unsigned)options->loops;
    }
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : (unsigned)u64_min((uint64_t)cores, LOOPS_AUTO_MAX);
}

static int open_loops(struct daemon *daemon)
{
    unsigned wanted = loops_wanted(&daemon->config->node);
    enum io_kind kind = (enum io_kind)daemon->config->node.io;
    while (daemon->loop_count < wanted) {
        const char *reason = NULL;
        int error =
            loop_open(&daemon->loops[daemon->loop_count], kind, daemon->loop_count, &reason);
        if (error != OK) {
            log_line(LOG_ERROR, NULL, "cannot open the I/O back end: %s",
                     reason != NULL ? reason : error_text(error));
            return error;
        }
        kind = loop_kind(daemon->loops[0]); // decided once
        loop_busy_poll(daemon->loops[daemon->loop_count],
                       daemon->config->node.busy_poll * NS_PER_US);
        daemon->loop_count++;
    }
    METRIC_SET(&daemon->metrics, node, io_uring, kind == IO_URING);
    log_line(LOG_INFO, NULL, "node %s: %u loops on %s", daemon->config->node.node,
             daemon->loop_count, kind == IO_URING ? "io_uring" : "epoll");
    return OK;
}

static void close_loops(struct daemon *daemon)
{
    for (unsigned i = 0; i < daemon->loop_count; i++) {
        loop_close(daemon->loops[i]);
    }
}

static int open_readers(struct daemon *daemon)
{
    daemon->cache = store_cache_open(daemon->config->node.block_cache);
    int error = readers_open(&daemon->readers, (unsigned)daemon->config->node.readers);
    return error == OK ? readers_open(&daemon->donors, 1) : error;
}

static void close_readers(struct daemon *daemon)
{
    if (daemon->readers != NULL) {
        readers_close(daemon->readers);
    }
    if (daemon->donors != NULL) {
        readers_close(daemon->donors);
    }
    store_cache_close(daemon->cache);
}

static int open_walker(struct daemon *daemon) { return walker_open(&daemon->walker); }

static void close_walker(struct daemon *daemon)
{
    if (daemon->walker != NULL) {
        walker_close(daemon->walker);
    }
}

static int open_links(struct daemon_instance *each, const struct config *config)
{
    struct instance *instance = each->instance;
    each->fanout = fanout_open(instance);
    if (each->sequencer != NULL) {
        forwarded_open(each);
    }
    if (each->sequencer != NULL && instance->lead == NULL) {
        regain_open(instance);
    }
    int error = OK;
    if (instance->options->role == ROLE_PROXY) {
        error = fetch_open(instance);
    }
    if (error == OK && (instance->options->role != ROLE_ROOT || instance->lead != NULL)) {
        error = follow_open(instance);
    }
    if (error == OK && instance->lead != NULL && instance->lead->council) {
        each->chair = chair_open(&(struct chair_setup){
            .instance = instance, .service_prefix = config->consul.service_prefix});
    }
    return error;
}

static int open_instance(struct daemon *daemon, struct daemon_instance *each,
                         const struct instance_options *options)
{
    bool root = options->role == ROLE_ROOT;
    each->beats = beats_open();
    each->sequencer = root ? sequencer_open() : NULL;
    struct instance_setup setup = {
        .node = &daemon->config->node,
        .options = options,
        .role = options->role == ROLE_PROXY ? proxy_role() : replica_role(),
        .cache = daemon->cache,
        .metrics = &each->metrics,
        .beats = each->beats,
        .sequencer = each->sequencer,
        .home = daemon->loops[options->number % daemon->loop_count],
        .sequence = root ? sequencer_turn : NULL,
        .answer = root ? sequencer_answer : NULL,
        .council = daemon->config->consul.given,
    };
    int error = instance_open(&each->instance, &setup);
    if (error != OK) {
        log_line(LOG_ERROR, options->name, "the instance cannot be opened: %s", error_text(error));
        return error;
    }
    walker_add(daemon->walker, each->instance);
    return open_links(each, daemon->config);
}

static int open_instances(struct daemon *daemon)
{
    const struct config *config = daemon->config;
    daemon->instances = mem_zalloc(config->instance_count * sizeof *daemon->instances);
    for (size_t i = 0; i < config->instance_count; i++) {
        daemon->instance_count++;
        int error = open_instance(daemon, &daemon->instances[i], &config->instances[i]);
        if (error != OK) {
            return error;
        }
    }
    return OK;
}

static void close_instances(struct daemon *daemon)
{
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        struct daemon_instance *each = &daemon->instances[i];
        if (each->instance != NULL) {
            struct gate gate;
            gate_open(&gate);
            walker_remove(daemon->walker, each->instance, &gate.closed);
            gate_await(&gate);
            regain_free(each->instance);
            enum instance_end end = instance_close(each->instance);
            daemon->left_open |= end != INSTANCE_CLOSED;
            daemon->unflushed |= end == INSTANCE_LEFT_OPEN;
        }
        if (each->chair != NULL) {
            chair_free(each->chair);
        }
        if (each->fanout != NULL) {
            fanout_close(each->fanout);
        }
        if (each->sequencer != NULL) {
            sequencer_close(each->sequencer);
        }
        if (each->beats != NULL) {
            beats_close(each->beats);
        }
    }
    mem_free(daemon->instances);
}

static struct fanout *find_fanout(void *owner, struct bytes name)
{
    struct daemon_instance *found = daemon_find(owner, name);
    return found != NULL ? found->fanout : NULL;
}

static bool answer_fetches(void *owner, struct link *link, const struct message_hello *hello)
{
    struct daemon *daemon = owner;
    struct daemon_instance *found = daemon_find(daemon, hello->instance);
    if (found == NULL || found->instance->options->role == ROLE_PROXY) {
        return false;
    }
    return answer_accept(found->instance, daemon->readers, link, hello);
}

static const char *talk(void *owner, struct link *link, const struct message_hello *hello)
{
    struct daemon_instance *found = daemon_find(owner, hello->instance);
    if (found == NULL || found->chair == NULL) {
        return "this is no root that asks Consul who leads";
    }
    return chair_accept(found->chair, link, hello);
}

static int open_peers(struct daemon *daemon)
{
    if (daemon->config->node.peer == NULL) {
        return OK;
    }
    struct peers_setup setup = {
        .node = &daemon->config->node,
        .metrics = &daemon->metrics,
        .loops = daemon->loops,
        .loop_count = daemon->loop_count,
        .readers = daemon->donors,
        .owner = daemon,
        .find = find_fanout,
        .answer = answer_fetches,
        .talk = talk,
    };
    const char *reason = NULL;
    int error = peers_open(&daemon->peers, &setup, &reason);
    if (error != OK) {
        log_line(LOG_ERROR, NULL, "cannot listen for peers on %s: %s", daemon->config->node.peer,
                 reason != NULL ? reason : error_text(error));
    }
    return error;
}

static void close_peers(struct daemon *daemon)
{
    if (daemon->peers != NULL) {
        peers_free(daemon->peers);
    }
}

static int open_clients(struct daemon *daemon)
{
    char *reason = NULL;
    int error = clients_open(&daemon->clients, daemon, &reason);
    if (error != OK) {
        log_line(LOG_ERROR, NULL, "%s", reason != NULL ? reason : error_text(error));
        mem_free(reason);
    }
    return error;
}

static void close_clients(struct daemon *daemon)
{
    if (daemon->clients != NULL) {
        clients_free(daemon->clients);
    }
}

static int open_http(struct daemon *daemon)
{
    const char *reason = NULL;
    int error = http_open(&daemon->http, daemon, &reason);
    if (error != OK) {
        log_line(LOG_ERROR, NULL, "cannot serve HTTP on %s: %s", daemon->config->node.admin,
                 reason != NULL ? reason : error_text(error));
    }
    return error;
}

static void close_http(struct daemon *daemon)
{
    if (daemon->http != NULL) {
        http_close(daemon->http);
        daemon->http = NULL;
    }
}

static int open_discovery(struct daemon *daemon)
{
    return discover_open(&daemon->discover, daemon);
}

static void close_discovery(struct daemon *daemon) { discover_close(daemon->discover); }

// ---- running
// -------------------------------------------------------------------------------------

static void *loop_main(void *argument)
{
    struct loop *loop = argument;
    pthread_setname_np(pthread_self(), "qs-loop");
    loop_run(loop);
    return NULL;
}

static int start_loops(struct daemon *daemon)
{
    for (unsigned i = 0; i < daemon->loop_count; i++) {
        int code = pthread_create(&daemon->threads[i], NULL, loop_main, daemon->loops[i]);
        if (code != 0) {
            return error_from_errno(code);
        }
        daemon->thread_count++;
    }
    return OK;
}

static void close_upstreams(struct daemon *daemon)
{
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        struct instance *instance = daemon->instances[i].instance;
        if (instance == NULL) {
            continue;
        }
        struct gate gate;
        if (daemon->instances[i].chair != NULL) {
            gate_open(&gate);
            chair_close(daemon->instances[i].chair, &gate.closed);
            gate_await(&gate);
        }
        if (instance->upstream != NULL) {
            gate_open(&gate);
            follow_close(instance, &gate.closed);
            gate_await(&gate);
        }
        if (instance->regain != NULL) {
            gate_open(&gate);
            regain_close(instance, &gate.closed);
            gate_await(&gate);
        }
        if (instance->options->role == ROLE_PROXY) {
            gate_open(&gate);
            fetch_close(instance, &gate.closed);
            gate_await(&gate);
        }
    }
}

// Writes of other nodes whose links are gone are still at the sequencer.
static void await_forwarded(struct daemon *daemon)
{
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        if (daemon->instances[i].fanout != NULL) {
            struct gate gate;
            gate_open(&gate);
            forward_drain(daemon->instances[i].instance, &gate.closed);
            gate_await(&gate);
        }
    }
}

// Ends everything that has descriptors under the loops, while the loops still run; then the loops.
static void stop_loops(struct daemon *daemon)
{
    close_http(daemon); // its handlers look at everything below
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        if (daemon->instances[i].instance != NULL) {
            atomic_store(&daemon->instances[i].instance->closing, true);
        }
    }
    struct gate gate;
    if (daemon->clients != NULL) {
        gate_open(&gate);
        clients_close(daemon->clients, &gate.closed);
        gate_await(&gate);
    }
    close_upstreams(daemon);
    if (daemon->peers != NULL) {
        gate_open(&gate);
        peers_close(daemon->peers, &gate.closed);
        gate_await(&gate);
    }
    await_forwarded(daemon);
    for (unsigned i = 0; i < daemon->thread_count; i++) {
        loop_stop(daemon->loops[i]);
        pthread_join(daemon->threads[i], NULL);
    }
}

struct part {
    const char *name;
    int (*open)(struct daemon *daemon);
    void (*close)(struct daemon *daemon);
};

static const struct part parts[] = {
    {"loops", open_loops, close_loops},
    {"readers", open_readers, close_readers},
    {"walker", open_walker, close_walker},
    {"instances", open_instances, close_instances},
    {"peers", open_peers, close_peers},
    {"clients", open_clients, close_clients},
    {"http", open_http, close_http},
    {"threads", start_loops, stop_loops}, // who gets an answer at one door gets it at all
    {"discovery", open_discovery, close_discovery}, // last: nobody is sent to a door that is shut
};

static void block_signals(sigset_t *ret_set)
{
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(ret_set);
    sigaddset(ret_set, SIGTERM);
    sigaddset(ret_set, SIGINT);
    pthread_sigmask(SIG_BLOCK, ret_set, NULL);
}

static struct daemon *daemon_new(const struct config *config)
{
    struct daemon *daemon = mem_zalloc(sizeof *daemon);
    daemon->config = config;
    daemon->started_ns = clock_mono_ns();
    daemon->started_wall_ms = clock_wall_ms();
    snprintf(daemon->run_id, sizeof daemon->run_id, "%016llx%016llx%08x",
             (unsigned long long)random_u64(), (unsigned long long)random_u64(),
             (unsigned)random_u64());
    return daemon;
}

int daemon_run(const struct config *config)
{
    mem_open();
    log_open((enum log_level)config->node.log_level);
    sigset_t signals;
    block_signals(&signals);
    struct daemon *daemon = daemon_new(config);
    size_t opened = 0;
    int error = OK;
    while (error == OK && opened < ARRAY_LEN(parts)) {
        error = parts[opened++].open(daemon);
    }
    if (error == OK) {
        log_line(LOG_INFO, NULL, "ready");
        int signal_number;
        sigwait(&signals, &signal_number);
        log_line(LOG_INFO, NULL, "stopping");
        // A second signal ends the process at once.
        pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    } else if (daemon->thread_count == 0) {
        // What is open hangs on loops that never ran: let them run, so that it can be closed.
        if (start_loops(daemon) == OK) {
            stop_loops(daemon);
        }
    }
    while (opened > 0) {
        parts[--opened].close(daemon);
    }
    int code = error == OK && !daemon->unflushed ? 0 : 1;
    if (daemon->left_open) {
        _exit(code);
    }
    mem_free(daemon);
    return code;
}

// ---- finding instances
// ---------------------------------------------------------------------------

struct daemon_instance *daemon_find(struct daemon *daemon, struct bytes name)
{
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        if (bytes_equal_text(name, daemon->config->instances[i].name)) {
            return &daemon->instances[i];
        }
    }
    return NULL;
}

struct daemon_instance *daemon_number(struct daemon *daemon, uint64_t number)
{
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        if (daemon->config->instances[i].number == number) {
            return &daemon->instances[i];
        }
    }
    return NULL;
}
