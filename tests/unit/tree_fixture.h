// SPDX-License-Identifier: Apache-2.0
// Nodes of a tree in one process: each a loop with its thread, one instance with a role that keeps
// no rows, a fanout behind a listener, and, where it has parents, a follower. Blocks come from the
// test; and a relay that stands between two nodes can flip a bit or cut the connection.
#ifndef QS_TESTS_UNIT_TREE_FIXTURE_H
#define QS_TESTS_UNIT_TREE_FIXTURE_H

#include "tests/unit/support.h"

#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/socket.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/core/instance.h"
#include "common/core/role.h"
#include "common/core/writer.h"
#include "common/io/address.h"
#include "common/tree/link.h"
#include "common/tree/tree.h"

#define PATIENCE_NS (60 * NS_PER_S)

// Waits for a condition that other threads bring about.
#define AWAIT(condition)                                                                           \
    do {                                                                                           \
        uint64_t await_until = clock_mono_ns() + PATIENCE_NS;                                      \
        while (!(condition)) {                                                                     \
            assert_true(clock_mono_ns() < await_until);                                            \
            clock_sleep_ns(50000); /* not spinning: the nodes need the cores */                    \
        }                                                                                          \
    } while (0)

// ---- a role that keeps nothing -----------------------------------------------------------------

SUPPORT int bare_open(struct instance *instance) { return (void)instance, OK; }
SUPPORT void bare_nothing(struct instance *instance) { (void)instance; }
SUPPORT int bare_decode(struct bytes row, struct record *ret_record)
{
    return (void)row, (void)ret_record, ERR_CORRUPT;
}
SUPPORT int bare_apply(struct instance *instance, const struct block *block,
                       struct store_batch *batch)
{
    return (void)instance, (void)block, (void)batch, OK;
}

SUPPORT void bare_put(struct instance *instance, struct store *store, struct store_batch *batch,
                      struct bytes key, const struct record *record)
{
    (void)instance, (void)store, (void)batch, (void)key, (void)record;
}

static const struct role bare_role = {.families = {"default"},
                                      .family_count = 1,
                                      .open = bare_open,
                                      .close = bare_nothing,
                                      .decode = bare_decode,
                                      .apply = bare_apply,
                                      .put = bare_put,
                                      .published = bare_nothing};

// ---- a node ------------------------------------------------------------------------------------

#define SITE_PARENTS_MAX 3

struct site {
    char *directory;
    char name[16];
    enum io_kind io;
    struct node_options node;
    struct instance_options options;
    const char *parents[SITE_PARENTS_MAX + 1];
    char parent_texts[SITE_PARENTS_MAX][ADDRESS_TEXT_BYTES];
    struct instance_metrics *metrics;
    struct node_metrics *node_metrics;
    struct store_cache *cache;
    struct beats *beats;
    struct loop *loop;
    pthread_t thread;
    struct instance *instance;
    struct fanout *fanout;
    struct peers *peers;
    struct readers *readers; // NULL: it gives no snapshot
    bool deaf;               // it tells nobody where it listens
    char address[ADDRESS_TEXT_BYTES];
};

SUPPORT void *site_main(void *argument)
{
    loop_run(argument);
    return NULL;
}

SUPPORT struct fanout *site_find(void *owner, struct bytes name)
{
    struct site *site = owner;
    return bytes_equal_text(name, site->options.name) ? site->fanout : NULL;
}

SUPPORT void *site_metrics(size_t size)
{
    void *memory = aligned_alloc(64, (size + 63) / 64 * 64);
    memset(memory, 0, size);
    return memory;
}

// Fills in a node that is not started yet.
SUPPORT struct site *site_new(const char *name, int role)
{
    struct site *site = mem_zalloc(sizeof *site);
    site->directory = test_mkdir();
    site->io = IO_EPOLL;
    snprintf(site->name, sizeof site->name, "%s", name);
    site->node = (struct node_options){.node = site->name,
                                       .cluster = "test",
                                       .data_dir = site->directory,
                                       .peer = "127.0.0.1:0",
                                       .peers_max = 16,
                                       .heartbeat = 20,
                                       .silence = 5000,
                                       .reconnect = 20};
    site->options = (struct instance_options){
        .name = "zones", .role = role, .parents = site->parents, .sync = 0,
        .segment_bytes = MIB, .journal_bytes = GIB, .journal_age = 1000000,
        .replay_bytes = 64 * MIB, .memtable = MIB, .apply_queue = 8 * MIB, .apply_chunk = 65536};
    site->metrics = site_metrics(sizeof *site->metrics);
    site->node_metrics = site_metrics(sizeof *site->node_metrics);
    return site;
}

