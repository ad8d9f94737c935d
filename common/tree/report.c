// SPDX-License-Identifier: Apache-2.0
// What goes up and comes down beside the blocks: progress to the parent, promptly while something
// is under way (WAIT counts on it) and at each heartbeat interval; what this node and those below
// it say of themselves; heartbeats from the parent, with which this node's state is judged by the
// log's own digest, and the lag of the hop is measured.
#include "common/base/clock.h"
#include "common/tree/follow.h"

#define SOON_NS (10 * NS_PER_MS)
// A parent's stillness is borne this many times longer after each parent left for it in vain.
#define PATIENCE_SHIFT_MAX 4u

static uint64_t heartbeat_ns(const struct follow *follow)
{
    return follow->instance->node->heartbeat * NS_PER_MS;
}

// ---- judging -----------------------------------------------------------------------------------

// A beat says what the state at the end of a block must be; when this node shows just that block
// its own digest is compared.
static void judge(struct follow *follow, const struct view *view)
{
    const struct beat *beat = &follow->judged;
    if (beat->received_ns == 0 || view->place.number < beat->block) {
        return;
    }
    bool same_place = view->place.number == beat->block && view->place.index == beat->commit_index;
    bool agrees = hash128_equal(view->place.chain, beat->chain) &&
                  hash128_equal(view->digest.sum, beat->digest);
    if (same_place && !agrees) {
        METRIC_ADD(follow->instance->metrics, instance, digest_mismatches, 1);
        if (!follow->mismatch_logged) {
            follow->mismatch_logged = true;
            char here[HASH128_TEXT_BYTES], there[HASH128_TEXT_BYTES];
            hash128_text(view->digest.sum, here);
            hash128_text(beat->digest, there);
            log_line(LOG_ERROR, follow->instance->name,
                     "this node has diverged: at index %llu its digest is %s, the root's %s",
                     (unsigned long long)beat->commit_index, here, there);
        }
    }
    follow->judged.received_ns = 0;
}

// ---- the lag of the hop ------------------------------------------------------------------------

// What blocks wait between the parent and here: as long as the heartbeat that tells of them waited
// there, and from its arrival until theirs. Both times are spans of one clock each.
static void measure_queue(struct follow *follow, uint64_t now_ns)
{
    struct lag *lag = &follow->lag;
    if (lag->block == 0) {
        return;
    }
    struct instance_metrics *metrics = follow->instance->metrics;
    uint64_t before_ns = METRIC_GET(metrics, instance, lag_queue_ns);
    uint64_t lag_ns = now_ns - u64_min(now_ns, lag->begun_ns);
    if (follow->last_known && follow->last.number >= lag->block) {
        lag->block = 0;
        METRIC_SET(metrics, instance, lag_queue_ns, (7 * before_ns + lag_ns) / 8);
    } else if (lag_ns > before_ns) {
        METRIC_SET(metrics, instance, lag_queue_ns, lag_ns); // so long at least
    }
}

static void measure(struct follow *follow, const struct beat *beat)
{
    METRIC_SET(follow->instance->metrics, instance, lag_network_ns, follow->link.rtt_ns / 2);
    if (follow->lag.block == 0) {
        uint64_t held_ns = u64_min(beat->held_ns, beat->received_ns);
        follow->lag = (struct lag){beat->block, beat->received_ns - held_ns};
    }
    measure_queue(follow, beat->received_ns);
}

// ---- heartbeats --------------------------------------------------------------------------------

static bool is_news(struct follow *follow, const struct beat *beat)
{
    bool news = beat->sequence != follow->beat_sequence ||
                beat->commit_index != follow->beat_commit;
    follow->beat_sequence = beat->sequence;
    follow->beat_commit = beat->commit_index;
    return news;
}

// A new beat that came `since_ns` after the one before. The first of a link shows nothing, its
// sender may have had it for long; when others follow as the root sends them it hears of the root.
static void look_at_rhythm(struct follow *follow, uint64_t since_ns)
{
    if (++follow->news > 1 && since_ns < 2 * heartbeat_ns(follow)) {
        follow->lost[0] = '\0';
        follow->at->doubtful = false;
        scout_calm(follow);
    }
}

