// SPDX-License-Identifier: Apache-2.0
// The tree over bad wires and with bad neighbours: flipped bits, cut connections, a child that does
// not read, peers that talk nonsense or not at all, closing at any moment, damage found at start.
#include "tests/unit/tree_fixture.h"

#include <netinet/in.h>
#include <stdatomic.h>

// ---- a relay between two nodes -----------------------------------------------------------------

enum relay_mode { RELAY_PASS, RELAY_FLIP, RELAY_CUT };

struct relay {
    int listener;
    int stop[2];
    char text[ADDRESS_TEXT_BYTES];
    struct address target;
    pthread_t thread;
    uint64_t seed;
    uint64_t reach; // flips and cuts happen before so many bytes of a connection
    _Atomic int mode;
    _Atomic uint64_t done; // flips or cuts
};

struct crossing {
    int from_child, to_parent;
    bool down; // which direction is hit
    uint64_t hit_at, passed;
    bool hit;
};

static bool write_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        data += sent;
        size -= (size_t)sent;
    }
    return true;
}

// Passes on what is there. False: the connection is over.
static bool pass(struct relay *relay, struct crossing *crossing, int from, int to, bool down)
{
    uint8_t data[4096];
    ssize_t size = recv(from, data, sizeof data, 0);
    if (size <= 0) {
        return false;
    }
    if (!crossing->hit && down == crossing->down) {
        uint64_t at = crossing->hit_at - crossing->passed;
        crossing->passed += (uint64_t)size;
        int mode = at < (uint64_t)size ? atomic_load(&relay->mode) : RELAY_PASS;
        if (mode == RELAY_FLIP) {
            data[at] ^= (uint8_t)(1u << test_random(&relay->seed) % 8);
        } else if (mode == RELAY_CUT) {
            write_all(to, data, at);
        }
        crossing->hit = at < (uint64_t)size;
        atomic_fetch_add(&relay->done, mode != RELAY_PASS);
        if (mode == RELAY_CUT) {
            return false;
        }
    }
    return write_all(to, data, (size_t)size);
}

static bool carry(struct relay *relay, int child)
{
    int parent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr *target = (struct sockaddr *)&relay->target.storage;
    bool going = connect(parent, target, relay->target.length) == 0;
    struct crossing crossing = {.down = test_random(&relay->seed) % 8 != 0};
    // What goes up is short: hello, ping, progress.
    crossing.hit_at = test_random(&relay->seed) % (crossing.down ? relay->reach : 300);
    bool stopped = false;
    while (going && !stopped) {
        struct pollfd polls[] = {
            {child, POLLIN, 0}, {parent, POLLIN, 0}, {relay->stop[0], POLLIN, 0}};
        poll(polls, 3, -1);
        stopped = polls[2].revents != 0;
        if (polls[0].revents != 0) {
            going = pass(relay, &crossing, child, parent, false);
        }
        if (going && polls[1].revents != 0) {
            going = pass(relay, &crossing, parent, child, true);
        }
    }
    close(parent);
    close(child);
    return !stopped;
}

static void *relay_main(void *argument)
{
    struct relay *relay = argument;
    bool going = true;
    while (going) {
        struct pollfd polls[] = {{relay->listener, POLLIN, 0}, {relay->stop[0], POLLIN, 0}};
        poll(polls, 2, -1);
        going = polls[1].revents == 0;
        int child = going ? accept4(relay->listener, NULL, NULL, SOCK_CLOEXEC) : -1;
        if (child >= 0) {
            going = carry(relay, child);
        }
    }
    return NULL;
}

static void listen_here(int *ret_fd, char *ret_text)
{
    struct address address;
    const char *reason;
    assert_int_equal(address_parse(&address, "127.0.0.1:0", &reason), OK);
    assert_int_equal(address_listen(&address, ret_fd, &reason), OK);
    assert_int_equal(address_of_socket(*ret_fd, &address), OK);
    address_text(&address, ret_text);
}

static void relay_open(struct relay *relay, const char *target, uint64_t seed, uint64_t reach,
                       int mode)
{
    const char *reason;
    *relay = (struct relay){.seed = seed, .reach = reach, .mode = mode};
    listen_here(&relay->listener, relay->text);
    assert_int_equal(address_parse(&relay->target, target, &reason), OK);
    assert_int_equal(pipe(relay->stop), 0);
    pthread_create(&relay->thread, NULL, relay_main, relay);
}

static void relay_close(struct relay *relay)
{
    assert_int_equal(write(relay->stop[1], "x", 1), 1);
    pthread_join(relay->thread, NULL);
    close(relay->stop[0]);
    close(relay->stop[1]);
    close(relay->listener);
}