// A replica whose journal keeps little of what is trimmed.
SUPPORT struct site *site_short(const char *name)
{
    struct site *site = site_new(name, ROLE_REPLICA);
    site->options.segment_bytes = 4096;
    site->options.journal_bytes = 8192;
    return site;
}

// Adds a parent; the text may go before the node does.
SUPPORT void site_parent(struct site *site, const char *address)
{
    unsigned at = 0;
    while (site->parents[at] != NULL) {
        at++;
    }
    assert_true(at < SITE_PARENTS_MAX);
    snprintf(site->parent_texts[at], sizeof site->parent_texts[at], "%s", address);
    site->parents[at] = site->parent_texts[at];
}

SUPPORT void site_open_instance(struct site *site)
{
    site->cache = store_cache_open(MIB);
    site->beats = beats_open();
    const char *reason = "";
    assert_int_equal(loop_open(&site->loop, site->io, 0, &reason), OK);
    struct instance_setup setup = {.node = &site->node,
                                   .options = &site->options,
                                   .role = &bare_role,
                                   .cache = site->cache,
                                   .metrics = site->metrics,
                                   .beats = site->beats,
                                   .home = site->loop};
    assert_int_equal(instance_open(&site->instance, &setup), OK);
    site->fanout = fanout_open(site->instance);
}

SUPPORT void site_open_links(struct site *site)
{
    const char *reason = "";
    struct peers_setup setup = {.node = &site->node,
                                .metrics = site->node_metrics,
                                .loops = &site->loop,
                                .loop_count = 1,
                                .readers = site->readers,
                                .owner = site,
                                .find = site_find};
    assert_int_equal(peers_open(&site->peers, &setup, &reason), OK);
    peers_address(site->peers, site->address);
    if (site->node.advertise == NULL) {
        site->node.advertise = site->deaf ? "" : site->address;
    }
    if (site->options.role != ROLE_ROOT) {
        assert_int_equal(follow_open(site->instance), OK);
    }
    pthread_create(&site->thread, NULL, site_main, site->loop);
}

SUPPORT void site_open(struct site *site)
{
    site_open_instance(site);
    site_open_links(site);
}

struct gate {
    struct mailbox mailbox;
    struct notice closed;
    sem_t raised;
};

SUPPORT void gate_wake(void *argument) { sem_post(&((struct gate *)argument)->raised); }
SUPPORT void gate_seen(struct notice *notice) { (void)notice; }

SUPPORT void gate_open(struct gate *gate)
{
    gate->mailbox = (struct mailbox){.wake = gate_wake, .argument = gate};
    sem_init(&gate->raised, 0, 0);
    notice_init(&gate->closed, &gate->mailbox, gate_seen);
}

SUPPORT void gate_await(struct gate *gate)
{
    sem_wait(&gate->raised);
    sem_destroy(&gate->raised);
}

// Its loop and its links are over.
SUPPORT void site_put_away(struct site *site)
{
    instance_close(site->instance);
    fanout_close(site->fanout);
    beats_close(site->beats);
    loop_close(site->loop);
    store_cache_close(site->cache);
}

SUPPORT void site_stop(struct site *site)
{
    struct gate gate;
    if (site->options.role != ROLE_ROOT) {
        gate_open(&gate);
        follow_close(site->instance, &gate.closed);
        gate_await(&gate);
    }
    gate_open(&gate);
    peers_close(site->peers, &gate.closed);
    gate_await(&gate);
    loop_stop(site->loop);
    pthread_join(site->thread, NULL);
    peers_free(site->peers);
    site_put_away(site);
}

SUPPORT int site_remove(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info, (void)type, (void)walk;
    return remove(path);
}

