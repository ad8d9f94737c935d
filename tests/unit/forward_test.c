// SPDX-License-Identifier: Apache-2.0
// Writes on their way up a tree of three: root <- middle <- leaf. Who carries them out at the root
// is the test, which answers when it wants to.
#include "tests/unit/tree_fixture.h"

#include "common/tree/forward.h"
#include "common/wire/write_items.h"

#define HELD_MAX 8

// ---- writes ------------------------------------------------------------------------------------

// What the root was given, and how it answers; `answer` runs on its loop.
static struct {
    pthread_mutex_t lock;
    struct forwarded *held[HELD_MAX];
    unsigned count;
    int refusal; // instead of holding it
    bool newest; // is answered first
    _Atomic unsigned answered;
} court = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int carry_out(void *owner, struct forwarded *write)
{
    assert_ptr_equal(owner, &court);
    pthread_mutex_lock(&court.lock);
    int status = court.refusal;
    for (unsigned i = 0; i < sizeof write->meant; i++) {
        assert_int_equal(write->meant[i], 9); // it came all the way
    }
    if (status == OK) {
        assert_true(court.count < HELD_MAX);
        court.held[court.count++] = write;
    }
    pthread_mutex_unlock(&court.lock);
    return status;
}

static unsigned held(void)
{
    pthread_mutex_lock(&court.lock);
    unsigned count = court.count;
    pthread_mutex_unlock(&court.lock);
    return count;
}

struct verdict {
    struct task task;
    int status;
    uint64_t index;
};

static void give_verdict(struct task *task)
{
    struct verdict *verdict = CONTAINER_OF(task, struct verdict, task);
    pthread_mutex_lock(&court.lock);
    assert_true(court.count > 0);
    unsigned at = court.newest ? court.count - 1 : 0;
    struct forwarded *write = court.held[at];
    court.count--;
    memmove(court.held + at, court.held + at + 1, (court.count - at) * sizeof court.held[0]);
    pthread_mutex_unlock(&court.lock);
    write->status = verdict->status;
    write->index = verdict->index;
    memset(write->history, 7, sizeof write->history);
    if (verdict->status == OK) {
        assert_int_equal(forward_reply_fits(write, 5), OK);
        buf_append_text(&write->reply, "+OK\r\n");
        write->reply.data[1] = write->items.data[write->items.size - 1]; // of its value
    }
    write->answered(write);
    mem_free(verdict);
    atomic_fetch_add(&court.answered, 1);
}

// Answers the oldest one that is held, or the newest.
static void judge(struct site *root, int status, uint64_t index)
{
    struct verdict *verdict = mem_alloc(sizeof *verdict);
    *verdict = (struct verdict){.task.run = give_verdict, .status = status, .index = index};
    unsigned before = atomic_load(&court.answered);
    loop_post(root->loop, &verdict->task);
    AWAIT(atomic_load(&court.answered) == before + 1);
}

struct letter {
    struct forwarded write;
    struct task task;
    int refused;
    _Atomic bool over;
};

static void on_answered(struct forwarded *write)
{
    struct letter *letter = CONTAINER_OF(write, struct letter, write);
    assert_false(atomic_load(&letter->over));
    atomic_store(&letter->over, true);
}

static void submit(struct task *task)
{
    struct letter *letter = CONTAINER_OF(task, struct letter, task);
    letter->refused = forward_submit(&letter->write);
    if (letter->refused != OK) {
        letter->write.status = letter->refused;
        atomic_store(&letter->over, true);
    }
}

static struct letter *post(struct site *site, const char *value, const char *path, size_t path_size)
{
    struct letter *letter = mem_zalloc(sizeof *letter);
    struct forwarded *write = &letter->write;
    write->instance = site->instance;
    write->loop = site->loop;
    write->answered = on_answered;
    write->patience_ns = PATIENCE_NS;
    memset(write->meant, 9, sizeof write->meant);
    struct bytes words[] = {bytes_text("SET"), bytes_text("key"), bytes_text(value)};
    write_head_append(&write->items, &(struct write_head){.protocol = 2, .calls = 1});
    write_words_append(&write->items, words, ARRAY_LEN(words));
    buf_append(&write->path, path, path_size);
    letter->task.run = submit;
    loop_post(site->loop, &letter->task);
    return letter;
}