int report_on_beat(struct follow *follow, struct bytes payload)
{
    struct instance *instance = follow->instance;
    struct beat beat;
    // Before the link has measured it what the handshake took is nearer to the truth than nothing.
    uint64_t rtt_ns = follow->link.rtt_ns != 0 ? follow->link.rtt_ns : follow->at->rtt_ns;
    int error = beat_decode(&beat, payload, rtt_ns / 2, clock_mono_ns());
    if (error != OK) {
        return error;
    }
    if (memcmp(beat.history, follow->history, HISTORY_ID_BYTES) != 0) {
        return ERR_PROTOCOL;
    }
    bool passed = path_passed(bytes_of(beat.path, beat.path_size), instance->node->node);
    if (passed && instance->lead != NULL) {
        return OK; // of when this root led: nobody is fed by it now
    }
    if (passed) {
        follow_alarm(follow, LOG_WARN, "%s gets its log from this node: a loop",
                     follow->link.address);
        follow_leave(follow, ERR_REFUSED, false, "your log comes from this node: a loop");
        return OK;
    }
    beats_add(instance->beats, &beat);
    scout_measure(follow, beat.way_ns);
    if (is_news(follow, &beat)) {
        uint64_t before_ns = follow->news_ns;
        follow->news_ns = loop_now_ns(follow->loop);
        look_at_rhythm(follow, follow->news_ns - before_ns);
        follow->stale_rounds = 0;
        follow->judged = beat;
        measure(follow, &beat);
        if (follow->news_ns - follow->started_ns >= instance->node->reconnect * NS_PER_MS) {
            follow_flows(follow);
        }
        struct view *view = instance_pin(instance);
        if (view != NULL) {
            judge(follow, view);
            view_release(view);
        }
    }
    return OK;
}

// ---- the census --------------------------------------------------------------------------------

// Appends what this node says of itself when it is time to: at once what matters for the tree's
// shape, rarely what changes all the time, and now and then that it is there.
static void say(struct follow *follow, struct buf *to, uint64_t now_ns)
{
    struct said *said = &follow->said;
    struct census_own own;
    census_own(&own, follow->instance);
    const struct census_item *item = &own.item;
    uint64_t since_ns = now_ns - said->at_ns;
    bool urgent = said->at_ns == 0 || said->state != item->state || said->flags != item->flags;
    if (urgent || since_ns >= CENSUS_SIGN_NS ||
        (since_ns >= CENSUS_SAY_NS && said->visible != item->visible)) {
        census_item_append(to, item);
        said->at_ns = now_ns;
        said->state = item->state;
        said->flags = item->flags;
        said->visible = item->visible;
    }
}

static void report_census(struct follow *follow)
{
    uint64_t now_ns = clock_mono_ns();
    if (now_ns - follow->said.report_ns < CENSUS_REPORT_NS || !link_may_talk(&follow->link)) {
        return;
    }
    struct buf items = {0};
    say(follow, &items, now_ns);
    census_tell(follow->instance->census, &items, now_ns);
    if (items.size > 0) {
        struct message_tree_report report = {.items = buf_bytes(&items)};
        message_tree_report_encode(link_out(&follow->link), &report);
        link_wrote(&follow->link);
        follow->said.report_ns = now_ns;
    }
    buf_free(&items);
}

// ---- progress ----------------------------------------------------------------------------------

static void publish_status(struct follow *follow, uint64_t received)
{
    pthread_mutex_lock(&follow->instance->lock);
    follow->status.received_index = received;
    follow->status.rtt_ns = follow->link.rtt_ns;
    pthread_mutex_unlock(&follow->instance->lock);
}

static uint64_t room_of(const struct instance *instance)
{
    uint64_t limit = instance->options->children_max;
    uint64_t fed = METRIC_GET(instance->metrics, instance, children);
    return instance->options->role == ROLE_PROXY ? 0
           : limit == 0                          ? UINT64_MAX
                                                 : limit - u64_min(limit, fed);
}

