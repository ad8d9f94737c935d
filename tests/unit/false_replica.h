// SPDX-License-Identifier: Apache-2.0
// A door that a proxy fetches at: behind it stands a real replica, or one that plays a trick on
// whoever asks. The same address can be closed and opened again.
#ifndef QS_TESTS_UNIT_FALSE_REPLICA_H
#define QS_TESTS_UNIT_FALSE_REPLICA_H

#include "tests/unit/instance_fixture.h"

#include "common/io/address.h"
#include "common/tree/link.h"
#include "common/wire/fetch_items.h"
#include "common/wire/past_items.h"
#include "replica/answer.h"

enum trick {
    HONEST,
    SAYS_BEHIND,
    SAYS_NEVER,
    SAYS_GONE,
    SAYS_DAMAGED, // it cannot read that one
    LIES,
    SAYS_TOO_NEW, // of the past: a sound row, but of the index after
    KEEPS_SILENT,
    HOLDS_BACK, // its lies come when door_release says so
    HANGS_UP,
    REFUSES,
    OTHER_HISTORY, // and else as one that lies
    OTHER_GONE,    // likewise, and as one whose history does not reach back
    MISTAKES_US,   // honest, but takes the proxy for one of another history
};

struct door {
    struct watch watch;
    struct test_node *node;
    struct test_instance *replica; // whose values it gives
    _Atomic int trick;
    _Atomic unsigned asked; // items
    _Atomic unsigned messages;
    _Atomic unsigned greeted; // links
    struct link *link; // the newest false one
    uint64_t held_id;  // of the newest request held back
    unsigned held_count;
    struct address address;
    char text[ADDRESS_TEXT_BYTES];
    int fd;
    _Atomic bool open;
};

static const uint8_t other_history[HISTORY_ID_BYTES] = "another history";

static void on_false_close(struct link *link, int error)
{
    struct door *door = link->owner;
    (void)error;
    if (door->link == link) {
        door->link = NULL;
    }
    mem_free(link);
}

static void answer_false(struct link *link, uint64_t id, unsigned count, enum fetch_status status)
{
    struct buf items = {0};
    fetch_items_begin(&items, count);
    for (unsigned i = 0; i < count; i++) {
        fetch_answer_append(&items, &(struct fetch_answer){status, bytes_text("a lie")});
    }
    const struct message_fetched fetched = {.id = id, .items = buf_bytes(&items)};
    message_fetched_encode(link_out(link), &fetched);
    link_wrote(link);
    buf_free(&items);
}

// On the loop: what was held back is answered.
SUPPORT void door_release(void *argument)
{
    struct door *door = argument;
    assert_true(door->link != NULL && door->held_count > 0);
    answer_false(door->link, door->held_id, door->held_count, FETCH_EXACT);
}

static void give_false(struct door *door, struct link *link, const struct message_fetch *fetch)
{
    struct fetch_ask asks[FETCH_ITEMS_MAX];
    unsigned count;
    assert_int_equal(fetch_asks_decode(fetch->items, asks, &count), OK);
    // Before it counts: who waits for that may change it next.
    int trick = atomic_load(&door->trick);
    atomic_fetch_add(&door->asked, count);
    atomic_fetch_add(&door->messages, 1);
    static const enum fetch_status statuses[] = {[SAYS_BEHIND] = FETCH_BEHIND,
                                                 [SAYS_NEVER] = FETCH_NEVER,
                                                 [SAYS_GONE] = FETCH_GONE,
                                                 [SAYS_DAMAGED] = FETCH_ERROR,
                                                 [LIES] = FETCH_EXACT,
                                                 [SAYS_TOO_NEW] = FETCH_EXACT,
                                                 [OTHER_HISTORY] = FETCH_EXACT,
                                                 [OTHER_GONE] = FETCH_GONE};
    if (trick == HANGS_UP) {
        link_close(link, OK);
        return;
    }
    door->held_id = fetch->id;
    door->held_count = count;
    if (trick != KEEPS_SILENT && trick != HOLDS_BACK) {
        answer_false(link, fetch->id, count, statuses[trick]);
    }
}

// What a replica makes of a question about the past: its status, and one row that it made up.
static void recall_false(struct link *link, bool range, uint64_t id, struct past_row row,
                         enum fetch_status status)
{
    struct buf items = {0};
    row.value = bytes_text("a lie");
    if (row.version > 1) {
        row.check = record_check(row.version, row.value);
    }
    if (status == FETCH_EXACT) {
        past_row_append(&items, &row);
    }
    if (range) {
        const struct message_pasted pasted = {
            .id = id, .status = (uint64_t)status, .items = buf_bytes(&items)};
        message_pasted_encode(link_out(link), &pasted);
    } else {
        const struct message_looked looked = {
            .id = id, .status = (uint64_t)status, .items = buf_bytes(&items)};
        message_looked_encode(link_out(link), &looked);
    }
    link_wrote(link);
    buf_free(&items);
}