static struct letter *send_one(struct site *site) { return post(site, "value", "", 0); }

// How it ended; it is gone then.
static int outcome(struct letter *letter)
{
    AWAIT(atomic_load(&letter->over));
    int status = letter->write.status;
    forward_end(&letter->write);
    mem_free(letter);
    return status;
}

// ---- a line of three ---------------------------------------------------------------------------

struct line {
    struct site *root, *middle, *leaf;
};

static uint64_t under_way(struct site *site)
{
    return METRIC_GET(site->metrics, instance, forwards);
}

static struct site *site_ready(const char *name, int role, uint64_t commit_wait)
{
    struct site *site = site_new(name, role);
    site->options.forward_max = 4;
    site->options.forward_bytes = MIB;
    site->options.commit_wait = commit_wait;
    return site;
}

static void line_open(struct line *line, uint64_t leaf_wait)
{
    court.count = 0;
    court.refusal = OK;
    court.newest = false;
    line->root = site_ready("root", ROLE_ROOT, 60000);
    site_open_instance(line->root);
    forward_serve(line->root->instance, &court, carry_out);
    site_open_links(line->root);
    line->middle = site_ready("middle", ROLE_REPLICA, 60000);
    site_parent(line->middle, line->root->address);
    site_open(line->middle);
    AWAIT(site_state_is(line->middle, "following"));
    line->leaf = site_ready("leaf", ROLE_REPLICA, leaf_wait);
    site_parent(line->leaf, line->middle->address);
    site_open(line->leaf);
    AWAIT(site_state_is(line->leaf, "following"));
}

static void line_close(struct line *line)
{
    site_close(line->leaf);
    site_close(line->middle);
    site_close(line->root);
}

static void test_there_and_back(void **state)
{
    (void)state;
    struct line line;
    line_open(&line, 60000);
    struct letter *first = send_one(line.leaf), *second = send_one(line.middle);
    AWAIT(held() == 2);
    assert_int_equal(under_way(line.leaf), 1);
    assert_int_equal(under_way(line.middle), 2);
    judge(line.root, OK, 41);
    judge(line.root, OK, 42);
    AWAIT(atomic_load(&first->over) && atomic_load(&second->over));
    assert_int_equal(first->write.index + second->write.index, 83);
    assert_int_equal(first->write.history[15], 7);
    assert_true(bytes_equal_text(buf_bytes(&first->write.reply), "+eK\r\n"));
    assert_int_equal(outcome(first), OK);
    assert_int_equal(outcome(second), OK);
    static const int errors[] = {ERR_READONLY, ERR_BUSY, ERR_UNKNOWN_OUTCOME, ERR_BATCH_SIZE};
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        struct letter *letter = send_one(line.leaf);
        AWAIT(held() == 1);
        judge(line.root, errors[i], 0);
        assert_int_equal(outcome(letter), errors[i]);
    }
    court.refusal = ERR_DISK_FULL;
    assert_int_equal(outcome(send_one(line.leaf)), ERR_DISK_FULL);
    AWAIT(under_way(line.root) == 0 && under_way(line.middle) == 0);
    line_close(&line);
}

// Each gets its own answer, in whatever order they come.
static void test_answers_out_of_order(void **state)
{
    (void)state;
    struct line line;
    line_open(&line, 60000);
    static const char *const values[] = {"a", "b", "c"};
    struct letter *letters[ARRAY_LEN(values)];
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        letters[i] = post(line.leaf, values[i], "", 0);
        AWAIT(held() == i + 1);
    }
    court.newest = true;
    for (size_t i = ARRAY_LEN(values); i > 0; i--) {
        judge(line.root, OK, i);
        AWAIT(atomic_load(&letters[i - 1]->over));
        assert_int_equal(letters[i - 1]->write.reply.data[1], values[i - 1][0]);
        assert_int_equal(outcome(letters[i - 1]), OK);
    }
    line_close(&line);
}

