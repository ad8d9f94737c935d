// SPDX-License-Identifier: Apache-2.0
#include "common/tree/stand.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/tree/follow.h"

// ---- giving ------------------------------------------------------------------------------------

bool stand_allows(const struct instance *instance, const struct message_hello *hello,
                  unsigned *ret_root)
{
    const struct lead *lead = instance->lead;
    int root = lead == NULL ? -1 : members_find(&lead->members, hello->node);
    *ret_root = root < 0 ? 0 : (unsigned)root;
    return root >= 0 && hello->role == ROLE_ROOT;
}

void stand_giver_open(struct stand_giver *giver, struct instance *instance, unsigned root)
{
    *giver = (struct stand_giver){.stands = true,
                                  .root = root,
                                  .taker = instance_taken(instance, root),
                                  .epoch = atomic_load(&instance->lead->epoch),
                                  .told = UINT64_MAX};
}

bool stand_tell(struct stand_giver *giver, struct instance *instance, struct link *link, bool due)
{
    const struct lead *lead = instance->lead;
    if (atomic_load(&lead->epoch) != giver->epoch) {
        link_dismiss(link, ERR_REFUSED, "this root is in another epoch now");
        return false;
    }
    if (lead_forgot(lead, giver->root, giver->taker)) {
        link_dismiss(link, ERR_REFUSED, "this root has begun anew: what it said counts no more");
        return false;
    }
    struct journal_place known = lead_known(lead);
    bool first = giver->told == UINT64_MAX;
    if ((known.number != giver->told || due) && (first || link_may_talk(link))) {
        struct message_lead message = {.epoch = giver->epoch,
                                       .generation = atomic_load(&lead->generation),
                                       .block = known.number,
                                       .index = known.index};
        message_lead_encode(link_out(link), &message);
        link_wrote(link);
        giver->told = known.number;
    }
    return true;
}

int stand_on_acknowledge(struct stand_giver *giver, struct instance *instance, struct bytes payload)
{
    struct message_acknowledge message;
    int error = message_acknowledge_decode(payload, &message);
    if (error != OK || !giver->stands || message.epoch != giver->epoch ||
        message.chain.size != HASH128_BYTES) {
        return ERR_PROTOCOL;
    }
    if (giver->taker != atomic_load(&instance->lead->takers[giver->root])) {
        return ERR_REFUSED; // one taken later counts, which may be dead: that root shall come again
    }
    instance_acknowledged(instance, giver->root, giver->taker, message.epoch, message.block,
                          hash128_load(message.chain.data));
    return OK;
}

void stand_on_progress(const struct stand_giver *giver, struct instance *instance)
{
    struct lead *lead = instance->lead;
    if (giver->stands && giver->epoch == atomic_load(&lead->epoch) &&
        giver->taker == atomic_load(&lead->takers[giver->root])) {
        lead_heard(lead, giver->root, clock_mono_ns());
    }
}

// ---- taking ------------------------------------------------------------------------------------

static void acknowledge(struct follow *follow)
{
    struct stand_taker *taker = &follow->stand;
    struct lead_word word = lead_say(follow->instance->lead);
    bool news = word.link == taker->link && word.epoch == taker->epoch &&
                (word.place.number != taker->said.place.number || taker->said.link != word.link);
    if (!news || follow->stage != FOLLOW_STREAM || follow->link.ending) {
        return;
    }
    uint8_t chain[HASH128_BYTES];
    hash128_store(chain, word.place.chain);
    struct message_acknowledge message = {.epoch = word.epoch,
                                          .block = word.place.number,
                                          .chain = bytes_of(chain, sizeof chain)};
    message_acknowledge_encode(link_out(&follow->link), &message);
    link_wrote(&follow->link);
    taker->said = word;
}

static bool is_of_another(const struct follow *follow)
{
    const struct lead *lead = follow->instance->lead;
    return atomic_load(&lead->epoch) != follow->stand.epoch ||
           atomic_load(&lead->leader) != follow->stand.leader;
}

