// SPDX-License-Identifier: Apache-2.0
// Streams between hosts: bytes travel in chunks, each with a time of arrival, in order on one
// connection and in any order between two. A blocked direction holds chunks back until it is free;
// what was lost on a real wire would be sent again, so loss is such a stall, or a reset.
//
// Connections belong to the world: they outlive the process at either side.
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "tests/sim/seams.h"

#define MAP_WINDOW_BYTES (4 * MIB)
#define MAP_JITTER 20 // delays are longer by up to this part of the latency
#define CONNECT_LIMIT_NS (2 * NS_PER_S)
#define JOINS_PERMILLE 700 // bytes that leave together with those before them
#define SILENCE_MAX_NS (8 * NS_PER_S)

struct chunk {
    uint64_t at_ns;
    uint64_t sent_ns;
    size_t size; // 0 = the end
};

struct conn;

// One side: what it receives.
struct end {
    struct list node; // in a listener's backlog
    struct conn *conn;
    struct actor actor; // the next chunk arrives
    struct fd *fd;      // NULL: not accepted yet, or closed
    uint8_t *data;      // arrived or under way
    size_t size, capacity;
    size_t ready;       // of it, arrived
    struct chunk chunks[CHUNKS_MAX];
    size_t first, count;
    unsigned host;
    int error;
    uint64_t silent_until_ns; // the host went without a word: nothing is answered before
    bool waiting;             // in a backlog
    bool connecting;
    bool ended;
    bool closed;
};

struct conn {
    struct list node;
    struct end ends[2];
    struct actor opening;
    uint64_t opened_ns;
    uint64_t latency_ns;
    size_t window;
    unsigned port;
};

static struct {
    struct list conns;
    unsigned hosts;
    uint64_t blocked_until_ns[PLACES_MAX][PLACES_MAX];
    const struct net_map *map; // NULL: none
    unsigned flips_per_million, refuse_permille;
    uint64_t delay_max_ns;
} net;

static struct end *other_of(struct end *end)
{
    return end == &end->conn->ends[0] ? &end->conn->ends[1] : &end->conn->ends[0];
}

void net_open(unsigned hosts)
{
    CHECK(hosts <= HOSTS_MAX);
    memset(&net, 0, sizeof net);
    list_init(&net.conns);
    net.hosts = hosts;
    net.delay_max_ns = 2 * NS_PER_MS;
}

void net_set_map(const struct net_map *map) { net.map = map; }

void net_weather(unsigned flips_per_million, unsigned refuse_permille, uint64_t delay_max_ns)
{
    net.flips_per_million = flips_per_million;
    net.refuse_permille = refuse_permille;
    net.delay_max_ns = delay_max_ns;
}

// ---- blocking ----------------------------------------------------------------------------------

static uint64_t *blocked_until(unsigned from, unsigned to)
{
    return net.map == NULL ? &net.blocked_until_ns[from][to]
                           : &net.blocked_until_ns[net.map->place(from)][net.map->place(to)];
}

bool net_blocked(unsigned from, unsigned to) { return *blocked_until(from, to) > world_now_ns(); }

void net_block(unsigned from, unsigned to, uint64_t until_ns)
{
    uint64_t *blocked_ns = blocked_until(from, to);
    *blocked_ns = u64_max(*blocked_ns, until_ns);
}

void net_unplug(unsigned number, uint64_t until_ns)
{
    for (unsigned other = 0; other < net.hosts; other++) {
        if (other != number) {
            net_block(number, other, until_ns);
            net_block(other, number, until_ns);
        }
    }
}

void net_heal(void)
{
    memset(net.blocked_until_ns, 0, sizeof net.blocked_until_ns);
    LIST_FOR_EACH(node, &net.conns) {
        struct conn *conn = CONTAINER_OF(node, struct conn, node);
        conn->latency_ns = u64_min(conn->latency_ns, net.delay_max_ns);
        for (unsigned i = 0; i < 2; i++) {
            if (conn->ends[i].count > 0) {
                actor_after(&conn->ends[i].actor, conn->latency_ns);
            }
        }
    }
}

// ---- life of a connection ----------------------------------------------------------------------

static void conn_free(struct conn *conn)
{
    actor_cancel(&conn->opening);
    list_remove(&conn->node);
    for (unsigned i = 0; i < 2; i++) {
        actor_cancel(&conn->ends[i].actor);
        list_remove(&conn->ends[i].node);
        mem_free(conn->ends[i].data);
    }
    mem_free(conn);
}

static void free_if_over(struct conn *conn)
{
    if (conn->ends[0].closed && conn->ends[1].closed) {
        conn_free(conn);
    }
}

static void stir(const struct end *end)
{
    if (end->fd != NULL) {
        watch_stir(end->fd);
    }
}

// The side learns that the connection is no more.
static void end_break(struct end *end, int error)
{
    if (end->closed || end->error != 0) {
        return;
    }
    end->error = error;
    end->connecting = false;
    if (chance_permille(500)) {
        end->ready = end->size = end->count = 0;
    }
    stir(end);
}

