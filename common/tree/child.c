// SPDX-License-Identifier: Apache-2.0
// One child: a cursor into the journal, sent on as it stands on the disk. The feed writes an
// announcement, then that stretch of the file from the page cache, and so on until the end of the
// journal; news (blocks published, heartbeats arrived) wake it. A child that reads slowly costs
// its cursor: nothing is queued for it, its socket is simply full.
//
// Between two announcements go heartbeats and the blocks that a child asked for again. Everything
// on the link's loop but the notice, which is raised from anywhere.
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/tree/fanout.h"
#include "common/tree/forward.h"
#include "common/tree/pages.h"

// One announcement, so that heartbeats find a gap; what one turn of the loop may send.
#define STRETCH_BYTES MIB
#define TURN_BYTES (4 * MIB)
// A refetch asks for what is damaged: more than this many blocks is no repair.
#define REFETCH_MAX 1000000u

static struct log_gate bad_block_gate, refetch_gate, deep_gate;

// A silent child costs no more than its cursor, so it may be silent for longer than a parent may:
// one that stood still for a moment is not made to connect again.
#define PATIENCE 3

struct child {
    struct fanout_child entry;
    struct fanout *fanout;
    struct instance *instance;
    struct link *link; // NULL once it is closed
    struct loop *loop;
    struct journal_cursor cursor;
    struct journal_subscriber journal_subscriber;
    struct beats_subscriber beats_subscriber;
    struct notice news;
    struct timer beat_timer;
    bool beat_due;
    uint64_t beat_received_ns; // of the one relayed last
    uint64_t sequence;         // at a root
    struct journal_cursor again; // for refetch
    uint64_t again_next, again_last; // blocks still to be sent again; 0 = none
    bool complained;
    struct pages pages; // of the tree, as it asked for them
    struct stand_giver stand; // a root that stands by
    struct forward_giver forward; // writes that it gave
};

// ---- heartbeats --------------------------------------------------------------------------------

// What a root says about itself. False while it has no view yet.
static bool own_beat(struct child *child, struct beat *ret_beat)
{
    struct view *view = instance_pin(child->instance);
    if (view == NULL) {
        return false;
    }
    *ret_beat = (struct beat){.epoch = view->epoch,
                              .commit_index = view->place.index,
                              .block = view->place.number,
                              .root_ms = clock_wall_ms(),
                              .delay_ns = instance_age_ns(child->instance),
                              .sequence = ++child->sequence,
                              .way_ns = WAY_AT_ROOT_NS,
                              .chain = view->place.chain,
                              .digest = view->digest.sum,
                              .received_ns = clock_mono_ns()};
    const uint8_t *history = view->place.number > 0 ? view->history
                                                    : journal_history(child->instance->journal);
    memcpy(ret_beat->history, history, HISTORY_ID_BYTES);
    view_release(view);
    return true;
}

// Too many are fed here: this one is told who has room, if it is to go.
static void send_away(struct child *child)
{
    char elsewhere[ELSEWHERE_BYTES];
    size_t size = child->stand.stands
                      ? 0
                      : fanout_make_room(child->fanout, &child->entry, elsewhere);
    if (size > 0) {
        struct message_make_room message = {.elsewhere = bytes_of(elsewhere, size)};
        message_make_room_encode(link_out(child->link), &message);
        link_wrote(child->link);
    }
}

static void send_beat(struct child *child)
{
    bool root = instance_leads(child->instance);
    struct beat beat;
    bool found = root ? own_beat(child, &beat) : beats_newest(child->instance->beats, &beat);
    if (!found || (!child->beat_due && beat.received_ns == child->beat_received_ns)) {
        return;
    }
    struct buf *out = link_out(child->link);
    if (beat_encode(out, &beat, child->instance->node->node, clock_mono_ns()) != OK) {
        LOG_GATED(&deep_gate, LOG_WARN, child->instance->name,
                  "a heartbeat's path is too long to be passed on: the tree is too deep");
        return;
    }
    link_wrote(child->link);
    child->beat_due = false;
    child->beat_received_ns = beat.received_ns;
    send_away(child);
    loop_timer_set(child->loop, &child->beat_timer, child->instance->node->heartbeat * NS_PER_MS);
}