static void on_changed(struct notice *notice)
{
    struct stand_taker *taker = CONTAINER_OF(notice, struct stand_taker, changed);
    struct follow *follow = CONTAINER_OF(taker, struct follow, stand);
    if (is_of_another(follow)) {
        follow_leave(follow, ERR_REFUSED, false, "this root is in another epoch now");
    } else {
        acknowledge(follow);
    }
    follow_end_if_over(follow);
}

static void hook(struct follow *follow, bool on)
{
    struct instance *instance = follow->instance;
    pthread_mutex_lock(&instance->lock);
    instance->lead->changed = on ? &follow->stand.changed : NULL;
    pthread_mutex_unlock(&instance->lock);
}

void stand_taker_open(struct follow *follow)
{
    if (follow->instance->lead != NULL) {
        notice_init(&follow->stand.changed, loop_mailbox(follow->loop), on_changed);
        hook(follow, true);
    }
}

void stand_taker_close(struct follow *follow)
{
    if (follow->instance->lead != NULL) {
        hook(follow, false);
    }
}

bool stand_taker_over(const struct follow *follow)
{
    return follow->instance->lead == NULL || !atomic_load(&follow->stand.changed.pending);
}

void stand_greet(struct follow *follow)
{
    struct lead *lead = follow->instance->lead;
    struct stand_taker *taker = &follow->stand;
    taker->offer = is_of_another(follow) ? 0 : taker->offer; // another leader's may begin elsewhere
    taker->epoch = atomic_load(&lead->epoch);
    taker->leader = atomic_load(&lead->leader);
    taker->said = (struct lead_word){0};
    // From here on what is handed over came by this link: blocks of the one before are dropped.
    taker->link = atomic_fetch_add(&lead->links, 1) + 1;
}

struct journal_place stand_place(struct follow *follow, const struct journal_place *end)
{
    struct stand_taker *taker = &follow->stand;
    struct journal *journal = follow->instance->journal;
    struct block_header header;
    taker->offered = (struct journal_place){0};
    if (taker->offer > end->number &&
        journal_tail_header(journal, taker->offer, &header) == OK) {
        taker->offered = (struct journal_place){
            .number = header.number, .index = block_end(&header), .chain = header.chain};
    }
    taker->offer = 0;
    return taker->offered.number != 0 ? taker->offered : *end;
}

bool stand_offer(struct follow *follow, uint64_t oldest)
{
    struct stand_taker *taker = &follow->stand;
    struct journal *journal = follow->instance->journal;
    struct block_header header;
    uint64_t least = journal_end(journal).number, most = journal_tail(journal).number;
    while (taker->offered.number == 0 && least < most) { // the highest that ends before `oldest`
        uint64_t middle = most - (most - least) / 2;
        int error = journal_tail_header(journal, middle, &header);
        bool before = error == OK && block_end(&header) < oldest;
        taker->offer = before ? middle : taker->offer;
        least = before ? middle : least;
        most = before ? most : middle - 1;
    }
    return taker->offer != 0;
}

int stand_on_lead(struct follow *follow, struct bytes payload)
{
    struct lead *lead = follow->instance->lead;
    struct stand_taker *taker = &follow->stand;
    struct message_lead message;
    int error = message_lead_decode(payload, &message);
    if (error != OK || lead == NULL) {
        return ERR_PROTOCOL;
    }
    if (message.epoch != taker->epoch || is_of_another(follow)) {
        follow_alarm(follow, LOG_INFO, "%s is in epoch %llu, not in %llu", follow->link.address,
                     (unsigned long long)message.epoch, (unsigned long long)taker->epoch);
        follow_leave(follow, ERR_REFUSED, false, "of another epoch");
        return OK;
    }
    if (message.generation > atomic_load(&lead->heard_generation)) {
        atomic_store(&lead->heard_generation, message.generation);
    }
    instance_told(follow->instance, taker->link, message.epoch, message.block, &taker->offered);
    return OK;
}
