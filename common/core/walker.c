// SPDX-License-Identifier: Apache-2.0
#include "common/core/walker.h"

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/core/walk.h"

#define FIRST_STEP_NS NS_PER_S
// Two bounds of a slice: milliseconds, with values in memory or on a disk.
#define SLICE_KEYS 8192
#define SLICE_BYTES MIB
// The first walk after a start does not wait for the whole interval: nothing is known of the store.
#define FIRST_WALK_MS (3600 * 1000)
// A walk that failed is not begun again before, but on request.
#define RETRY_NS (600 * NS_PER_S)
#define NO_VIEW_NS NS_PER_S
#define SAVE_EVERY_NS (300 * NS_PER_S)
// A new generation is saved by then: its first view is published just after the walk.
#define SAVE_SOON_NS NS_PER_S
#define DOUBT_NS (10 * NS_PER_S) // from one walk to another that a bad row asks for

struct walked {
    struct list node; // in the walker's, in the order of turns
    struct walker *walker;
    struct instance *instance;
    struct task add_task, remove_task;
    struct notice wake;      // of the hand
    struct notice look;      // whether a walk is due
    struct notice stepped;   // the applier has done the walk's step
    struct notice *removed;  // set before remove_task is posted
    bool ended;              // taken out: only what is on its way is waited for
    bool stepping;           // a step of the walk is at the applier
    bool walking;            // between walk_begin and the notice of its end
    uint64_t hand_at_ns;     // when the next step of the hand is due
    uint64_t slice_at_ns;    // ... the next slice of the walk that goes on
    uint64_t walk_at_ns;     // ... the next walk, by the interval
    uint64_t retry_at_ns;    // before, none is begun for the filter's sake
    uint64_t doubt_at_ns;    // ... none because of a bad row
    uint64_t save_at_ns;     // ... the filter's file
};

struct walker {
    struct worker *worker;
    struct list instances; // struct walked
};

// ---- one instance ------------------------------------------------------------------------------

static uint64_t interval_ns(const struct instance *instance)
{
    uint64_t ms = instance->options->walk_every;
    return ms == 0 ? UINT64_MAX : ms * NS_PER_MS;
}

static uint64_t after(uint64_t now_ns, uint64_t ns)
{
    return ns < UINT64_MAX - now_ns ? now_ns + ns : UINT64_MAX;
}

// A walk is over: when is the next, and is there a filter to be saved?
static void walk_over(struct walked *walked)
{
    uint64_t now_ns = clock_mono_ns();
    int error = walk_error(walked->instance->walk);
    walked->walking = false;
    walked->walk_at_ns = after(now_ns, interval_ns(walked->instance));
    walked->retry_at_ns = error == OK || error == ERR_STOPPED ? 0 : now_ns + RETRY_NS;
    if (error == OK) {
        walked->save_at_ns = u64_min(walked->save_at_ns, now_ns + SAVE_SOON_NS);
    }
}

// Does something wait for a walk that nobody has asked for?
static bool is_wanted(const struct instance *instance)
{
    bool unproven = atomic_load(&instance->unproven) && !atomic_load(&instance->suspect);
    return unproven || instance_front_wanted(instance);
}

// Begins a walk when one is due. A view of the store in use says that the instance serves; it may
// load for long, and while it changes to another store it shows the one before.
static void begin_due(struct walked *walked, uint64_t now_ns)
{
    struct instance *instance = walked->instance;
    bool doubted = atomic_load(&instance->doubted) && walked->doubt_at_ns <= now_ns;
    bool due = walked->walk_at_ns <= now_ns || walk_asked(instance->walk) || doubted ||
               (is_wanted(instance) && walked->retry_at_ns <= now_ns);
    struct view *view = due ? instance_pin(instance) : NULL;
    if (view != NULL && view->store == atomic_load(&instance->store)) {
        walked->walking = true;
        walked->stepping = true;
        walked->slice_at_ns = 0;
        walked->doubt_at_ns = doubted ? now_ns + DOUBT_NS : walked->doubt_at_ns;
        atomic_store(&instance->doubted, false);
        walk_begin(instance->walk);
    } else if (due) {
        walked->walk_at_ns = u64_max(walked->walk_at_ns, now_ns + NO_VIEW_NS);
    }
    view_release(view);
}