static void beat_if_due(struct child *child)
{
    bool root = instance_leads(child->instance);
    if ((child->beat_due || !root) && link_may_talk(child->link)) {
        send_beat(child);
    }
    forward_tell(&child->forward, child->link);
    pages_send(&child->pages, child->link);
}

// ---- blocks asked for again --------------------------------------------------------------------

static void cannot_give(struct child *child, int error)
{
    struct message_bad_block answer = {.block = child->again_next, .error = (uint64_t)-error};
    message_bad_block_encode(link_out(child->link), &answer);
    link_wrote(child->link);
    child->again_next = child->again_last = 0;
    journal_cursor_close(&child->again);
}

// Sends the next block of a refetch, one at a time, each when the one before is out.
static void send_again(struct child *child)
{
    struct block *block;
    int error = OK;
    if (child->again.journal == NULL) {
        error = journal_cursor_open(child->instance->journal, &child->again, child->again_next);
    }
    if (error == OK) {
        error = journal_cursor_next(&child->again, &block);
    }
    if (error != OK) {
        if (error == ERR_DAMAGED) {
            instance_recheck(child->instance, child->again_next);
        }
        cannot_give(child, error);
        return;
    }
    link_announce_patch(child->link, child->again_next, block->stored.size);
    link_send_raw(child->link, block->stored);
    block_release(block);
    child->again_next++;
    if (child->again_next > child->again_last) {
        child->again_next = child->again_last = 0;
        journal_cursor_close(&child->again);
    }
}

// ---- the feed ----------------------------------------------------------------------------------

// Announces the next stretch. False: there is nothing to send now.
static bool announce(struct child *child)
{
    int fd;
    uint64_t bytes;
    int error = journal_cursor_span(&child->cursor, &fd, &bytes);
    if (error != OK) {
        const char *reason = error == ERR_TOO_OLD ? "too slow: the journal was trimmed before you"
                                                  : error_text(error);
        log_line(LOG_WARN, child->instance->name, "leaving child %s at %s: %s",
                 child->entry.status.node, child->link->address, reason);
        link_dismiss(child->link, error, reason);
        return false;
    }
    if (bytes == 0) {
        return false;
    }
    link_announce(child->link, u64_min(bytes, STRETCH_BYTES));
    return true;
}

// Sends what it can of the announced stretch. Returns bytes sent; 0 = no more now.
static uint64_t send_stretch(struct child *child)
{
    int fd;
    uint64_t bytes;
    int error = journal_cursor_span(&child->cursor, &fd, &bytes);
    if (error == OK && bytes == 0) {
        error = ERR_DAMAGED; // the file is shorter than what was announced
    }
    ssize_t sent = error;
    if (error == OK) {
        off_t offset = (off_t)child->cursor.offset;
        size_t size = u64_min(bytes, child->link->raw_out_left);
        sent = link_send_file(child->link, fd, &offset, size);
    }
    if (sent < 0) {
        link_close(child->link, (int)sent);
        return 0;
    }
    journal_cursor_advance(&child->cursor, (uint64_t)sent);
    return (uint64_t)sent;
}

static uint64_t feed(struct child *child)
{
    uint64_t sent = 0;
    bool going = true;
    while (going && sent < TURN_BYTES && !child->link->ending) {
        // A block sent again lies in the out buffer whole; the next thing comes after it.
        if (child->again_next != 0 && child->link->raw_out_left == 0) {
            if (stream_pending(&child->link->stream) == 0) {
                send_again(child);
            }
            break;
        }
        going = child->link->raw_out_left > 0 || announce(child);
        uint64_t step = going ? send_stretch(child) : 0;
        sent += step;
        going = step > 0;
        if (!child->link->ending) {
            beat_if_due(child);
        }
    }
    if (sent >= TURN_BYTES && !child->link->ending) {
        stream_want_drained(&child->link->stream);
    }
    return sent;
}

