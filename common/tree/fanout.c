// SPDX-License-Identifier: Apache-2.0
// The registry of an instance's children: what each has reported, who waits for it. Children live
// on the loops of their links (common/tree/child.c); everything here is under one lock.
#include "common/tree/fanout.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/core/children_file.h"
#include "common/tree/forward.h"
#include "common/tree/picture.h"

#define REMEMBER_EVERY_NS (5 * NS_PER_S)
#define REMEMBERED_MAX 16
// Of the children that could feed another one the best has the greatest merit.
enum merit { MERIT_NONE, MERIT_ABLE, MERIT_NEAR, MERIT_ROOM, MERIT_ROOM_NEAR };
#define MUCH_ENTRIES 10000 // of the log
#define SITE_FIRST_NS (10 * NS_PER_S)

// On the applier, which may block: writes down who the children are and how far they have come.
static void remember(struct notice *notice)
{
    struct fanout *fanout = CONTAINER_OF(notice, struct fanout, remember);
    struct child_status children[REMEMBERED_MAX];
    size_t count = u64_min(fanout_status(fanout, children, REMEMBERED_MAX), REMEMBERED_MAX);
    struct buf text = {0};
    for (size_t i = 0; i < count; i++) {
        buf_format(&text, "%s at %s, %s, synced to index %llu\n", children[i].node,
                   children[i].address, role_text(children[i].role),
                   (unsigned long long)children[i].synced);
    }
    if (count > 0) { // the last children stay on record after they left
        const struct instance *instance = fanout->instance;
        children_file_write(instance->directory, instance->name, buf_bytes(&text));
    }
    buf_free(&text);
}

static void remember_soon(struct fanout *fanout, bool now)
{
    uint64_t now_ns = clock_mono_ns();
    if (now || now_ns - atomic_load(&fanout->remembered_ns) >= REMEMBER_EVERY_NS) {
        atomic_store(&fanout->remembered_ns, now_ns);
        notice_raise(&fanout->remember);
    }
}

struct fanout *fanout_open(struct instance *instance)
{
    struct fanout *fanout = mem_zalloc(sizeof *fanout);
    fanout->instance = instance;
    pthread_mutex_init(&fanout->lock, NULL);
    list_init(&fanout->children);
    list_init(&fanout->subscribers);
    permits_open(&fanout->permits);
    notice_init(&fanout->remember, instance_applier(instance), remember);
    instance->census = census_open(instance);
    instance->desk = desk_open(instance);
    instance->forward = forward_open(instance);
    fanout->census = instance->census;
    fanout->desk = instance->desk;
    fanout->forward = instance->forward;
    return fanout;
}

void fanout_close(struct fanout *fanout)
{
    CHECK(list_empty(&fanout->children));
    CHECK(list_empty(&fanout->subscribers));
    forward_close(fanout->forward);
    desk_close(fanout->desk);
    census_close(fanout->census);
    permits_close(&fanout->permits);
    pthread_mutex_destroy(&fanout->lock);
    mem_free(fanout);
}

// Under lock.
static void count_children(struct fanout *fanout, unsigned count)
{
    fanout->count = count;
    METRIC_SET(fanout->instance->metrics, instance, children, count);
}

static void raise_all(struct fanout *fanout)
{
    LIST_FOR_EACH(node, &fanout->subscribers) {
        notice_raise(CONTAINER_OF(node, struct fanout_subscriber, node)->notice);
    }
}

static struct fanout_child *child_at(const struct list *node)
{
    return CONTAINER_OF(node, struct fanout_child, node);
}

static bool is_node(const struct fanout_child *child, struct bytes node)
{
    return bytes_equal_text(node, child->status.node);
}

// Under lock.
static bool has_place(const struct fanout *fanout, struct bytes node)
{
    LIST_FOR_EACH(each, &fanout->children) {
        if (is_node(child_at(each), node)) {
            return true;
        }
    }
    return false;
}

// Three heartbeats at default settings: likely it is gone, and whom it fed looks for another place
// now.
static bool is_quiet(const struct fanout *fanout, const struct fanout_child *child)
{
    uint64_t patience_ns = fanout->instance->node->silence * NS_PER_MS / 4 * 3;
    return clock_mono_ns() - child->status.heard_ns > patience_ns;
}

// Under lock.
static unsigned taken(const struct fanout *fanout)
{
    unsigned count = fanout->count;
    LIST_FOR_EACH(each, &fanout->children) {
        count -= is_quiet(fanout, child_at(each)) ? 1 : 0;
    }
    return count;
}

static bool is_near(const struct fanout_child *child, const struct message_hello *hello)
{
    return hello->site.size > 0 && bytes_equal_text(hello->site, child->site);
}