// One slice, and when the next is due at the configured rate.
static void step_walk(struct walked *walked, uint64_t now_ns)
{
    walked->stepping = true;
    uint64_t bytes = walk_read(walked->instance->walk, SLICE_KEYS, SLICE_BYTES);
    walk_hand(walked->instance->walk);
    uint64_t rate = walked->instance->options->walk_rate;
    walked->slice_at_ns = rate == 0 ? 0 : now_ns + bytes * NS_PER_S / rate;
}

static void step_hand(struct walked *walked)
{
    uint64_t wanted_ns = walked->instance->role->hand(walked->instance);
    walked->hand_at_ns =
        wanted_ns == WORKER_IDLE ? UINT64_MAX : after(clock_mono_ns(), wanted_ns);
}

// Does what is due, at most one step of each kind. Returns when something is due again.
static uint64_t walked_turn(struct walked *walked, uint64_t now_ns)
{
    struct instance *instance = walked->instance;
    if (!walked->walking) {
        begin_due(walked, now_ns);
    } else if (!walked->stepping && walked->slice_at_ns <= now_ns) {
        step_walk(walked, now_ns);
    }
    if (walked->save_at_ns <= now_ns) {
        instance_save_front(instance);
        walked->save_at_ns = now_ns + SAVE_EVERY_NS;
    }
    if (instance->role->hand != NULL && walked->hand_at_ns <= now_ns) {
        step_hand(walked);
    }
    uint64_t next_ns = walked->save_at_ns;
    if (!walked->walking) {
        next_ns = u64_min(next_ns, walked->walk_at_ns);
        next_ns = u64_min(next_ns, walked->doubt_at_ns > now_ns ? walked->doubt_at_ns : UINT64_MAX);
        next_ns = u64_min(next_ns, walked->retry_at_ns > now_ns ? walked->retry_at_ns : UINT64_MAX);
    } else if (!walked->stepping) {
        next_ns = u64_min(next_ns, walked->slice_at_ns);
    }
    return instance->role->hand != NULL ? u64_min(next_ns, walked->hand_at_ns) : next_ns;
}

// ---- coming and going --------------------------------------------------------------------------

// Frees it once nothing is on its way.
static void free_if_over(struct walked *walked)
{
    if (!walked->ended || walked->stepping || atomic_load(&walked->wake.pending) ||
        atomic_load(&walked->look.pending)) {
        return;
    }
    struct notice *removed = walked->removed;
    mem_free(walked);
    notice_raise(removed);
}

// No more slices: what goes on ends, and whoever waits for it is told.
static void give_up(struct walked *walked)
{
    walked->stepping = true;
    walked->walking = false;
    walk_end(walked->instance->walk, ERR_STOPPED);
}

static void on_wake(struct notice *notice)
{
    struct walked *walked = CONTAINER_OF(notice, struct walked, wake);
    walked->hand_at_ns = 0;
    free_if_over(walked);
}

static void on_look(struct notice *notice)
{
    free_if_over(CONTAINER_OF(notice, struct walked, look)); // else the turn looks
}

static void on_stepped(struct notice *notice)
{
    struct walked *walked = CONTAINER_OF(notice, struct walked, stepped);
    walked->stepping = false;
    bool going = walk_going(walked->instance->walk);
    if (walked->ended && walked->walking) {
        give_up(walked);
    } else if (walked->walking && !going) {
        walk_over(walked);
    }
    free_if_over(walked);
}

static void on_add(struct task *task)
{
    struct walked *walked = CONTAINER_OF(task, struct walked, add_task);
    list_append(&walked->walker->instances, &walked->node);
}

static void on_remove(struct task *task)
{
    struct walked *walked = CONTAINER_OF(task, struct walked, remove_task);
    list_remove(&walked->node);
    walked->ended = true;
    walked->walking = true; // also where none goes on, somebody may wait for the next
    if (!walked->stepping) {
        give_up(walked);
    }
}