static void arrive(struct actor *actor);

static void send_chunk(struct end *to, size_t size)
{
    struct conn *conn = to->conn;
    uint64_t jitter_ns = conn->latency_ns / (net.map != NULL ? MAP_JITTER : 1);
    uint64_t delay_ns = conn->latency_ns + chance_skewed(0, jitter_ns);
    uint64_t at_ns = world_now_ns() + delay_ns;
    struct chunk *last = NULL;
    if (to->count > 0) {
        last = &to->chunks[(to->first + to->count - 1) % CHUNKS_MAX];
        at_ns = u64_max(at_ns, last->at_ns);
    }
    bool joins = last != NULL && last->size > 0 &&
                 (net.map != NULL ? last->sent_ns == world_now_ns()
                                  : chance_permille(JOINS_PERMILLE));
    if (size > 0 && (joins || to->count == CHUNKS_MAX)) {
        last->size += size;
        return;
    }
    CHECK(to->count < CHUNKS_MAX || size == 0);
    if (to->count == CHUNKS_MAX) {
        to->ended = true; // an end that finds no room comes with the last bytes
        return;
    }
    to->chunks[(to->first + to->count++) % CHUNKS_MAX] =
        (struct chunk){.at_ns = at_ns, .sent_ns = world_now_ns(), .size = size};
    actor_by(&to->actor, at_ns);
}

static void flip_some(struct end *to, size_t from, size_t size)
{
    if (net.flips_per_million == 0 || chance_below(1000000) >= net.flips_per_million) {
        return;
    }
    to->data[from + chance_below(size)] ^= (uint8_t)(1u << chance_below(8));
    count_add(COUNT_flips_wire, 1);
}

static void arrive(struct actor *actor)
{
    struct end *to = CONTAINER_OF(actor, struct end, actor);
    struct end *from = other_of(to);
    uint64_t until_ns = *blocked_until(from->host, to->host);
    if (to->count == 0) {
        return;
    }
    if (until_ns > world_now_ns()) {
        if (until_ns != UINT64_MAX) {
            actor_by(actor, until_ns + to->conn->latency_ns);
        }
        return;
    }
    struct chunk chunk = to->chunks[to->first];
    to->first = (to->first + 1) % CHUNKS_MAX;
    to->count--;
    if (to->count > 0) {
        actor_by(actor, to->chunks[to->first].at_ns);
    }
    if (net.map != NULL) {
        net.map->carried(from->host, to->host, chunk.size);
    }
    if (to->closed) {
        to->size -= chunk.size;
        if (world_now_ns() >= to->silent_until_ns && chunk.size > 0) {
            end_break(from, ECONNRESET);
        }
        return;
    }
    if (chunk.size == 0) {
        to->ended = true;
    } else {
        flip_some(to, to->ready, chunk.size);
        to->ready += chunk.size;
    }
    stir(to);
}

// ---- opening -----------------------------------------------------------------------------------

static void fail_opening(struct conn *conn, int error, enum count what)
{
    count_add(what, 1);
    conn->ends[1].closed = true;
    end_break(&conn->ends[0], error);
    free_if_over(conn);
}

static void opening(struct actor *actor)
{
    struct conn *conn = CONTAINER_OF(actor, struct conn, opening);
    struct end *client = &conn->ends[0];
    struct end *server = &conn->ends[1];
    if (net_blocked(client->host, server->host) || net_blocked(server->host, client->host)) {
        if (world_now_ns() - conn->opened_ns > CONNECT_LIMIT_NS) {
            fail_opening(conn, ETIMEDOUT, COUNT_timeouts);
        } else {
            actor_after(actor, chance_between(50, 500) * NS_PER_MS);
        }
        return;
    }
    struct fd *listener = fd_listener(server->host, conn->port);
    if (listener == NULL || chance_permille(net.refuse_permille)) {
        fail_opening(conn, ECONNREFUSED, COUNT_refusals);
        return;
    }
    client->connecting = false;
    server->waiting = true;
    list_append(&listener->backlog, &server->node);
    watch_stir(listener);
    stir(client);
}

int socket_connect(struct fd *fd, unsigned host, unsigned port)
{
    struct conn *conn = world_zalloc(sizeof *conn);
    conn->port = port;
    conn->opened_ns = world_now_ns();
    if (net.map != NULL) {
        conn->latency_ns = net.map->latency_ns(fd->host->number, host);
        conn->window = MAP_WINDOW_BYTES;
    } else {
        conn->latency_ns = chance_skewed(30 * 1000, net.delay_max_ns);
        conn->window = chance_skewed(4 * KIB, 256 * KIB);
    }
    list_append(&net.conns, &conn->node);
    actor_init(&conn->opening, NULL, opening);
    for (unsigned i = 0; i < 2; i++) {
        conn->ends[i].conn = conn;
        list_init(&conn->ends[i].node);
        actor_init(&conn->ends[i].actor, NULL, arrive);
    }
    conn->ends[0].host = fd->host->number;
    conn->ends[0].fd = fd;
    conn->ends[0].connecting = true;
    conn->ends[1].host = host;
    fd->end = &conn->ends[0];
    actor_after(&conn->opening, 2 * conn->latency_ns);
    return -EINPROGRESS;
}

