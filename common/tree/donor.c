// SPDX-License-Identifier: Apache-2.0
// Giving a snapshot: a link that asks for one slice after another. Each is read on donors' threads
// at the view that is newest then, so a snapshot pins nothing between two slices, and whoever
// builds from it may go on at another node.
//
// Another site is given to through one of its nodes at a time (common/tree/permit.h), and not at
// all once one of them follows from here and serves: the others are told of it.
//
// Bounded: at most snapshots_max such links an instance and repair_max a node, one request under
// way on each, and an instance's together no more than snapshot_rate bytes a second: a request
// waits for its turn, unread and unanswered. A donor belongs to its link's loop; while a job is out
// it outlives its link, and holds the loop by a watch of its own, since a job has a view pinned.
#include <sys/eventfd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/readers.h"
#include "common/tree/fanout.h"
#include "common/wire/slice_items.h"

#define SLICE_BYTES_MAX (4 * MIB)
// Many small slices rather than a few large ones: each is sent from a loop that has clients too,
// and they wait meanwhile.
#ifndef SLICE_BYTES_MIN // simulations make it smaller
#define SLICE_BYTES_MIN (64 * KIB)
#endif
#define SLICES_A_SECOND 256

struct donor {
    struct fanout *fanout;
    struct instance *instance;
    struct donor_site *site;
    struct link *link; // NULL once it is closed
    struct loop *loop;
    struct watch hold;
    struct timer turn;
    struct read_job job;
    bool busy; // a request waits or is read
    char node[NODE_NAME_MAX + 1], its_site[ENDPOINT_SITE_MAX + 1];
    struct permit_ask ask; // of the two
    int role;  // of the other side
    // The request, and the answer of the job.
    struct message_slice asked;
    size_t from_size;
    uint8_t from[KEY_BYTES_MAX];
    struct view *view;
    struct block_header header;
    struct buf items;
    struct hash128 check; // of them
    bool last;
    int error;
};

// ---- reading -----------------------------------------------------------------------------------

static int add_record(struct donor *donor, struct bytes key, struct bytes row)
{
    struct record record;
    int error = donor->instance->role->decode(row, &record);
    if (error != OK) {
        return error;
    }
    bool wanted = record.version > donor->asked.values_above;
    if (wanted && !record.held && donor->role != ROLE_PROXY) {
        return ERR_CORRUPT;
    }
    struct slice_item item = {.key = key,
                              .version = record.version,
                              .length = record.length,
                              .check = record.check,
                              .held = wanted && record.held,
                              .value = record.value};
    slice_item_append(&donor->items, &item);
    return OK;
}

static int read_records(struct donor *donor)
{
    uint8_t after[KEY_BYTES_MAX + 1];
    memcpy(after, donor->from, donor->from_size);
    after[donor->from_size] = 0;
    const struct bytes none = bytes_of(NULL, 0);
    struct store_iterator *rows =
        store_iterator_open(donor->view->store, donor->view->snapshot, 0, none, none);
    store_iterator_seek(rows, bytes_of(after, donor->from_size == 0 ? 0 : donor->from_size + 1));
    uint64_t even = donor->instance->options->snapshot_rate / SLICES_A_SECOND;
    uint64_t limit =
        u64_min(u64_min(donor->asked.bytes, SLICE_BYTES_MAX), u64_max(even, SLICE_BYTES_MIN));
    int error = OK;
    while (error == OK && store_iterator_valid(rows) &&
           (donor->items.size == 0 || donor->items.size < limit)) {
        error = add_record(donor, store_iterator_key(rows), store_iterator_value(rows));
        store_iterator_next(rows);
    }
    donor->last = !store_iterator_valid(rows);
    int read = store_iterator_error(rows);
    store_iterator_close(rows);
    return error != OK ? error : read;
}

// The block at whose end the view stands: the receiver follows the log from there.
static int read_header(struct donor *donor)
{
    const struct journal_place *place = &donor->view->place;
    int error = journal_header(donor->instance->journal, place->number, &donor->header);
    if (error == OK && !hash128_equal(donor->header.chain, place->chain)) {
        error = ERR_HISTORY; // the journal has been begun anew meanwhile
    }
    return error;
}

static void read_slice(struct read_job *job)
{
    struct donor *donor = CONTAINER_OF(job, struct donor, job);
    donor->error = read_header(donor);
    if (donor->error == OK) {
        donor->error = read_records(donor);
        donor->check = hash128(buf_bytes(&donor->items), 0);
    }
    if (donor->error == ERR_CORRUPT) {
        instance_doubt_store(donor->instance, donor->view);
    }
}

