// SPDX-License-Identifier: Apache-2.0
#include "common/tree/donors.h"

static bool is_near(const struct parent *parent)
{
    return parent->named_donor || parent->near || parent->endpoint.own_site;
}

static bool has_waited(const struct donors *donors, uint64_t patience_ns, uint64_t now_ns)
{
    return donors->waiting_ns != 0 && now_ns - donors->waiting_ns >= patience_ns;
}

// Who was named gives; others of the own site may.
enum rank { RANK_NAMED, RANK_NEAR, RANK_FAR, RANK_NONE };

static enum rank rank_of(const struct parent *parent)
{
    return parent->named_donor ? RANK_NAMED
           : !parent->listed   ? RANK_NONE
           : is_near(parent)   ? RANK_NEAR
                               : RANK_FAR;
}

static struct parent *first(const struct parents *parents, enum rank last)
{
    for (enum rank rank = RANK_NAMED; rank <= last; rank++) {
        for (unsigned i = 0; i < parents->count; i++) {
            struct parent *parent = parents->all[i];
            if (!parent->asked && rank_of(parent) == rank) {
                return parent;
            }
        }
    }
    return NULL;
}

bool donors_choose(struct donors *donors, struct parents *parents, uint64_t patience_ns,
                   uint64_t now_ns)
{
    struct parent *at = donors->at;
    if (at != NULL && rank_of(at) != RANK_NONE) {
        return true;
    }
    bool waits = donors->site_waits || donors->near_later;
    bool far = !waits || has_waited(donors, patience_ns, now_ns);
    at = first(parents, far ? RANK_FAR : RANK_NEAR);
    parents_hold(parents, &donors->at, at);
    return at != NULL;
}

void donors_pass(struct donors *donors, struct parents *parents)
{
    if (donors->at != NULL) {
        donors->at->asked = true;
        parents_hold(parents, &donors->at, NULL);
    }
}

void donors_told(struct donors *donors, struct parents *parents,
                 const struct message_welcome *welcome, const char *node)
{
    bool known = parents->site[0] != '\0';
    donors->at->near = known && bytes_equal_text(welcome->site, parents->site);
    parents_named_donors(parents, welcome->elsewhere, node);
    if (known && is_near(donors->at)) {
        donors->near_later = true;
    } else if (welcome->answer == ANSWER_WAIT) {
        donors->site_waits = true;
    }
}

void donors_refused(struct donors *donors) { donors->at->named_donor = false; }

bool donors_new_round(struct donors *donors, struct parents *parents, uint64_t now_ns)
{
    bool waits = donors->site_waits || donors->near_later;
    bool begins = waits && donors->waiting_ns == 0;
    donors->waiting_ns = !waits ? 0 : begins ? now_ns : donors->waiting_ns;
    donors->insists = donors->site_waits && !donors->near_later;
    donors->site_waits = donors->near_later = false;
    donors->rounds++;
    for (unsigned i = 0; i < parents->count; i++) {
        parents->all[i]->asked = false;
    }
    return begins;
}

void donors_gave(struct donors *donors)
{
    donors->waiting_ns = 0;
    donors->insists = false;
}

void donors_forget(struct donors *donors, struct parents *parents)
{
    for (unsigned i = 0; i < parents->count; i++) {
        parents->all[i]->asked = parents->all[i]->named_donor = false;
    }
    parents_hold(parents, &donors->at, NULL);
    *donors = (struct donors){0};
}

enum hello_insists donors_insist(const struct donors *donors, uint64_t patience_ns, uint64_t now_ns)
{
    return has_waited(donors, patience_ns, now_ns) ? INSISTS_MUCH
           : donors->insists                       ? INSISTS
                                                   : INSISTS_NOT;
}