static void test_nobody_above(void **state)
{
    (void)state;
    struct line line;
    line_open(&line, 60000);
    // A loop, a way too long, and a root where nobody carries anything out.
    assert_int_equal(outcome(post(line.leaf, "v", "leaf", 5)), ERR_NO_LEADER);
    assert_int_equal(outcome(post(line.leaf, "v", "a\0middle", 9)), ERR_NO_LEADER);
    char far[1020];
    memset(far, 'x', sizeof far);
    assert_int_equal(outcome(post(line.leaf, "v", far, sizeof far)), ERR_NO_LEADER);
    assert_int_equal(held(), 0);
    forward_serve(line.root->instance, NULL, NULL);
    assert_int_equal(outcome(send_one(line.leaf)), ERR_NO_LEADER);
    struct site *orphan = site_ready("orphan", ROLE_REPLICA, 60000);
    site_open(orphan);
    assert_int_equal(outcome(send_one(orphan)), ERR_NO_LEADER);
    site_close(orphan);
    line_close(&line);
}

static void test_full(void **state)
{
    (void)state;
    struct line line;
    line_open(&line, 60000);
    struct letter *letters[4];
    for (size_t i = 0; i < ARRAY_LEN(letters); i++) {
        letters[i] = send_one(line.leaf);
    }
    AWAIT(held() == 4);
    assert_int_equal(outcome(send_one(line.leaf)), ERR_BUSY);
    assert_int_equal(outcome(send_one(line.middle)), ERR_BUSY);
    for (size_t i = 0; i < ARRAY_LEN(letters); i++) {
        judge(line.root, OK, i);
        assert_int_equal(outcome(letters[i]), OK);
    }
    // One always fits, beside it nothing does.
    AWAIT(under_way(line.middle) == 0 && under_way(line.root) == 0);
    char *large = mem_zalloc(2 * MIB);
    memset(large, 'v', 2 * MIB - 1);
    letters[0] = post(line.leaf, large, "", 0);
    mem_free(large);
    AWAIT(held() == 1);
    assert_int_equal(outcome(send_one(line.leaf)), ERR_BUSY);
    assert_int_equal(outcome(send_one(line.middle)), ERR_BUSY);
    judge(line.root, OK, 1);
    assert_int_equal(outcome(letters[0]), OK);
    // Answers count as well.
    letters[0] = send_one(line.root);
    letters[1] = send_one(line.root);
    AWAIT(held() == 2);
    assert_int_equal(forward_reply_fits(&letters[0]->write, MIB), ERR_BUSY);
    assert_int_equal(forward_reply_fits(&letters[0]->write, MIB / 2), OK);
    assert_int_equal(forward_reply_fits(&letters[0]->write, MIB / 4), OK);
    assert_int_equal(forward_reply_fits(&letters[1]->write, MIB / 2), OK);
    judge(line.root, OK, 1);
    judge(line.root, OK, 1);
    assert_int_equal(outcome(letters[0]), OK);
    assert_int_equal(outcome(letters[1]), OK);
    line_close(&line);
}

// A root whose peers are closed already.
static void rest_close(struct site *site)
{
    loop_stop(site->loop);
    pthread_join(site->thread, NULL);
    peers_free(site->peers);
    site_put_away(site);
    site_free(site);
}

// The link above the middle ends while a write is at the root: each knows only that it was sent.
static void test_link_lost(void **state)
{
    (void)state;
    struct line line;
    line_open(&line, 60000);
    struct letter *letter = send_one(line.leaf), *own = send_one(line.middle);
    AWAIT(held() == 2);
    struct gate gate;
    gate_open(&gate);
    peers_close(line.root->peers, &gate.closed);
    gate_await(&gate);
    assert_int_equal(outcome(letter), ERR_UNKNOWN_OUTCOME);
    assert_int_equal(outcome(own), ERR_UNKNOWN_OUTCOME);
    assert_int_equal(outcome(send_one(line.leaf)), ERR_NO_LEADER);
    assert_int_equal(held(), 2); // sent once
    // What the root still does is answered to nobody; only then it is quiet.
    assert_int_equal(under_way(line.root), 2);
    gate_open(&gate);
    forward_drain(line.root->instance, &gate.closed);
    judge(line.root, OK, 1);
    assert_int_not_equal(sem_trywait(&gate.raised), 0);
    judge(line.root, ERR_STOPPED, 0);
    gate_await(&gate);
    assert_int_equal(under_way(line.root), 0);
    site_close(line.leaf);
    site_close(line.middle);
    rest_close(line.root);
}