// ---- pacing ------------------------------------------------------------------------------------

// When the next slice may be read; UINT64_MAX never comes out.
static uint64_t wait_ns(struct donor *donor)
{
    uint64_t now_ns = clock_mono_ns();
    pthread_mutex_lock(&donor->fanout->lock);
    uint64_t at_ns = donor->fanout->snapshot_at_ns;
    pthread_mutex_unlock(&donor->fanout->lock);
    return at_ns > now_ns ? at_ns - now_ns : 0;
}

static void pay(struct donor *donor, uint64_t bytes)
{
    struct fanout *fanout = donor->fanout;
    uint64_t now_ns = clock_mono_ns();
    uint64_t rate = donor->instance->options->snapshot_rate;
    pthread_mutex_lock(&fanout->lock);
    fanout->snapshot_at_ns = u64_max(fanout->snapshot_at_ns, now_ns) + bytes * NS_PER_S / rate;
    pthread_mutex_unlock(&fanout->lock);
}

// ---- answering ---------------------------------------------------------------------------------

static void donor_free_if_over(struct donor *donor)
{
    if (donor->link == NULL && donor->view == NULL) {
        loop_timer_clear(&donor->turn);
        loop_watch_close(&donor->hold);
    }
}

static void hold_closed(struct watch *watch)
{
    struct donor *donor = CONTAINER_OF(watch, struct donor, hold);
    buf_free(&donor->items);
    mem_free(donor);
}

static void send_slice(struct donor *donor)
{
    if (donor->last) {
        pthread_mutex_lock(&donor->fanout->lock);
        permits_given(&donor->fanout->permits, &donor->ask, clock_mono_ns());
        pthread_mutex_unlock(&donor->fanout->lock);
    }
    uint8_t header[BLOCK_HEADER_BYTES], digest[HASH128_BYTES], check[HASH128_BYTES];
    block_header_encode(&donor->header, header);
    hash128_store(digest, donor->view->digest.sum);
    hash128_store(check, donor->check);
    const struct message_slice_items message = {.id = donor->asked.id,
                                                .header = bytes_of(header, sizeof header),
                                                .digest = bytes_of(digest, sizeof digest),
                                                .keys = donor->view->digest.keys,
                                                .last = donor->last,
                                                .check = bytes_of(check, sizeof check),
                                                .items = buf_bytes(&donor->items)};
    message_slice_items_encode(link_out(donor->link), &message);
    link_wrote(donor->link);
    METRIC_ADD(donor->instance->metrics, instance, snapshot_slices, 1);
    METRIC_ADD(donor->instance->metrics, instance, snapshot_bytes, donor->items.size);
}

static void read_done(struct task *task)
{
    struct donor *donor = CONTAINER_OF(task, struct donor, job.done);
    pay(donor, donor->items.size);
    if (donor->link != NULL && !donor->link->ending) {
        if (donor->error == OK) {
            send_slice(donor);
        } else {
            log_line(LOG_ERROR, donor->instance->name, "a slice for %s could not be read: %s",
                     donor->node, error_text(donor->error));
            link_dismiss(donor->link, donor->error, "the records could not be read here");
        }
    }
    view_release(donor->view);
    donor->view = NULL;
    donor->busy = false;
    buf_free(&donor->items);
    donor_free_if_over(donor);
}

static const char not_walked[] = "the store here was built from a snapshot and is not walked yet";

// Why this instance can give nothing now, NULL when it can.
static const char *unfit(struct instance *instance, uint64_t least, struct view **ret_view)
{
    struct view *view = instance_pin(instance);
    const char *reason = NULL;
    if (view == NULL || view->place.number == 0 ||
        instance_state(instance) != INSTANCE_SERVING) {
        reason = "nothing is served here";
    } else if (atomic_load(&instance->suspect) || atomic_load(&instance->wants_build)) {
        reason = "the store here is not proven";
    } else if (atomic_load(&instance->unproven)) {
        reason = not_walked;
    } else if (view->store != atomic_load(&instance->store)) {
        reason = "the store here is being replaced"; // by one that no view shows yet
    } else if (view->place.number < least) {
        reason = "this node stands lower";
    } else {
        *ret_view = view;
        return NULL;
    }
    view_release(view);
    return reason;
}