static void child_turn(struct child *child)
{
    if (child->link == NULL || child->link->ending) {
        return;
    }
    if (child->stand.stands &&
        !stand_tell(&child->stand, child->instance, child->link, child->beat_due)) {
        return;
    }
    beat_if_due(child);
    uint64_t sent = feed(child);
    if (sent > 0) {
        fanout_sent(child->fanout, &child->entry, sent);
    }
}

static void on_drained(struct link *link) { child_turn(link->owner); }

static void on_beat_timer(struct timer *timer)
{
    struct child *child = CONTAINER_OF(timer, struct child, beat_timer);
    child->beat_due = true;
    loop_timer_set(child->loop, timer, child->instance->node->heartbeat * NS_PER_MS);
    child_turn(child);
}

// ---- messages ----------------------------------------------------------------------------------

static int on_progress(struct child *child, struct bytes payload)
{
    struct message_progress progress;
    int error = message_progress_decode(payload, &progress);
    if (error == OK) {
        fanout_progress(child->fanout, &child->entry, &progress, child->link->rtt_ns);
        stand_on_progress(&child->stand, child->instance);
    }
    return error;
}

static int on_bad_block(struct child *child, struct bytes payload)
{
    struct message_bad_block bad;
    int error = message_bad_block_decode(payload, &bad);
    if (error != OK || child->complained) {
        return ERR_PROTOCOL; // it leaves after the first: a second one is made up
    }
    child->complained = true;
    LOG_GATED(&bad_block_gate, LOG_ERROR, child->instance->name,
              "%s at %s found block %llu bad (%s): it is read again here", child->entry.status.node,
              child->link->address, (unsigned long long)bad.block,
              bad.error <= INT32_MAX ? error_text(-(int)bad.error) : "unknown error");
    instance_recheck(child->instance, bad.block);
    return OK;
}

static int on_refetch(struct child *child, struct bytes payload)
{
    struct message_refetch refetch;
    int error = message_refetch_decode(payload, &refetch);
    if (error != OK || refetch.first == 0 || refetch.last < refetch.first ||
        refetch.last - refetch.first >= REFETCH_MAX) {
        return ERR_PROTOCOL;
    }
    LOG_GATED(&refetch_gate, LOG_WARN, child->instance->name,
              "%s at %s repairs its journal: blocks %llu to %llu", child->entry.status.node,
              child->link->address, (unsigned long long)refetch.first,
              (unsigned long long)refetch.last);
    journal_cursor_close(&child->again); // a later wish takes the place of the one before
    child->again_next = refetch.first;
    child->again_last = refetch.last;
    stream_want_drained(&child->link->stream);
    return OK;
}

static int on_tree_report(struct child *child, struct bytes payload)
{
    struct message_tree_report report;
    int error = message_tree_report_decode(payload, &report);
    return error != OK ? error : census_take(child->instance->census, child, report.items,
                                             clock_mono_ns());
}

static int on_message(struct link *link, uint16_t code, struct bytes payload)
{
    struct child *child = link->owner;
    switch (code) {
    case MESSAGE_progress:
        return on_progress(child, payload);
    case MESSAGE_bad_block:
        return on_bad_block(child, payload);
    case MESSAGE_refetch:
        return on_refetch(child, payload);
    case MESSAGE_tree_report:
        return on_tree_report(child, payload);
    case MESSAGE_tree_ask:
        return pages_on_ask(&child->pages, payload);
    case MESSAGE_acknowledge:
        return stand_on_acknowledge(&child->stand, child->instance, payload);
    case MESSAGE_forward:
        return forward_on_write(&child->forward, payload);
    default:
        return ERR_PROTOCOL;
    }
}

// ---- life --------------------------------------------------------------------------------------

static void child_free_if_over(struct child *child)
{
    if (child->link == NULL && !atomic_load(&child->news.pending) &&
        pages_close(&child->pages)) {
        mem_free(child);
    }
}