static int on_false_question(struct link *link, bool range, struct bytes payload)
{
    struct door *door = link->owner;
    struct message_look look = {0};
    struct message_past past = {0};
    struct bytes key = bytes_text("\x01");
    if (range) {
        assert_int_equal(message_past_decode(payload, &past), OK);
    } else {
        assert_int_equal(message_look_decode(payload, &look), OK);
        struct bytes items = look.items;
        key = past_key_next(&items);
    }
    atomic_fetch_add(&door->messages, 1);
    static const enum fetch_status statuses[] = {[SAYS_BEHIND] = FETCH_BEHIND,
                                                 [SAYS_NEVER] = FETCH_NEVER,
                                                 [SAYS_GONE] = FETCH_GONE,
                                                 [SAYS_DAMAGED] = FETCH_ERROR,
                                                 [LIES] = FETCH_EXACT,
                                                 [SAYS_TOO_NEW] = FETCH_EXACT};
    int trick = atomic_load(&door->trick);
    struct past_row row = {.key = key, .version = 1};
    if (trick == SAYS_TOO_NEW) {
        row.version = (range ? past.at : look.at) + 1;
    }
    if (trick == HANGS_UP) {
        link_close(link, OK);
    } else if (trick != KEEPS_SILENT) {
        recall_false(link, range, range ? past.id : look.id, row, statuses[trick]);
    }
    return OK;
}

static int on_false_message(struct link *link, uint16_t code, struct bytes payload)
{
    if (code == MESSAGE_look || code == MESSAGE_past) {
        return on_false_question(link, code == MESSAGE_past, payload);
    }
    struct message_fetch fetch;
    assert_int_equal(code, MESSAGE_fetch);
    assert_int_equal(message_fetch_decode(payload, &fetch), OK);
    give_false(link->owner, link, &fetch);
    return OK;
}

static const struct link_ops false_ops = {.on_message = on_false_message,
                                          .on_close = on_false_close};

static int on_hello(struct link *link, uint16_t code, struct bytes payload)
{
    struct door *door = link->owner;
    struct message_hello hello;
    assert_int_equal(code, MESSAGE_hello);
    assert_int_equal(message_hello_decode(payload, &hello), OK);
    assert_int_equal(hello.purpose, PURPOSE_FETCH);
    atomic_fetch_add(&door->greeted, 1);
    int trick = atomic_load(&door->trick);
    bool is_other = trick == OTHER_HISTORY || trick == OTHER_GONE;
    if (trick == MISTAKES_US) {
        hello.history = bytes_of(other_history, HISTORY_ID_BYTES);
    }
    if (trick == HONEST || trick == MISTAKES_US) {
        door->link = NULL;
        answer_accept(door->replica->instance, door->node->readers, link, &hello);
        return OK;
    }
    link_adopt(link, &false_ops, door);
    const struct message_welcome welcome = {
        .protocol = PEER_PROTOCOL,
        .answer = trick == REFUSES ? ANSWER_REFUSED : ANSWER_RESUME,
        .reason = bytes_text("no"),
        .history = bytes_of(is_other ? other_history : test_history, HISTORY_ID_BYTES)};
    message_welcome_encode(link_out(link), &welcome);
    link_wrote(link);
    return OK;
}

static const struct link_ops hello_ops = {.on_message = on_hello, .on_close = on_false_close};

static void on_accept(struct watch *watch, int fd)
{
    struct door *door = CONTAINER_OF(watch, struct door, watch);
    struct link *link = mem_zalloc(sizeof *link);
    link_open(link, door->node->loop, fd, false, NS_PER_S, 10 * NS_PER_S, &hello_ops);
    link->owner = door;
    door->link = link;
}

static void on_door_closed(struct watch *watch)
{
    CONTAINER_OF(watch, struct door, watch)->open = false;
}

static void door_start(void *argument)
{
    static const struct watch_ops ops = {.on_accept = on_accept, .on_closed = on_door_closed};
    struct door *door = argument;
    loop_watch_open(door->node->loop, &door->watch, door->fd, &ops);
    loop_accept_start(&door->watch);
}

static void door_stop(void *argument)
{
    struct door *door = argument;
    if (door->open) {
        loop_watch_close(&door->watch);
    }
    if (door->link != NULL) {
        link_close(door->link, OK);
    }
}

// Listens; the address stays the same when it is opened a second time.
static void door_open(struct test_node *node, struct test_instance *replica, struct door *door,
                      const char *name, enum trick trick)
{
    const char *reason = "";
    while (atomic_load(&door->open)) {
        sched_yield(); // the one before is closed at the end of a turn
    }
    door->node = node;
    door->replica = replica;
    atomic_store(&door->trick, trick);
    snprintf(door->text, sizeof door->text, "unix:%s/%s.sock", node->directory, name);
    assert_int_equal(address_parse(&door->address, door->text, &reason), OK);
    assert_int_equal(address_listen(&door->address, &door->fd, &reason), OK);
    door->open = true;
    test_on_loop(node, door_start, door);
}

#endif