int socket_accept(struct fd *listener)
{
    struct list *node = list_take(&listener->backlog);
    if (node == NULL) {
        return -EAGAIN;
    }
    struct end *end = CONTAINER_OF(node, struct end, node);
    int number = fd_new(FD_SOCKET);
    end->waiting = false;
    end->fd = fd_of(number);
    end->fd->end = end;
    return number;
}

int socket_error(struct fd *fd)
{
    struct end *end = fd->end;
    int error = end != NULL ? end->error : ENOTCONN;
    return error;
}

unsigned socket_peer(const struct fd *fd)
{
    return fd->end != NULL ? other_of(fd->end)->host : 0;
}

// ---- bytes -------------------------------------------------------------------------------------

size_t socket_readable(const struct fd *fd, bool *ret_end)
{
    const struct end *end = fd->end;
    if (end == NULL) {
        return 0;
    }
    *ret_end = end->error != 0 || (end->ended && end->count == 0);
    return end->ready;
}

bool socket_writable(const struct fd *fd)
{
    struct end *end = fd->end;
    if (end == NULL || end->connecting) {
        return false;
    }
    return end->error != 0 || other_of(end)->size < end->conn->window;
}

ssize_t socket_take(struct fd *fd, uint8_t *to, size_t size)
{
    struct end *end = fd->end;
    if (end->ready == 0) {
        return end->error != 0 ? -end->error : 0;
    }
    CHECK(size > 0 && size <= end->ready);
    memcpy(to, end->data, size);
    end->size -= size;
    end->ready -= size;
    memmove(end->data, end->data + size, end->size);
    stir(other_of(end));
    return (ssize_t)size;
}

ssize_t socket_put(struct fd *fd, struct bytes data)
{
    struct end *from = fd->end;
    if (from == NULL || from->connecting) {
        return -EAGAIN;
    }
    if (from->error != 0) {
        return from->error == ECONNRESET ? -EPIPE : -from->error;
    }
    struct end *to = other_of(from);
    if (to->size >= from->conn->window) {
        return -EAGAIN;
    }
    size_t size = u64_min(data.size, from->conn->window - to->size);
    if (to->size + size > to->capacity) {
        to->capacity = 2 * (to->size + size);
        to->data = world_realloc(to->data, to->capacity);
    }
    memcpy(to->data + to->size, data.data, size);
    to->size += size;
    send_chunk(to, size);
    return (ssize_t)size;
}

// ---- ends --------------------------------------------------------------------------------------

static void end_close(struct end *end, bool reset, bool silent)
{
    struct conn *conn = end->conn;
    struct end *peer = other_of(end);
    if (end->closed) {
        return;
    }
    reset = reset || end->size > 0 || end->connecting;
    end->closed = true;
    if (end->fd != NULL) {
        end->fd->end = NULL;
    }
    end->fd = NULL;
    end->waiting = false;
    list_remove(&end->node);
    if (silent) {
        end->silent_until_ns = world_now_ns() + chance_below(SILENCE_MAX_NS);
    } else if (!peer->closed && !peer->connecting && end->error == 0 && !end->connecting) {
        if (reset) {
            end_break(peer, ECONNRESET);
        } else {
            send_chunk(peer, 0);
        }
    }
    if (end->connecting) {
        peer->closed = true;
    }
    free_if_over(conn);
}

static void drop_backlog(struct fd *listener, bool silent)
{
    struct list *node;
    while ((node = list_take(&listener->backlog)) != NULL) {
        end_close(CONTAINER_OF(node, struct end, node), true, silent);
    }
}

void socket_close(struct fd *fd)
{
    if (fd->kind == FD_LISTENER) {
        drop_backlog(fd, false);
    } else if (fd->end != NULL) {
        end_close(fd->end, false, false);
    }
}

static void drop_reset(struct fd *fd)
{
    if (fd->kind == FD_LISTENER) {
        drop_backlog(fd, false);
    } else if (fd->end != NULL) {
        end_close(fd->end, chance_permille(500), false);
    }
}

static void drop_silently(struct fd *fd)
{
    if (fd->kind == FD_LISTENER) {
        drop_backlog(fd, true);
    } else if (fd->end != NULL) {
        end_close(fd->end, true, true);
    }
}

void net_drop(struct host *host, bool silently)
{
    fds_each(host, silently ? drop_silently : drop_reset);
}

bool net_reset_one(void)
{
    unsigned count = 0;
    LIST_FOR_EACH(node, &net.conns) {
        count++;
    }
    uint64_t chosen = count > 0 ? chance_below(count) : 0;
    LIST_FOR_EACH(node, &net.conns) {
        struct conn *conn = CONTAINER_OF(node, struct conn, node);
        if (chosen-- == 0 && !conn->ends[0].connecting) {
            end_break(&conn->ends[0], ECONNRESET);
            end_break(&conn->ends[1], ECONNRESET);
            return true;
        }
    }
    return false;
}