static void on_news(struct notice *notice)
{
    struct child *child = CONTAINER_OF(notice, struct child, news);
    child_turn(child);
    child_free_if_over(child);
}

static void on_pages(struct pages *pages)
{
    struct child *child = CONTAINER_OF(pages, struct child, pages);
    child_turn(child);
    child_free_if_over(child);
}

static void on_forwarded(struct forward_giver *giver)
{
    child_turn(CONTAINER_OF(giver, struct child, forward));
}

static void on_close(struct link *link, int error)
{
    struct child *child = link->owner;
    log_line(LOG_INFO, child->instance->name, "child %s at %s is gone: %s",
             child->entry.status.node, link->address,
             link->closed_by_peer ? link->last_words : error_text(error));
    journal_unsubscribe(child->instance->journal, &child->journal_subscriber);
    beats_unsubscribe(child->instance->beats, &child->beats_subscriber);
    fanout_remove(child->fanout, &child->entry);
    census_lose(child->instance->census, child);
    forward_giver_close(&child->forward);
    loop_timer_clear(&child->beat_timer);
    journal_cursor_close(&child->cursor);
    journal_cursor_close(&child->again);
    child->link = NULL;
    mem_free(link);
    child_free_if_over(child);
}

void child_reach(const struct link *link, const struct message_hello *hello,
                 char to[ADDRESS_TEXT_BYTES])
{
    char text[ADDRESS_TEXT_BYTES];
    struct address reach, from;
    const char *reason;
    link_words(text, sizeof text, hello->address);
    if (hello->address.size < sizeof text && address_parse(&reach, text, &reason) == OK) {
        if (address_parse(&from, link->address, &reason) == OK) {
            address_at_host(&reach, &from);
        }
        address_text(&reach, to);
    }
}

void child_open(struct fanout *fanout, struct link *link, struct journal_cursor *cursor,
                const struct message_hello *hello)
{
    static const struct link_ops ops = {
        .on_message = on_message, .on_drained = on_drained, .on_close = on_close};
    struct child *child = mem_zalloc(sizeof *child);
    child->fanout = fanout;
    child->instance = fanout->instance;
    child->link = link;
    child->loop = link->stream.watch.loop;
    child->cursor = *cursor;
    child->beat_due = true;
    struct child_status *status = &child->entry.status;
    *status = (struct child_status){.role = (int)hello->role,
                                    .received = hello->index,
                                    .age_ns = UINT64_MAX,
                                    .since_ns = clock_mono_ns(),
                                    .heard_ns = clock_mono_ns()};
    link_words(status->node, sizeof status->node, hello->node);
    memcpy(status->address, link->address, sizeof status->address);
    child_reach(link, hello, child->entry.reach);
    link_words(child->entry.site, sizeof child->entry.site, hello->site);
    list_init(&child->entry.node);
    pages_open(&child->pages, child->instance, child->loop, on_pages);
    forward_giver_open(&child->forward, child->instance, child->loop, on_forwarded);
    notice_init(&child->news, loop_mailbox(child->loop), on_news);
    timer_init(&child->beat_timer, on_beat_timer);
    loop_timer_set(child->loop, &child->beat_timer,
                   child->instance->node->heartbeat * NS_PER_MS);
    link_adopt(link, &ops, child);
    link->silence_ns *= PATIENCE;
    fanout_add(fanout, &child->entry);
    unsigned root;
    if (hello->purpose == PURPOSE_STAND && stand_allows(child->instance, hello, &root)) {
        stand_giver_open(&child->stand, child->instance, root);
    }
    child->journal_subscriber =
        (struct journal_subscriber){.notice = &child->news, .tail = child->stand.stands};
    child->beats_subscriber = (struct beats_subscriber){.notice = &child->news};
    journal_subscribe(child->instance->journal, &child->journal_subscriber);
    beats_subscribe(child->instance->beats, &child->beats_subscriber);
    // What was published before the subscription is found by looking once.
    notice_raise(&child->news);
}