static void start(struct donor *donor)
{
    const char *reason = unfit(donor->instance, donor->asked.least, &donor->view);
    if (reason != NULL) {
        link_dismiss(donor->link, ERR_UNAVAILABLE, reason);
        return;
    }
    donor->job.work = read_slice;
    donor->job.loop = donor->loop;
    donor->job.done.run = read_done;
    readers_submit(donor->site->readers, &donor->job);
}

static void on_turn(struct timer *timer)
{
    struct donor *donor = CONTAINER_OF(timer, struct donor, turn);
    if (donor->link == NULL || donor->link->ending) {
        return;
    }
    uint64_t left_ns = wait_ns(donor);
    if (left_ns > 0) {
        loop_timer_set(donor->loop, timer, left_ns);
    } else {
        start(donor);
    }
}

// ---- the link ----------------------------------------------------------------------------------

static int on_message(struct link *link, uint16_t code, struct bytes payload)
{
    struct donor *donor = link->owner;
    struct message_slice asked;
    int error = code == MESSAGE_slice ? message_slice_decode(payload, &asked) : ERR_PROTOCOL;
    if (error != OK || donor->busy || asked.from.size > KEY_BYTES_MAX) {
        return ERR_PROTOCOL;
    }
    donor->busy = true;
    pthread_mutex_lock(&donor->fanout->lock);
    permits_asked(&donor->fanout->permits, &donor->ask, clock_mono_ns());
    pthread_mutex_unlock(&donor->fanout->lock);
    memcpy(donor->from, asked.from.data, asked.from.size);
    donor->from_size = asked.from.size;
    donor->asked = asked;
    donor->asked.from = bytes_of(donor->from, donor->from_size);
    loop_timer_set(donor->loop, &donor->turn, 0);
    return OK;
}

static void give_back(struct fanout *fanout, struct donor_site *site)
{
    atomic_fetch_sub(&site->given, 1);
    pthread_mutex_lock(&fanout->lock);
    fanout->snapshots--;
    pthread_mutex_unlock(&fanout->lock);
}

static void on_close(struct link *link, int error)
{
    struct donor *donor = link->owner;
    log_line(LOG_INFO, donor->instance->name, "the snapshot for %s at %s ends: %s", donor->node,
             link->address, link->closed_by_peer ? link->last_words : error_text(error));
    give_back(donor->fanout, donor->site);
    METRIC_ADD(donor->instance->metrics, instance, snapshots, -1);
    donor->link = NULL;
    mem_free(link);
    donor_free_if_over(donor);
}

// ---- the handshake -----------------------------------------------------------------------------

// How a hello is answered, and who is named instead.
struct decision {
    enum hello_answer answer;
    const char *reason;
    size_t named_size;
    char named[ELSEWHERE_BYTES];
};

static void decide(struct decision *decision, enum hello_answer answer, const char *reason)
{
    decision->answer = answer;
    decision->reason = reason;
}

// May a node of another site have one? Under the fanout's lock.
static void admit_site(struct fanout *fanout, const struct permit_ask *ask, uint64_t insists,
                       struct decision *decision)
{
    uint64_t now_ns = clock_mono_ns();
    if (insists == INSISTS_MUCH) {
        return;
    }
    if (decision->named_size > 0 && insists == INSISTS_NOT) {
        decide(decision, ANSWER_WAIT, "nodes of your site serve");
    } else if (permits_wait(&fanout->permits, ask, now_ns)) {
        decide(decision, ANSWER_WAIT, "a node of your site is given one");
    }
}

// Takes a place among those who are given to, unless the decision is against it.
static void admit(struct fanout *fanout, struct donor_site *site, const struct permit_ask *ask,
                  uint64_t insists, struct decision *decision)
{
    const struct instance_options *options = fanout->instance->options;
    bool other_site = ask->site[0] != '\0' &&
                      !follow_is_own_site(fanout->instance, bytes_text(ask->site));
    if (atomic_fetch_add(&site->given, 1) >= site->limit) {
        decide(decision, ANSWER_FULL, "busy: repair_max is reached here");
    }
    pthread_mutex_lock(&fanout->lock);
    if (fanout->snapshots >= options->snapshots_max) {
        decide(decision, ANSWER_FULL, "busy: snapshots_max is reached here");
    }
    if (other_site) {
        // A wait comes before a busy: who waits asks nobody else outside.
        admit_site(fanout, ask, insists, decision);
    }
    if (decision->answer == ANSWER_RESUME && other_site &&
        !permits_take(&fanout->permits, ask, clock_mono_ns())) {
        decide(decision, ANSWER_FULL, "busy: too many sites are given to here");
    }
    fanout->snapshots += decision->answer == ANSWER_RESUME ? 1 : 0;
    pthread_mutex_unlock(&fanout->lock);
    if (decision->answer != ANSWER_RESUME) {
        atomic_fetch_sub(&site->given, 1);
    }
}