// Tells the parent where this node stands. True while that will change by itself.
static bool tell(struct follow *follow)
{
    struct instance *instance = follow->instance;
    struct view *view = instance_pin(instance);
    struct message_progress now = {
        .received = block_end(&follow->last),
        .synced = atomic_load(&instance->synced),
        .visible = view != NULL ? view->place.index : 0,
        .room = room_of(instance),
    };
    if (view != NULL) {
        judge(follow, view);
        view_release(view);
    }
    bool changed = now.received != follow->told.received || now.synced != follow->told.synced ||
                   now.visible != follow->told.visible;
    bool due = loop_now_ns(follow->loop) - follow->told_ns >= heartbeat_ns(follow);
    if ((changed || due) && link_may_talk(&follow->link)) {
        now.age_ns = instance_age_ns(instance);
        message_progress_encode(link_out(&follow->link), &now);
        link_wrote(&follow->link);
        follow->told = now;
        follow->told_ns = loop_now_ns(follow->loop);
        publish_status(follow, now.received);
    }
    return now.synced < now.received || now.visible < now.received;
}

// A parent that brings no news from the root may itself be cut off, or stand in a loop that no
// heartbeat enters. With another one listed it is left, each time a little later: first it has the
// time to find a parent of its own, and not all of its children go at once.
static bool is_stale(const struct follow *follow)
{
    unsigned rounds = follow->stale_rounds / u64_max(follow->parents.listed, 1);
    unsigned shift = rounds < PATIENCE_SHIFT_MAX ? rounds : PATIENCE_SHIFT_MAX;
    uint64_t patience_ns = (follow->patience_ms * NS_PER_MS) << shift;
    return follow->parents.listed > 1 &&
           loop_now_ns(follow->loop) - follow->news_ns > patience_ns + heartbeat_ns(follow);
}

// Long before that somebody else is sought who has news. Not at once: whoever lost its parent has
// another one soon, and all below it need not move.
static bool lacks_news(const struct follow *follow)
{
    uint64_t silence_ms = follow->instance->node->silence;
    uint64_t patience_ms = silence_ms + (follow->patience_ms - 2 * silence_ms) / 8;
    return loop_now_ns(follow->loop) - follow->news_ns >
           patience_ms * NS_PER_MS + heartbeat_ns(follow) / 4;
}

static void on_tick(struct timer *timer)
{
    struct follow *follow = CONTAINER_OF(timer, struct follow, tick);
    if (follow->stage != FOLLOW_STREAM || follow->link.ending) {
        return;
    }
    if (intake_has_gap(follow)) {
        follow_leave(follow, ERR_DAMAGED, true, "asking again for blocks that were not kept");
        return;
    }
    if (is_stale(follow)) {
        follow->stale_rounds++;
        follow_alarm(follow, LOG_WARN, "%s brings no news from the root", follow->link.address);
        follow_leave(follow, ERR_TIMEOUT, false, "no news from the root");
        return;
    }
    if (lacks_news(follow)) {
        scout_hurry(follow);
    }
    intake_check_room(follow);
    intake_repair(follow, true);
    if (follow->link.stream.paused) {
        follow->news_ns = loop_now_ns(follow->loop); // it is us who do not listen
    }
    measure_queue(follow, clock_mono_ns());
    report_census(follow);
    follow->tick_fast = tell(follow) || follow->link.stream.paused;
    loop_timer_set(follow->loop, timer, follow->tick_fast ? SOON_NS : heartbeat_ns(follow));
}

void report_soon(struct follow *follow)
{
    if (!follow->tick_fast) {
        follow->tick_fast = true;
        loop_timer_set(follow->loop, &follow->tick, SOON_NS);
    }
}

void report_start(struct follow *follow)
{
    timer_init(&follow->tick, on_tick);
    follow->told = (struct message_progress){0};
    follow->told_ns = 0;
    follow->news_ns = follow->started_ns = loop_now_ns(follow->loop);
    follow->beat_sequence = follow->beat_commit = follow->news = 0;
    uint64_t silence_ms = follow->instance->node->silence;
    follow->lag = (struct lag){0};
    follow->said = (struct said){0};
    census_tell_all(follow->instance->census);
    METRIC_SET(follow->instance->metrics, instance, lag_queue_ns, 0);
    follow->patience_ms = 2 * silence_ms + random_jitter_ms(silence_ms);
    follow->tick_fast = true;
    loop_timer_set(follow->loop, &follow->tick, 0);
}

void report_stop(struct follow *follow)
{
    loop_timer_clear(&follow->tick);
    follow->tick_fast = false;
    ask_lost(follow);
}