static void test_late_answer(void **state)
{
    (void)state;
    struct line line;
    line_open(&line, 30);
    struct upstream_status before, after;
    follow_status(line.leaf->instance, &before);
    struct letter *letter = send_one(line.leaf);
    AWAIT(held() == 1);
    assert_int_equal(outcome(letter), ERR_UNKNOWN_OUTCOME);
    judge(line.root, OK, 1); // nobody waits any more, here or in the middle
    court.refusal = ERR_BATCH_SIZE;
    AWAIT(outcome(send_one(line.leaf)) == ERR_BATCH_SIZE);
    AWAIT(under_way(line.root) == 0 && under_way(line.middle) == 0);
    follow_status(line.leaf->instance, &after);
    assert_int_equal(before.since_ns, after.since_ns); // the link stands
    line_close(&line);
}

// ---- the items ---------------------------------------------------------------------------------

static void make_items(struct buf *to, uint64_t *seed)
{
    struct write_head head = {.protocol = 3, .exec = true, .watched = 2, .calls = 3};
    struct bytes words[] = {bytes_text("MSET"), bytes_text("a"), bytes_text(""), bytes_text("b")};
    buf_clear(to);
    write_head_append(to, &head);
    write_watched_append(to, bytes_text("a"), 7);
    write_watched_append(to, bytes_text("b"), UINT64_MAX);
    write_words_append(to, words, 1 + test_random(seed) % ARRAY_LEN(words));
    write_answer_append(to, bytes_text("+PONG\r\n"));
    write_words_append(to, words, ARRAY_LEN(words));
}

// Whatever passes the check is read without an error, to its end.
static void read_all(struct bytes items)
{
    struct unpacker from = unpacker_of(items);
    struct write_head head = write_head_next(&from);
    uint64_t version;
    for (unsigned i = 0; i < head.watched; i++) {
        assert_in_range(write_watched_next(&from, &version).size, 1, 1024);
    }
    for (unsigned i = 0; i < head.calls; i++) {
        struct write_call call = write_call_next(&from);
        assert_true(call.answered || call.words > 0);
        for (unsigned w = 0; w < call.words; w++) {
            (void)write_word_next(&from);
        }
    }
    assert_int_equal(unpack_end(&from), OK);
}

static void test_items(void **state)
{
    (void)state;
    uint64_t seed = 1;
    unsigned sound = 0;
    struct buf items = {0};
    for (unsigned i = 0; i < 20000; i++) {
        make_items(&items, &seed);
        assert_int_equal(write_items_check(buf_bytes(&items)), OK);
        read_all(buf_bytes(&items));
        for (unsigned flips = 1 + test_random(&seed) % 3; flips > 0; flips--) {
            items.data[test_random(&seed) % items.size] ^= (uint8_t)(1u << test_random(&seed) % 8);
        }
        size_t size = i % 2 == 0 ? items.size : test_random(&seed) % items.size;
        uint8_t *exact = mem_copy(items.data, size); // nothing beyond it may be read
        if (write_items_check(bytes_of(exact, size)) == OK) {
            read_all(bytes_of(exact, size));
            sound++;
        }
        mem_free(exact);
    }
    assert_in_range(sound, 100, 15000);
    static const struct write_head bad[] = {
        {.protocol = 1, .calls = 1},
        {.protocol = 4, .calls = 1},
        {.protocol = 2, .calls = 2},
        {.protocol = 2, .calls = 0},
        {.protocol = 2, .calls = 1, .watched = 1},
        {.protocol = 2, .exec = true, .calls = WRITE_CALLS_MAX + 1},
        {.protocol = 2, .exec = true, .calls = 1, .watched = WRITE_CALLS_MAX + 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        buf_clear(&items);
        write_head_append(&items, &bad[i]);
        for (unsigned n = 0; n < bad[i].watched; n++) {
            write_watched_append(&items, bytes_text("k"), 1);
        }
        for (unsigned n = 0; n < bad[i].calls; n++) {
            write_answer_append(&items, bytes_text(""));
        }
        assert_int_equal(write_items_check(buf_bytes(&items)), ERR_PROTOCOL);
    }
    buf_free(&items);
}

int main(void)
{
    log_open(getenv("QS_TEST_LOG") != NULL ? LOG_DEBUG : (enum log_level)(LOG_ERROR + 1));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_answers_out_of_order),
        cmocka_unit_test(test_nobody_above),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_link_lost),
        cmocka_unit_test(test_late_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