// Could a child be asked instead? A proxy feeds nobody, and gives snapshots to proxies alone.
static bool is_able(const struct fanout *fanout, const struct fanout_child *child,
                    const struct message_hello *hello)
{
    bool able = child->reach[0] != '\0' && !is_node(child, hello->node);
    if (hello->purpose == PURPOSE_SNAPSHOT) {
        bool gives = child->status.role != ROLE_PROXY || hello->role == ROLE_PROXY;
        return able && gives && child->status.visible > 0 && is_near(child, hello);
    }
    return able && child->status.role != ROLE_PROXY && !is_quiet(fanout, child);
}

// By what it said last: it would take one more, and has come far enough to feed it.
static bool has_room(const struct fanout_child *child, const struct message_hello *hello)
{
    return child->status.room > 0 && child->status.received + MUCH_ENTRIES >= hello->index;
}

// How well a child suits to be asked instead.
static enum merit merit(const struct fanout *fanout, const struct fanout_child *child,
                        const struct message_hello *hello)
{
    if (!is_able(fanout, child, hello)) {
        return MERIT_NONE;
    }
    bool near = is_near(child, hello);
    if (hello->purpose == PURPOSE_FOLLOW && has_room(child, hello)) {
        return near ? MERIT_ROOM_NEAR : MERIT_ROOM;
    }
    return near ? MERIT_NEAR : MERIT_ABLE;
}

// Under lock.
static bool knows_another(const struct fanout *fanout, const struct message_hello *hello)
{
    LIST_FOR_EACH(each, &fanout->children) {
        if (is_able(fanout, child_at(each), hello)) {
            return true;
        }
    }
    return false;
}

// Is much of the log to go to a site that gets it already? It need not cross the way there twice.
// Whom nobody of its site can feed after all insists, but at first whoever feeds the others may
// only have nothing yet. Under lock.
static bool comes_twice(const struct fanout *fanout, const struct message_hello *hello)
{
    uint64_t end = journal_end(fanout->instance->journal).index, now_ns = clock_mono_ns();
    if (end < MUCH_ENTRIES || hello->index > end - MUCH_ENTRIES || hello->role == ROLE_ROOT) {
        return false;
    }
    LIST_FOR_EACH(each, &fanout->children) {
        const struct fanout_child *child = child_at(each);
        bool first = now_ns - child->status.since_ns < SITE_FIRST_NS;
        bool gets = is_able(fanout, child, hello) && is_near(child, hello);
        if (gets && (first || hello->insists == INSISTS_NOT)) {
            return true;
        }
    }
    return false;
}

bool fanout_admit(struct fanout *fanout, const struct message_hello *hello, bool take)
{
    uint64_t limit = fanout->instance->options->children_max;
    bool near = follow_is_own_site(fanout->instance, hello->site);
    pthread_mutex_lock(&fanout->lock);
    bool room = limit == 0 || taken(fanout) < limit || hello->insists != INSISTS_NOT ||
                !knows_another(fanout, hello);
    bool rooted = hello->purpose == PURPOSE_STAND || hello->purpose == PURPOSE_REGAIN;
    bool admitted = rooted || has_place(fanout, hello->node) ||
                    (room && (near || !comes_twice(fanout, hello)));
    if (admitted && take) {
        count_children(fanout, fanout->count + 1);
    }
    pthread_mutex_unlock(&fanout->lock);
    return admitted;
}

static size_t put_text(char *to, const char *text)
{
    size_t size = strlen(text) + 1;
    memcpy(to, text, size);
    return size;
}

size_t elsewhere_put(char *to, const char *address, const char *node, const char *site)
{
    size_t size = put_text(to, address);
    size += put_text(to + size, node);
    return size + put_text(to + size, site);
}

// Children of that merit and a greater one, best first. Under lock.
static size_t name_children(struct fanout *fanout, const struct message_hello *hello,
                            enum merit least, char *to)
{
    size_t size = 0;
    unsigned told = 0;
    unsigned skipped = fanout->count == 0 ? 0 : fanout->sent_on % fanout->count;
    for (enum merit wanted = MERIT_ROOM_NEAR; wanted >= least; wanted--) {
        for (unsigned pass = 0; pass < 2; pass++) {
            unsigned at = 0;
            LIST_FOR_EACH(each, &fanout->children) {
                const struct fanout_child *child = child_at(each);
                bool turn = pass == 0 ? at >= skipped : at < skipped;
                at++;
                if (turn && told < ELSEWHERE_MAX && merit(fanout, child, hello) == wanted) {
                    size += elsewhere_put(to + size, child->reach, child->status.node,
                                          child->site);
                    told++;
                }
            }
        }
    }
    fanout->sent_on++;
    return size;
}