SUPPORT void site_free(struct site *site)
{
    assert_int_equal(nftw(site->directory, site_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
    mem_free(site->directory);
    free(site->metrics);
    free(site->node_metrics);
    mem_free(site);
}

SUPPORT void site_close(struct site *site)
{
    site_stop(site);
    site_free(site);
}

// ---- blocks ------------------------------------------------------------------------------------

// The log as the test makes it.
struct author {
    struct block_builder builder;
    struct block_header last;
    uint64_t seed;
};

SUPPORT void author_open(struct author *author, uint64_t seed)
{
    *author = (struct author){.seed = seed};
    builder_open(&author->builder);
    block_genesis(&author->last, test_history);
}

SUPPORT struct block *author_block(struct author *author, size_t value_max)
{
    struct block *block = test_block(&author->builder, &author->last, &author->seed, value_max);
    author->last = block->header;
    return block;
}

SUPPORT uint64_t site_block(struct site *site)
{
    return journal_end(site->instance->journal).number;
}

SUPPORT bool site_shows(struct site *site, uint64_t number)
{
    struct view *view = instance_pin(site->instance);
    bool shows = view != NULL && view->place.number >= number;
    view_release(view);
    return shows;
}

// Hands blocks to a node that is its own source.
SUPPORT void author_feed(struct author *author, struct site *site, unsigned count, size_t value_max)
{
    if (!journal_has_history(site->instance->journal)) {
        instance_adopt(site->instance, test_history);
    }
    for (unsigned i = 0; i < count; i++) {
        AWAIT(instance_room(site->instance));
        instance_receive(site->instance, author_block(author, value_max));
    }
    AWAIT(site_shows(site, author->last.number));
}

// Hands it the first `count` blocks of the log of that seed: others may have the same.
SUPPORT void site_feed(struct site *site, uint64_t seed, unsigned count, size_t value_max)
{
    struct author author;
    author_open(&author, seed);
    author_feed(&author, site, count, value_max);
    builder_close(&author.builder);
}

#define TRIMMED_END 60
#define TRIMMED_OLDEST 45 // or a little later

// A site_short that has TRIMMED_END blocks loses most of them. They go segment by segment: that it
// has come to its end is seen only near the block up to which they go.
SUPPORT void site_trim(struct site *site)
{
    writer_trim(site->instance, TRIMMED_OLDEST + 5);
    AWAIT(journal_oldest(site->instance->journal).number > TRIMMED_OLDEST);
}

SUPPORT void site_feed_trimmed(struct site *site, uint64_t seed, size_t value_max)
{
    site_feed(site, seed, TRIMMED_END, value_max);
    site_trim(site);
}

// A bit of the first block in its journal flips.
SUPPORT void site_spoil(struct site *site)
{
    char *journal = mem_format("%s/zones/journal", site->directory);
    test_flip(journal, "0000000000000001.qsj", 2 * BLOCK_HEADER_BYTES + 10, 1);
    mem_free(journal);
}

// A root has made its own birth block: the log goes on from there.
SUPPORT void author_join(struct author *author, struct site *root)
{
    AWAIT(site_shows(root, 1));
    assert_int_equal(journal_header(root->instance->journal, 1, &author->last), OK);
}

// A root with its log: `blocks` after its birth.
SUPPORT void root_open(struct site *root, struct author *author, uint64_t seed, unsigned blocks)
{
    site_open(root);
    author_open(author, seed);
    author_join(author, root);
    author_feed(author, root, blocks, 1000);
}

SUPPORT void root_close(struct site *root, struct author *author)
{
    site_close(root);
    builder_close(&author->builder);
}

// Do both journals hold the same bytes, from block `from` on?
SUPPORT void assert_same_blocks(struct site *a, struct site *b, uint64_t from)
{
    struct journal_cursor left, right;
    assert_int_equal(site_block(a), site_block(b));
    assert_int_equal(journal_cursor_open(a->instance->journal, &left, from), OK);
    assert_int_equal(journal_cursor_open(b->instance->journal, &right, from), OK);
    for (uint64_t number = from; number <= site_block(a); number++) {
        struct block *mine, *theirs;
        assert_int_equal(journal_cursor_next(&left, &mine), OK);
        assert_int_equal(journal_cursor_next(&right, &theirs), OK);
        assert_true(bytes_equal(mine->stored, theirs->stored));
        block_release(mine);
        block_release(theirs);
    }
    journal_cursor_close(&left);
    journal_cursor_close(&right);
}

SUPPORT bool site_follows(struct site *site, const char *parent)
{
    struct upstream_status status;
    follow_status(site->instance, &status);
    return status.connected && strcmp(status.node, parent) == 0;
}

SUPPORT bool site_state_is(struct site *site, const char *words)
{
    struct upstream_status status;
    follow_status(site->instance, &status);
    return strstr(status.state, words) != NULL;
}

#endif