static void run_relayed(enum relay_mode mode, uint64_t hits, uint64_t reach)
{
    struct author author;
    author_open(&author, 20);
    struct site *parent = site_new("parent", ROLE_ROOT), *child = site_new("child", ROLE_REPLICA);
    site_open(parent);
    author_join(&author, parent);
    struct relay relay;
    relay_open(&relay, parent->address, 21, reach, mode);
    site_parent(child, relay.text);
    child->node.reconnect = 1;
    site_open(child);
    while (atomic_load(&relay.done) < hits) {
        if (site_block(child) + 30 > author.last.number) {
            author_feed(&author, parent, 30, 150);
        }
        clock_sleep_ns(200000);
    }
    atomic_store(&relay.mode, RELAY_PASS);
    AWAIT(site_shows(child, author.last.number));
    assert_same_blocks(parent, child, 1);
    assert_int_equal(instance_state(child->instance), INSTANCE_SERVING);
    assert_int_equal(METRIC_GET(child->metrics, instance, digest_mismatches), 0);
    if (mode == RELAY_FLIP) {
        assert_true(METRIC_GET(child->metrics, instance, parent_bad_blocks) > 0);
        AWAIT(METRIC_GET(parent->node_metrics, node, peer_protocol_errors) > 0);
    }
    site_close(child);
    relay_close(&relay);
    site_close(parent);
    builder_close(&author.builder);
}

static void test_flips(void **state)
{
    (void)state;
    run_relayed(RELAY_FLIP, getenv("QS_TEST_LONG") != NULL ? 20000 : 300, 3000);
}

static void test_cuts(void **state)
{
    (void)state;
    run_relayed(RELAY_CUT, getenv("QS_TEST_LONG") != NULL ? 5000 : 100, 6000);
}

// ---- a peer made by hand -----------------------------------------------------------------------

struct hand {
    int fd;
    struct buf in;
    uint64_t raw_left, raw_bytes;
    uint16_t goodbye; // error of a goodbye received
};