size_t fanout_elsewhere(struct fanout *fanout, const struct message_hello *hello, char *to)
{
    pthread_mutex_lock(&fanout->lock);
    size_t size = name_children(fanout, hello, MERIT_ABLE, to);
    pthread_mutex_unlock(&fanout->lock);
    bool follows = hello->purpose == PURPOSE_FOLLOW;
    METRIC_ADD(fanout->instance->metrics, instance, children_sent_on, follows ? 1 : 0);
    return size;
}

// As if it asked anew.
static struct message_hello hello_of(const struct fanout_child *child)
{
    return (struct message_hello){.purpose = PURPOSE_FOLLOW,
                                  .node = bytes_text(child->status.node),
                                  .site = bytes_text(child->site),
                                  .index = child->status.received};
}

// Could one of the others feed it? Under lock.
static bool may_go(const struct fanout *fanout, const struct fanout_child *child)
{
    struct message_hello hello = hello_of(child);
    LIST_FOR_EACH(each, &fanout->children) {
        if (merit(fanout, child_at(each), &hello) >= MERIT_ROOM) {
            return true;
        }
    }
    return false;
}

size_t fanout_make_room(struct fanout *fanout, const struct fanout_child *child, char *to)
{
    size_t size = 0;
    uint64_t limit = fanout->instance->options->children_max;
    pthread_mutex_lock(&fanout->lock);
    if (limit != 0 && taken(fanout) > limit) {
        // One at a time, the last one first.
        const struct list *last = fanout->children.prev;
        while (last != &child->node && !may_go(fanout, child_at(last))) {
            last = last->prev;
        }
        if (last == &child->node) {
            struct message_hello hello = hello_of(child);
            size = name_children(fanout, &hello, MERIT_ROOM, to);
        }
    }
    pthread_mutex_unlock(&fanout->lock);
    return size;
}

unsigned fanout_count(struct fanout *fanout)
{
    pthread_mutex_lock(&fanout->lock);
    unsigned count = taken(fanout);
    pthread_mutex_unlock(&fanout->lock);
    return count;
}

void fanout_add(struct fanout *fanout, struct fanout_child *child)
{
    pthread_mutex_lock(&fanout->lock);
    list_append(&fanout->children, &child->node);
    pthread_mutex_unlock(&fanout->lock);
    remember_soon(fanout, true);
}

void fanout_remove(struct fanout *fanout, struct fanout_child *child)
{
    pthread_mutex_lock(&fanout->lock);
    list_remove(&child->node);
    count_children(fanout, fanout->count - 1);
    raise_all(fanout);
    pthread_mutex_unlock(&fanout->lock);
}

void fanout_progress(struct fanout *fanout, struct fanout_child *child,
                     const struct message_progress *progress, uint64_t rtt_ns)
{
    pthread_mutex_lock(&fanout->lock);
    bool news = child->status.synced != progress->synced;
    child->status.heard_ns = clock_mono_ns();
    child->status.received = progress->received;
    child->status.synced = progress->synced;
    child->status.visible = progress->visible;
    child->status.age_ns = progress->age_ns;
    child->status.room = progress->room;
    child->status.rtt_ns = rtt_ns;
    if (news) {
        raise_all(fanout);
    }
    pthread_mutex_unlock(&fanout->lock);
    remember_soon(fanout, false);
}

void fanout_sent(struct fanout *fanout, struct fanout_child *child, uint64_t bytes)
{
    METRIC_ADD(fanout->instance->metrics, instance, child_bytes, bytes);
    pthread_mutex_lock(&fanout->lock);
    child->status.sent_bytes += bytes;
    pthread_mutex_unlock(&fanout->lock);
}

unsigned fanout_synced(struct fanout *fanout, uint64_t index)
{
    unsigned count = 0;
    pthread_mutex_lock(&fanout->lock);
    LIST_FOR_EACH(node, &fanout->children) {
        count += CONTAINER_OF(node, struct fanout_child, node)->status.synced >= index;
    }
    pthread_mutex_unlock(&fanout->lock);
    return count;
}

size_t fanout_status(struct fanout *fanout, struct child_status *to, size_t max)
{
    size_t at = 0;
    pthread_mutex_lock(&fanout->lock);
    LIST_FOR_EACH(node, &fanout->children) {
        if (at < max) {
            to[at++] = CONTAINER_OF(node, struct fanout_child, node)->status;
        }
    }
    size_t count = fanout->count;
    pthread_mutex_unlock(&fanout->lock);
    return count;
}

void fanout_subscribe(struct fanout *fanout, struct fanout_subscriber *subscriber)
{
    pthread_mutex_lock(&fanout->lock);
    list_append(&fanout->subscribers, &subscriber->node);
    pthread_mutex_unlock(&fanout->lock);
}

void fanout_unsubscribe(struct fanout *fanout, struct fanout_subscriber *subscriber)
{
    pthread_mutex_lock(&fanout->lock);
    list_remove(&subscriber->node);
    pthread_mutex_unlock(&fanout->lock);
}
