// SPDX-License-Identifier: Apache-2.0
// The door for other nodes: accepts on loop 0, spreads connections over all loops, reads the hello
// and hands the link to the instance's fanout or to the answerer of fetches. What is the same for
// both is checked here; whatever does not fit is refused with words.
//
// A link belongs to its new owner after the hello, but stays in the list of its loop, for the
// limit, the gauge and the close.
#include <stdatomic.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/digest.h"
#include "common/io/address.h"
#include "common/tree/link.h"
#include "common/tree/tree.h"

// The connections of one loop; touched on that loop only.
struct door {
    struct peers *peers;
    struct loop *loop;
    struct list connections;
    struct task close_task;
    bool closing;
};

struct peers {
    struct peers_setup setup;
    struct watch listener;
    struct task start_task;
    int fd; // -1 once the loop has it
    char text[ADDRESS_TEXT_BYTES];
    struct door *doors; // one a loop
    unsigned next_door; // loop 0
    struct donor_site site;
    _Atomic uint64_t count; // connections
    _Atomic uint64_t alive; // what must end before `closed`: connections, doors, the listener
    struct notice *closed;
};

struct connection {
    struct list node;
    struct door *door;
    struct link *link;
    struct task start_task;
    int fd;
};

static struct log_gate limit_gate, refused_gate, malformed_gate;

static void one_less(struct peers *peers)
{
    // All doors have closed before the last one ends, so `closed` is set; and nobody frees this
    // before it is raised.
    if (atomic_fetch_sub(&peers->alive, 1) == 1) {
        notice_raise(peers->closed);
    }
}

// ---- the hello ---------------------------------------------------------------------------------

static const char *refusal(const struct node_options *node, const struct message_hello *hello)
{
    if (hello->protocol != PEER_PROTOCOL) {
        return "another protocol version";
    }
    if (!bytes_equal_text(hello->cluster, node->cluster)) {
        return "another cluster";
    }
    if (hello->digest_algorithm != DIGEST_ALGORITHM) {
        return "another digest algorithm";
    }
    if (bytes_equal_text(hello->node, node->node)) {
        return "this is a node of the same name";
    }
    if (hello->role < ROLE_ROOT || hello->role > ROLE_PROXY) {
        return "unknown role";
    }
    return NULL;
}

static void refuse(struct peers *peers, struct link *link, const struct message_hello *hello,
                   const char *reason)
{
    struct message_welcome welcome = {.protocol = PEER_PROTOCOL,
                                      .answer = ANSWER_REFUSED,
                                      .reason = bytes_text(reason),
                                      .node = bytes_text(peers->setup.node->node)};
    message_welcome_encode(link_out(link), &welcome);
    link_wrote(link);
    char node[NODE_NAME_MAX + 1], instance[INSTANCE_NAME_MAX + 1];
    link_words(node, sizeof node, hello->node);
    link_words(instance, sizeof instance, hello->instance);
    LOG_GATED(&refused_gate, LOG_WARN, NULL, "%s at %s is refused for instance %s: %s", node,
              link->address, instance, reason);
    METRIC_ADD(peers->setup.metrics, node, peers_refused, 1);
    link_finish(link, ERR_REFUSED);
}

static void on_hello(struct peers *peers, struct link *link, const struct message_hello *hello)
{
    const char *reason = refusal(peers->setup.node, hello);
    struct fanout *fanout = peers->setup.find(peers->setup.owner, hello->instance);
    if (reason == NULL && fanout == NULL) {
        reason = "no such instance here";
    }
    if (reason != NULL) {
        refuse(peers, link, hello, reason);
    } else if (hello->purpose == PURPOSE_FOLLOW || hello->purpose == PURPOSE_PROBE ||
               hello->purpose == PURPOSE_STAND || hello->purpose == PURPOSE_REGAIN) {
        if (!fanout_accept(fanout, link, hello)) {
            METRIC_ADD(peers->setup.metrics, node, peers_refused, 1);
        }
    } else if (hello->purpose == PURPOSE_SNAPSHOT && peers->setup.readers != NULL) {
        reason = donor_accept(fanout, &peers->site, link, hello);
        if (reason != NULL) {
            refuse(peers, link, hello, reason);
        }
    } else if (hello->purpose == PURPOSE_TALK && peers->setup.talk != NULL) {
        reason = peers->setup.talk(peers->setup.owner, link, hello);
        if (reason != NULL) {
            refuse(peers, link, hello, reason);
        }
    } else if (hello->purpose != PURPOSE_FETCH || peers->setup.answer == NULL ||
               !peers->setup.answer(peers->setup.owner, link, hello)) {
        refuse(peers, link, hello, "this instance holds no values to fetch");
    }
}

static int on_message(struct link *link, uint16_t code, struct bytes payload)
{
    struct peers *peers = link->owner;
    struct message_hello hello;
    int error = code == MESSAGE_hello ? message_hello_decode(payload, &hello) : ERR_PROTOCOL;
    if (error == OK && (!link_name_valid(hello.node, NODE_NAME_MAX) ||
                        !link_name_valid(hello.instance, INSTANCE_NAME_MAX))) {
        error = ERR_PROTOCOL;
    }
    if (error == OK) {
        on_hello(peers, link, &hello);
    }
    return error;
}

static void on_close(struct link *link, int error)
{
    (void)error; // counted in on_end
    mem_free(link);
}