static void hand_open(struct hand *hand, const char *text)
{
    struct address address;
    const char *reason;
    *hand = (struct hand){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    int small = 4096;
    setsockopt(hand->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    assert_int_equal(address_parse(&address, text, &reason), OK);
    assert_int_equal(connect(hand->fd, (struct sockaddr *)&address.storage, address.length), 0);
}

static void hand_hello(struct hand *hand)
{
    struct buf out = {0};
    struct message_hello hello = {.protocol = PEER_PROTOCOL,
                                  .cluster = bytes_text("test"),
                                  .instance = bytes_text("zones"),
                                  .node = bytes_text("hand"),
                                  .role = ROLE_REPLICA,
                                  .purpose = PURPOSE_FOLLOW,
                                  .digest_algorithm = 1};
    message_hello_encode(&out, &hello);
    assert_true(write_all(hand->fd, out.data, out.size));
    buf_free(&out);
}

// Uses up what has been received. False: it cannot be understood.
static bool hand_consume(struct hand *hand)
{
    for (;;) {
        uint64_t raw = u64_min(hand->raw_left, hand->in.size);
        buf_consume(&hand->in, raw);
        hand->raw_left -= raw;
        hand->raw_bytes += raw;
        struct frame frame;
        ssize_t used = hand->raw_left > 0 ? 0 : frame_decode(buf_bytes(&hand->in), MIB, &frame);
        if (used <= 0) {
            return used == 0;
        }
        struct message_blocks blocks;
        struct message_goodbye goodbye;
        if (frame.code == MESSAGE_blocks && message_blocks_decode(frame.payload, &blocks) == OK) {
            hand->raw_left = blocks.bytes;
        } else if (frame.code == MESSAGE_goodbye &&
                   message_goodbye_decode(frame.payload, &goodbye) == OK) {
            hand->goodbye = (uint16_t)goodbye.error;
        }
        buf_consume(&hand->in, (size_t)used);
    }
}

// Reads until the end of the connection, or until `bytes` raw bytes have come.
static void hand_read(struct hand *hand, uint64_t bytes)
{
    uint8_t data[16384];
    ssize_t size = 1;
    while (size > 0 && hand->raw_bytes < bytes) {
        size = recv(hand->fd, data, sizeof data, 0);
        if (size > 0) {
            buf_append(&hand->in, data, (size_t)size);
            assert_true(hand_consume(hand));
        }
    }
}

static void hand_close(struct hand *hand)
{
    close(hand->fd);
    buf_free(&hand->in);
}

// One that does not read costs its cursor: the others get everything, and later it does too.
static void test_slow_child(void **state)
{
    (void)state;
    struct author author;
    author_open(&author, 30);
    struct site *parent = site_new("parent", ROLE_REPLICA);
    parent->node.silence = 60000; // the hand sends no pings
    struct site *child = site_new("child", ROLE_REPLICA);
    site_open(parent);
    author_feed(&author, parent, 1, 100);
    struct hand hand;
    hand_open(&hand, parent->address);
    hand_hello(&hand);
    site_parent(child, parent->address);
    site_open(child);
    AWAIT(fanout_status(parent->fanout, NULL, 0) == 2);
    author_feed(&author, parent, 60, 100000);
    AWAIT(site_shows(child, 61));
    struct child_status status[2];
    assert_int_equal(fanout_status(parent->fanout, status, 2), 2);
    unsigned slower = strcmp(status[0].node, "hand") == 0 ? 0 : 1;
    uint64_t slow = status[slower].sent_bytes;
    uint64_t total = journal_bytes(parent->instance->journal);
    assert_true(slow < total);
    hand_read(&hand, total - 4096);
    assert_true(hand.raw_bytes >= total - 4096);
    hand_close(&hand);
    AWAIT(fanout_status(parent->fanout, NULL, 0) == 1);
    site_close(child);
    site_close(parent);
    builder_close(&author.builder);
}

// ... unless the journal is trimmed before it: then it is told so.
static void test_trimmed_child(void **state)
{
    (void)state;
    struct author author;
    author_open(&author, 31);
    struct site *parent = site_new("parent", ROLE_REPLICA);
    parent->node.silence = 60000;
    parent->options.segment_bytes = 256 * KIB;
    parent->options.journal_bytes = MIB;
    site_open(parent);
    author_feed(&author, parent, 1, 100);
    struct hand hand;
    hand_open(&hand, parent->address);
    hand_hello(&hand);
    AWAIT(fanout_status(parent->fanout, NULL, 0) == 1);
    author_feed(&author, parent, 100, 100000);
    writer_trim(parent->instance, 95);
    AWAIT(journal_oldest(parent->instance->journal).number > 50);
    hand_read(&hand, UINT64_MAX);
    assert_int_equal(hand.goodbye, -ERR_TOO_OLD);
    hand_close(&hand);
    AWAIT(fanout_status(parent->fanout, NULL, 0) == 0);
    site_close(parent);
    builder_close(&author.builder);
}

static void test_nonsense(void **state)
{
    (void)state;
    struct site *parent = site_new("parent", ROLE_REPLICA);
    site_open(parent);
    struct hand hand;
    // Bytes that are no frame, and a frame that is no hello: closed and counted.
    hand_open(&hand, parent->address);
    assert_true(write_all(hand.fd, (const uint8_t *)"GET / HTTP/1.1\r\n\r\n", 18));
    hand_read(&hand, UINT64_MAX);
    hand_close(&hand);
    AWAIT(METRIC_GET(parent->node_metrics, node, peer_protocol_errors) == 1);
    hand_open(&hand, parent->address);
    struct buf out = {0};
    message_ping_encode(&out, &(struct message_ping){.sent_ns = 1});
    assert_true(write_all(hand.fd, out.data, out.size));
    buf_free(&out);
    hand_read(&hand, UINT64_MAX);
    hand_close(&hand);
    AWAIT(METRIC_GET(parent->node_metrics, node, peer_protocol_errors) == 2);
    site_close(parent);
}

static void hand_tell(struct hand *hand, uint64_t received, uint64_t synced)
{
    struct buf out = {0};
    message_progress_encode(&out, &(struct message_progress){
                                      .received = received, .synced = synced, .visible = synced});
    assert_true(write_all(hand->fd, out.data, out.size));
    buf_free(&out);
}

static bool child_received(struct site *parent, uint64_t index)
{
    struct child_status status;
    return fanout_status(parent->fanout, &status, 1) == 1 && status.received == index;
}

// WAIT counts what a child has synced, not what it has received, and nobody who has left.
static void test_progress(void **state)
{
    (void)state;
    struct site *parent = site_new("parent", ROLE_REPLICA);
    site_open(parent);
    struct author author;
    author_open(&author, 34);
    author_feed(&author, parent, 1, 100);
    struct hand hand;
    hand_open(&hand, parent->address);
    hand_hello(&hand);
    hand_tell(&hand, 7, 5);
    AWAIT(child_received(parent, 7));
    assert_int_equal(fanout_synced(parent->fanout, 5), 1);
    assert_int_equal(fanout_synced(parent->fanout, 6), 0);
    hand_tell(&hand, 8, 6);
    AWAIT(child_received(parent, 8));
    assert_int_equal(fanout_synced(parent->fanout, 6), 1);
    hand_close(&hand);
    AWAIT(fanout_synced(parent->fanout, 1) == 0);
    site_close(parent);
    builder_close(&author.builder);
}

static void test_peers_max(void **state)
{
    (void)state;
    struct site *parent = site_new("parent", ROLE_REPLICA);
    parent->node.peers_max = 3;
    site_open(parent);
    struct hand hand, others[3];
    for (unsigned i = 0; i < 3; i++) {
        hand_open(&others[i], parent->address);
    }
    AWAIT(METRIC_GET(parent->node_metrics, node, peers) == 3);
    hand_open(&hand, parent->address);
    hand_read(&hand, UINT64_MAX);
    hand_close(&hand);
    AWAIT(METRIC_GET(parent->node_metrics, node, peers_refused) == 1);
    for (unsigned i = 0; i < 3; i++) {
        hand_close(&others[i]);
    }
    AWAIT(METRIC_GET(parent->node_metrics, node, peers) == 0);
    site_close(parent);
}

// One that never says hello, and one that then falls silent, are left.
static void test_silence(void **state)
{
    (void)state;
    struct site *parent = site_new("parent", ROLE_REPLICA);
    parent->node.silence = 50;
    site_open(parent);
    struct author author;
    author_open(&author, 32);
    author_feed(&author, parent, 1, 100);
    for (unsigned i = 0; i < 2; i++) {
        struct hand hand;
        hand_open(&hand, parent->address);
        if (i == 1) {
            hand_hello(&hand);
        }
        hand_read(&hand, UINT64_MAX);
        hand_close(&hand);
    }
    AWAIT(METRIC_GET(parent->node_metrics, node, peers) == 0);
    site_close(parent);
    builder_close(&author.builder);
}

// ---- closing, starting -------------------------------------------------------------------------

static void test_close_any_time(void **state)
{
    (void)state;
    // A parent that accepts in the kernel and never answers; one that refuses; none.
    int silent;
    char text[ADDRESS_TEXT_BYTES];
    listen_here(&silent, text);
    const char *parents[] = {text, "127.0.0.1:1", NULL};
    for (unsigned i = 0; i < 12; i++) {
        struct site *child = site_new("child", ROLE_REPLICA);
        if (parents[i % 3] != NULL) {
            site_parent(child, parents[i % 3]);
        }
        site_open(child);
        if (i >= 6) {
            AWAIT(i % 3 != 1 || site_state_is(child, "127.0.0.1:1"));
        }
        site_close(child);
    }
    close(silent);
    // In the middle of a long transfer, at both ends.
    struct author author;
    author_open(&author, 40);
    struct site *parent = site_new("parent", ROLE_REPLICA);
    site_open(parent);
    author_feed(&author, parent, 40, 100000);
    for (unsigned i = 0; i < 4; i++) {
        struct site *child = site_new("child", ROLE_REPLICA);
        site_parent(child, parent->address);
        child->options.apply_queue = 256 * KIB; // pauses on its way
        site_open(child);
        AWAIT(site_block(child) >= 3 + 7 * i);
        site_close(child);
    }
    struct site *child = site_new("child", ROLE_REPLICA);
    site_parent(child, parent->address);
    site_open(child);
    AWAIT(site_block(child) >= 3);
    site_close(parent);
    AWAIT(METRIC_GET(child->metrics, instance, parent_connected) == 0);
    site_close(child);
    builder_close(&author.builder);
}

// The journal turns out to be damaged at the start, and the store is gone: the child connects
// before it serves, and what it gets again mends it.
static void test_damage_at_start(void **state)
{
    (void)state;
    struct author author;
    author_open(&author, 50);
    struct site *parent = site_new("parent", ROLE_REPLICA);
    struct site *child = site_new("child", ROLE_REPLICA);
    site_open(parent);
    author_feed(&author, parent, 60, 100000);
    site_parent(child, parent->address);
    site_open(child);
    AWAIT(site_shows(child, 60));
    site_stop(child);

    char *path = mem_format("%s/zones/store", child->directory);
    assert_int_equal(nftw(path, site_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
    mem_free(path);
    path = mem_format("%s/zones/journal", child->directory);
    struct test_files *files = test_load(path);
    for (size_t i = 0; i + 3 < files->count; i += 2) {
        test_flip(path, files->names[i], files->contents[i].size / 2, 3);
    }
    test_files_free(files);
    mem_free(path);
    author_feed(&author, parent, 3, 1000);
    site_open(child);
    AWAIT(instance_state(child->instance) == INSTANCE_SERVING && site_shows(child, 63));
    assert_true(METRIC_GET(child->metrics, instance, journal_repaired) >= 2);
    assert_same_blocks(parent, child, 1);
    site_close(child);
    site_close(parent);
    builder_close(&author.builder);
}

int main(void)
{
    log_open(getenv("QS_TEST_LOG") != NULL ? LOG_DEBUG : (enum log_level)(LOG_ERROR + 1));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flips),          cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_slow_child),     cmocka_unit_test(test_trimmed_child),
        cmocka_unit_test(test_nonsense),       cmocka_unit_test(test_peers_max),
        cmocka_unit_test(test_silence),        cmocka_unit_test(test_close_any_time),
        cmocka_unit_test(test_damage_at_start), cmocka_unit_test(test_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