// Says that none is given now, and who else may be asked.
static void put_off(struct fanout *fanout, struct link *link, const struct decision *decision)
{
    struct greeting greeting;
    greeting_about(&greeting, fanout, false);
    greeting.welcome.answer = decision->answer;
    greeting.welcome.reason = bytes_text(decision->reason);
    greeting.welcome.elsewhere = bytes_of(decision->named, decision->named_size);
    message_welcome_encode(link_out(link), &greeting.welcome);
    link_wrote(link);
    METRIC_ADD(fanout->instance->metrics, instance, snapshots_put_off, 1);
    link_finish(link, ERR_BUSY);
}

static void open_donor(struct fanout *fanout, struct donor_site *site, struct link *link,
                       const struct message_hello *hello, int hold_fd)
{
    static const struct link_ops ops = {.on_message = on_message, .on_close = on_close};
    static const struct watch_ops hold_ops = {.on_closed = hold_closed};
    struct donor *donor = mem_zalloc(sizeof *donor);
    donor->fanout = fanout;
    donor->instance = fanout->instance;
    donor->site = site;
    donor->link = link;
    donor->loop = link->stream.watch.loop;
    donor->role = (int)hello->role;
    link_words(donor->node, sizeof donor->node, hello->node);
    link_words(donor->its_site, sizeof donor->its_site, hello->site);
    donor->ask = (struct permit_ask){donor->node, donor->its_site, donor->role == ROLE_PROXY};
    timer_init(&donor->turn, on_turn);
    loop_watch_open(donor->loop, &donor->hold, hold_fd, &hold_ops);
    link_adopt(link, &ops, donor);
    METRIC_ADD(donor->instance->metrics, instance, snapshots, 1);
    log_line(LOG_INFO, donor->instance->name, "%s at %s builds its store from this node",
             donor->node, link->address);
}

// Why this node gives that one nothing, NULL when it will. A walk comes by itself, and soon enough
// for those who would else go to another site.
static const char *refusal(struct instance *instance, const char *unfit_reason,
                           const struct message_hello *hello)
{
    if (instance->options->role == ROLE_PROXY && hello->role != ROLE_PROXY) {
        return "this node does not hold every value";
    }
    bool walks = unfit_reason == not_walked && follow_is_own_site(instance, hello->site);
    return walks ? NULL : unfit_reason;
}

const char *donor_accept(struct fanout *fanout, struct donor_site *site, struct link *link,
                         const struct message_hello *hello)
{
    struct view *view;
    const char *unfit_reason = unfit(fanout->instance, 0, &view);
    if (unfit_reason == NULL) {
        view_release(view);
    }
    const char *reason = refusal(fanout->instance, unfit_reason, hello);
    if (reason != NULL) {
        return reason;
    }
    link->scope = fanout->instance->name;
    char node[NODE_NAME_MAX + 1], from[ENDPOINT_SITE_MAX + 1];
    link_words(node, sizeof node, hello->node);
    link_words(from, sizeof from, hello->site);
    struct permit_ask ask = {node, from, hello->role == ROLE_PROXY};
    struct decision decision = {.answer = ANSWER_RESUME};
    decision.named_size = fanout_elsewhere(fanout, hello, decision.named);
    if (unfit_reason != NULL) {
        decide(&decision, ANSWER_WAIT, unfit_reason);
    } else {
        admit(fanout, site, &ask, hello->insists, &decision);
    }
    if (decision.answer != ANSWER_RESUME) {
        put_off(fanout, link, &decision);
        return NULL;
    }
    int hold_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (hold_fd < 0) {
        give_back(fanout, site);
        return "busy: no descriptor is left here";
    }
    struct greeting greeting;
    greeting_about(&greeting, fanout, false);
    greeting.welcome.answer = ANSWER_RESUME;
    message_welcome_encode(link_out(link), &greeting.welcome);
    link_wrote(link);
    open_donor(fanout, site, link, hello, hold_fd);
    return NULL;
}
