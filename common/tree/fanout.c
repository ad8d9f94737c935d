// SPDX-License-Identifier: Apache-2.0
// The registry of an instance's children: what each has reported, who waits for it. Children live
// on the loops of their links (common/tree/child.c); everything here is under one lock.
#include "common/tree/fanout.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/core/children_file.h"
#include "common/tree/picture.h"

#define REMEMBER_EVERY_NS (5 * NS_PER_S)
#define REMEMBERED_MAX 16
#define NEAR 2 // the merit of a child of the same site
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
    fanout->census = instance->census;
    fanout->desk = instance->desk;
    return fanout;
}

void fanout_close(struct fanout *fanout)
{
    CHECK(list_empty(&fanout->children));
    CHECK(list_empty(&fanout->subscribers));
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

static struct fanout_child *child_at(struct list *node)
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

// How well a child suits to be asked instead, 0 = not at all. A proxy feeds nobody, and gives
// snapshots to proxies alone.
static unsigned merit(const struct fanout_child *child, const struct message_hello *hello)
{
    bool snapshot = hello->purpose == PURPOSE_SNAPSHOT;
    bool near = hello->site.size > 0 && bytes_equal_text(hello->site, child->site);
    bool able = child->reach[0] != '\0' && !is_node(child, hello->node) &&
                (child->status.role != ROLE_PROXY || (snapshot && hello->role == ROLE_PROXY));
    if (snapshot) {
        bool gives = child->status.visible > 0 && bytes_equal_text(hello->site, child->site);
        return able && gives ? NEAR : 0;
    }
    return able ? 1 + (unsigned)near : 0;
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
        if (merit(child, hello) == NEAR && (first || hello->insists == INSISTS_NOT)) {
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
    bool room = limit == 0 || fanout->count < limit || hello->insists != INSISTS_NOT;
    bool admitted = hello->purpose == PURPOSE_STAND || has_place(fanout, hello->node) ||
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

size_t fanout_elsewhere(struct fanout *fanout, const struct message_hello *hello, char *to)
{
    size_t size = 0;
    unsigned told = 0;
    pthread_mutex_lock(&fanout->lock);
    for (unsigned wanted = NEAR; wanted > 0; wanted--) {
        unsigned skipped = fanout->count == 0 ? 0 : fanout->sent_on % fanout->count;
        for (unsigned pass = 0; pass < 2; pass++) {
            unsigned at = 0;
            LIST_FOR_EACH(each, &fanout->children) {
                const struct fanout_child *child = child_at(each);
                bool turn = pass == 0 ? at >= skipped : at < skipped;
                at++;
                if (turn && told < ELSEWHERE_MAX && merit(child, hello) == wanted) {
                    size += put_text(to + size, child->reach);
                    size += put_text(to + size, child->status.node);
                    size += put_text(to + size, child->site);
                    told++;
                }
            }
        }
    }
    fanout->sent_on++;
    pthread_mutex_unlock(&fanout->lock);
    bool follows = hello->purpose == PURPOSE_FOLLOW;
    METRIC_ADD(fanout->instance->metrics, instance, children_sent_on, follows ? 1 : 0);
    return size;
}

unsigned fanout_count(struct fanout *fanout)
{
    pthread_mutex_lock(&fanout->lock);
    unsigned count = fanout->count;
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
    child->status.received = progress->received;
    child->status.synced = progress->synced;
    child->status.visible = progress->visible;
    child->status.age_ns = progress->age_ns;
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