static uint64_t walker_turn(void *argument)
{
    struct walker *walker = argument;
    uint64_t next_ns = UINT64_MAX;
    LIST_FOR_EACH(node, &walker->instances) {
        struct walked *walked = CONTAINER_OF(node, struct walked, node);
        if (!atomic_load(&walked->instance->closing)) {
            next_ns = u64_min(next_ns, walked_turn(walked, clock_mono_ns()));
        }
    }
    uint64_t now_ns = clock_mono_ns();
    return next_ns == UINT64_MAX ? WORKER_IDLE : next_ns > now_ns ? next_ns - now_ns : 0;
}

int walker_open(struct walker **ret_walker)
{
    struct walker *walker = mem_zalloc(sizeof *walker);
    list_init(&walker->instances);
    int error = worker_start(&walker->worker, "qs-walker", walker_turn, walker);
    if (error != OK) {
        mem_free(walker);
        return error;
    }
    *ret_walker = walker;
    return OK;
}

void walker_close(struct walker *walker)
{
    worker_stop(walker->worker);
    worker_free(walker->worker);
    CHECK(list_empty(&walker->instances));
    mem_free(walker);
}

void walker_add(struct walker *walker, struct instance *instance)
{
    struct walked *walked = mem_zalloc(sizeof *walked);
    uint64_t now_ns = clock_mono_ns();
    uint64_t first_ms = u64_min(instance->options->walk_every, FIRST_WALK_MS);
    walked->walker = walker;
    walked->instance = instance;
    walked->add_task.run = on_add;
    walked->remove_task.run = on_remove;
    walked->hand_at_ns = now_ns + FIRST_STEP_NS;
    walked->walk_at_ns =
        first_ms == 0 ? UINT64_MAX : now_ns + random_jitter_ms(first_ms) * NS_PER_MS;
    walked->save_at_ns = now_ns + SAVE_EVERY_NS;
    list_init(&walked->node);
    struct mailbox *mailbox = worker_mailbox(walker->worker);
    notice_init(&walked->wake, mailbox, on_wake);
    notice_init(&walked->look, mailbox, on_look);
    notice_init(&walked->stepped, mailbox, on_stepped);
    walk_attach(instance->walk, &walked->stepped);
    pthread_mutex_lock(&instance->lock);
    instance->walked = walked;
    pthread_mutex_unlock(&instance->lock);
    mailbox_post(mailbox, &walked->add_task);
}

void walker_remove(struct walker *walker, struct instance *instance, struct notice *removed)
{
    pthread_mutex_lock(&instance->lock);
    struct walked *walked = instance->walked;
    instance->walked = NULL; // it is woken no more
    pthread_mutex_unlock(&instance->lock);
    CHECK(walked != NULL);
    walked->removed = removed;
    struct volume *volume = instance_volume(instance);
    store_compact_cancel(volume->store);
    volume_release(volume);
    mailbox_post(worker_mailbox(walker->worker), &walked->remove_task);
}

// ---- what others ask ---------------------------------------------------------------------------

void instance_wake_hand(struct instance *instance)
{
    pthread_mutex_lock(&instance->lock);
    if (instance->walked != NULL) {
        notice_raise(&instance->walked->wake);
    }
    pthread_mutex_unlock(&instance->lock);
}

void instance_wake_walk(struct instance *instance)
{
    pthread_mutex_lock(&instance->lock);
    if (instance->walked != NULL) {
        notice_raise(&instance->walked->look);
    }
    pthread_mutex_unlock(&instance->lock);
}

void instance_walk(struct instance *instance, struct walk_waiter *waiter)
{
    pthread_mutex_lock(&instance->lock);
    waiter->waiting = instance->walked != NULL;
    if (waiter->waiting) {
        list_append(&instance->walk_waiters, &waiter->node);
        notice_raise(&instance->walked->look);
    } else {
        waiter->error = ERR_STOPPED;
        loop_post(waiter->loop, &waiter->task);
    }
    pthread_mutex_unlock(&instance->lock);
}

bool instance_walk_cancel(struct instance *instance, struct walk_waiter *waiter)
{
    pthread_mutex_lock(&instance->lock);
    bool waiting = waiter->waiting;
    if (waiting) {
        list_remove(&waiter->node);
        waiter->waiting = false;
    }
    pthread_mutex_unlock(&instance->lock);
    return waiting;
}
