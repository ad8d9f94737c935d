// SPDX-License-Identifier: Apache-2.0
#include "common/roots/members.h"

#define NAME_LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

// NULL: it is a member.
static const char *parse(struct member *ret_member, const char *text)
{
    const char *at = strchr(text, '@');
    if (at == NULL) {
        return "say name@host:port";
    }
    size_t size = (size_t)(at - text);
    if (size < 1 || size > NODE_NAME_MAX || strspn(text, NAME_LETTERS) != size) {
        return "what stands before '@' is no name of a node";
    }
    struct address address;
    const char *reason;
    if (strncmp(at + 1, "unix:", 5) == 0) {
        return "say name@host:port";
    }
    if (address_parse(&address, at + 1, &reason) != OK) {
        return reason;
    }
    const char *colon = strrchr(at, ':');
    if (address_is_wildcard(&address) || (colon != NULL && strcmp(colon, ":0") == 0)) {
        return "nobody can be reached at that address";
    }
    memcpy(ret_member->name, text, size);
    ret_member->name[size] = '\0';
    address_text(&address, ret_member->address); // one text for each address
    return NULL;
}

static const char *add(struct members *members, const char *text)
{
    struct member member;
    if (members->count == ROOTS_MAX) {
        return "more than 7 roots are named";
    }
    const char *reason = parse(&member, text);
    if (reason != NULL) {
        return reason;
    }
    for (unsigned i = 0; i < members->count; i++) {
        if (strcmp(members->all[i].name, member.name) == 0) {
            return "this node is named before";
        }
        if (strcmp(members->all[i].address, member.address) == 0) {
            return "this address is named before";
        }
    }
    unsigned at = members->count++;
    for (; at > 0 && strcmp(members->all[at - 1].name, member.name) > 0; at--) {
        members->all[at] = members->all[at - 1];
    }
    members->all[at] = member;
    return NULL;
}

int members_parse(struct members *ret_members, const char *const *texts, const char *node,
                  const char **ret_bad, const char **ret_reason)
{
    struct members members = {0};
    for (unsigned i = 0; texts[i] != NULL; i++) {
        const char *reason = add(&members, texts[i]);
        if (reason != NULL) {
            *ret_bad = texts[i];
            *ret_reason = reason;
            return ERR_CONFIG;
        }
    }
    int own = members_find(&members, bytes_text(node));
    if (own < 0) {
        *ret_bad = "";
        *ret_reason = "this node is not among them";
        return ERR_CONFIG;
    }
    members.own = (unsigned)own;
    const char *first = texts[0];
    members.first =
        (unsigned)members_find(&members, bytes_of(first, (size_t)(strchr(first, '@') - first)));
    *ret_members = members;
    return OK;
}

int members_find(const struct members *members, struct bytes name)
{
    for (unsigned i = 0; i < members->count; i++) {
        if (bytes_equal_text(name, members->all[i].name)) {
            return (int)i;
        }
    }
    return -1;
}

uint32_t members_all(const struct members *members) { return (1u << members->count) - 1; }