// ---- connections -------------------------------------------------------------------------------

static void connection_end(struct connection *connection)
{
    struct peers *peers = connection->door->peers;
    list_remove(&connection->node);
    mem_free(connection);
    METRIC_ADD(peers->setup.metrics, node, peers, -1);
    atomic_fetch_sub(&peers->count, 1);
    one_less(peers);
}

static void on_end(struct link *link)
{
    struct connection *connection = link->keeper;
    struct peers *peers = connection->door->peers;
    if (link->error == ERR_PROTOCOL || link->error == ERR_CHECKSUM) {
        METRIC_ADD(peers->setup.metrics, node, peer_protocol_errors, 1);
        LOG_GATED(&malformed_gate, LOG_WARN, link->scope, "%s sent what is no message: %s",
                  link->address, error_text(link->error));
    }
    connection_end(connection);
}

static void connection_start(struct task *task)
{
    static const struct link_ops ops = {.on_message = on_message, .on_close = on_close};
    struct connection *connection = CONTAINER_OF(task, struct connection, start_task);
    struct door *door = connection->door;
    const struct node_options *node = door->peers->setup.node;
    if (door->closing) {
        close(connection->fd);
        connection_end(connection);
        return;
    }
    list_append(&door->connections, &connection->node);
    struct link *link = mem_alloc(sizeof *link);
    link_open(link, door->loop, connection->fd, false, node->heartbeat * NS_PER_MS,
              node->silence * NS_PER_MS, &ops);
    link->owner = door->peers;
    link->keeper = connection;
    link->on_end = on_end;
    connection->link = link;
}

static void on_accept(struct watch *watch, int fd)
{
    struct peers *peers = CONTAINER_OF(watch, struct peers, listener);
    if (atomic_load(&peers->count) >= peers->setup.node->peers_max) {
        LOG_GATED(&limit_gate, LOG_WARN, NULL, "a peer is refused: peers_max is reached");
        METRIC_ADD(peers->setup.metrics, node, peers_refused, 1);
        close(fd);
        return;
    }
    METRIC_ADD(peers->setup.metrics, node, peers, 1);
    atomic_fetch_add(&peers->count, 1);
    atomic_fetch_add(&peers->alive, 1);
    struct connection *connection = mem_zalloc(sizeof *connection);
    list_init(&connection->node);
    connection->start_task.run = connection_start;
    connection->fd = fd;
    connection->door = &peers->doors[peers->next_door++ % peers->setup.loop_count];
    loop_post(connection->door->loop, &connection->start_task);
}

// ---- open and close ----------------------------------------------------------------------------

static void on_listener_closed(struct watch *watch)
{
    one_less(CONTAINER_OF(watch, struct peers, listener));
}

static void start(struct task *task)
{
    static const struct watch_ops ops = {.on_accept = on_accept, .on_closed = on_listener_closed};
    struct peers *peers = CONTAINER_OF(task, struct peers, start_task);
    loop_watch_open(peers->setup.loops[0], &peers->listener, peers->fd, &ops);
    loop_accept_start(&peers->listener);
    peers->fd = -1;
}

static void door_close(struct task *task)
{
    struct door *door = CONTAINER_OF(task, struct door, close_task);
    struct peers *peers = door->peers;
    door->closing = true;
    if (door == &peers->doors[0]) {
        loop_watch_close(&peers->listener);
    }
    LIST_FOR_EACH(node, &door->connections) {
        link_close(CONTAINER_OF(node, struct connection, node)->link, OK);
    }
    one_less(peers);
}

int peers_open(struct peers **ret_peers, const struct peers_setup *setup, const char **ret_reason)
{
    CHECK(setup->loop_count > 0);
    struct address address;
    int fd;
    int error = address_parse(&address, setup->node->peer, ret_reason);
    if (error == OK) {
        error = address_listen(&address, &fd, ret_reason);
    }
    if (error != OK) {
        return error;
    }
    struct peers *peers = mem_zalloc(sizeof *peers);
    peers->setup = *setup;
    peers->site = (struct donor_site){.readers = setup->readers, .limit = setup->node->repair_max};
    peers->fd = fd;
    peers->alive = 1 + setup->loop_count;
    peers->doors = mem_zalloc(setup->loop_count * sizeof *peers->doors);
    for (unsigned i = 0; i < setup->loop_count; i++) {
        struct door *door = &peers->doors[i];
        door->peers = peers;
        door->loop = setup->loops[i];
        door->close_task.run = door_close;
        list_init(&door->connections);
    }
    struct address bound; // with the port that the system chose
    address_text(address_of_socket(fd, &bound) == OK ? &bound : &address, peers->text);
    peers->start_task.run = start;
    loop_post(setup->loops[0], &peers->start_task);
    *ret_peers = peers;
    return OK;
}

void peers_address(const struct peers *peers, char *to)
{
    memcpy(to, peers->text, sizeof peers->text);
}

void peers_close(struct peers *peers, struct notice *closed)
{
    peers->closed = closed;
    for (unsigned i = 0; i < peers->setup.loop_count; i++) {
        loop_post(peers->doors[i].loop, &peers->doors[i].close_task);
    }
}

void peers_free(struct peers *peers)
{
    if (peers->fd >= 0) {
        close(peers->fd);
    }
    mem_free(peers->doors);
    mem_free(peers);
}
