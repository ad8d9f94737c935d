// SPDX-License-Identifier: Apache-2.0
// What must fit between the options of one file, once each value fits by itself. Every finding
// names the line where a person would change something: the later of two things that collide, the
// head of a section where something is missing. Same thread as config_read.
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io/address.h"
#include "common/roots/members.h"
#include "common/roots/tally.h"
#include "qs/config_parts.h"

struct checking {
    const struct config *config;
    struct config_reading *reading;
};

static const struct option_row *row_of(int instance, const char *name)
{
    struct option_scope scope =
        instance == CONFIG_TOP ? option_scope_node() : option_scope_instance();
    const struct option_row *row = option_find(scope, bytes_text(name));
    CHECK(row != NULL);
    return row;
}

// Where option `name` is given; for an instance that does not give it, the head of its section.
static unsigned line_of(const struct checking *checking, int instance, const char *name)
{
    const struct config_scan *scan = &checking->reading->scan;
    unsigned line = config_scan_line(scan, instance, row_of(instance, name));
    return line != 0 || instance == CONFIG_TOP ? line : scan->sections[instance].line;
}

#define FAIL(checking, line, ...) config_fail(&(checking)->reading->fault, line, __VA_ARGS__)

static bool node_name_fits(const char *name)
{
    size_t size = strlen(name);
    return size >= 1 && size <= NODE_NAME_MAX &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                        "0123456789._-") == size;
}

static void check_names(struct checking *checking)
{
    const struct node_options *node = &checking->config->node;
    if (!node_name_fits(node->node)) {
        FAIL(checking, line_of(checking, CONFIG_TOP, "node"),
             "option 'node': '%.80s'%s must be 1 to %d of A-Z, a-z, 0-9, '.', '_' and '-'",
             node->node, line_of(checking, CONFIG_TOP, "node") == 0 ? ", the host's name," : "",
             NODE_NAME_MAX);
    }
    if (!node_name_fits(node->cluster)) {
        FAIL(checking, line_of(checking, CONFIG_TOP, "cluster"),
             "option 'cluster': '%.80s' must be 1 to %d of A-Z, a-z, 0-9, '.', '_' and '-'",
             node->cluster, NODE_NAME_MAX);
    }
}

static void check_data_dir(struct checking *checking)
{
    const char *path = checking->config->node.data_dir;
    unsigned line = line_of(checking, CONFIG_TOP, "data_dir");
    struct stat status;
    if (stat(path, &status) != 0 && errno == ENOENT) {
        FAIL(checking, line, "option 'data_dir': %s does not exist; create it, owned by the user "
                             "that runs qsd", path);
    } else if (stat(path, &status) != 0) {
        FAIL(checking, line, "option 'data_dir': %s: %s", path, strerror(errno));
    } else if (!S_ISDIR(status.st_mode)) {
        FAIL(checking, line, "option 'data_dir': %s is not a directory", path);
    } else if (access(path, R_OK | W_OK | X_OK) != 0) {
        FAIL(checking, line, "option 'data_dir': %s: this user may not write there", path);
    }
}

static void check_node(struct checking *checking)
{
    const struct node_options *node = &checking->config->node;
    check_names(checking);
    check_data_dir(checking);
    if (node->silence <= node->heartbeat) {
        unsigned line = line_of(checking, CONFIG_TOP, "silence");
        FAIL(checking, line != 0 ? line : line_of(checking, CONFIG_TOP, "heartbeat"),
             "silence (%" PRIu64 " ms) must be longer than heartbeat (%" PRIu64 " ms)",
             node->silence, node->heartbeat);
    }
    if (checking->config->instance_count == 0) {
        FAIL(checking, 0, "no instance is configured: add instance NAME { number = 0 role = ... }");
    }
}

static void check_role(struct checking *checking, int position)
{
    const struct instance_options *options = &checking->config->instances[position];
    unsigned parents = line_of(checking, position, "parents");
    unsigned replicas = line_of(checking, position, "replicas");
    if (options->role == ROLE_ROOT && options->parents[0] != NULL) {
        FAIL(checking, parents, "a root has no parents: it is where the log begins");
    }
    bool finds = checking->config->consul.given;
    if (options->role != ROLE_ROOT && options->parents[0] == NULL && !finds) {
        FAIL(checking, parents, "instance '%s' is a %s and needs parents, the peer addresses where "
                                "its log comes from (or consul { ... }, to find them there)",
             options->name, role_text(options->role));
    }
    if (options->role != ROLE_PROXY && options->replicas[0] != NULL) {
        FAIL(checking, replicas, "replicas are for a proxy, a %s holds every value itself",
             role_text(options->role));
    }
    if (options->role == ROLE_PROXY && options->replicas[0] == NULL && !finds) {
        FAIL(checking, replicas, "instance '%s' is a proxy and needs replicas, the peer addresses "
                                 "where it fetches values (or consul { ... }, to find them there)",
             options->name);
    }
}

static void check_least(struct checking *checking, int position, const struct members *members)
{
    const struct instance_options *options = &checking->config->instances[position];
    uint64_t in_sync = options->in_sync_min;
    if (in_sync > members->count) {
        FAIL(checking, line_of(checking, position, "in_sync_min"),
             "in_sync_min (%" PRIu64 ") is more than there are roots (%u)", in_sync,
             members->count);
    }
    if (options->promote_min > members->count) {
        FAIL(checking, line_of(checking, position, "promote_min"),
             "promote_min (%" PRIu64 ") is more than there are roots (%u)", options->promote_min,
             members->count);
    }
}

static void check_roots(struct checking *checking, int position)
{
    const struct instance_options *options = &checking->config->instances[position];
    unsigned line = line_of(checking, position, "roots");
    struct members members;
    const char *bad, *reason;
    if (options->roots[0] == NULL) {
        return;
    }
    if (options->role != ROLE_ROOT) {
        FAIL(checking, line, "roots are for a root: a %s finds whom it follows by parents",
             role_text(options->role));
    } else if (members_parse(&members, options->roots, checking->config->node.node, &bad,
                             &reason) != OK) {
        FAIL(checking, line, "option 'roots': %s%.160s%s%s", bad[0] == '\0' ? "" : "'", bad,
             bad[0] == '\0' ? "" : "': ", reason);
    } else if (members.count > 1 && checking->config->node.peer == NULL) {
        FAIL(checking, line, "one of several roots needs `peer`, where the others reach it");
    } else {
        check_least(checking, position, &members);
    }
}

// Two parts of a disk can be compared when both are percentages, or both sizes.
static bool exceeds(option_SPACE a, option_SPACE b)
{
    bool alike = (a >= SPACE_PERCENT) == (b >= SPACE_PERCENT) || (a & ~SPACE_PERCENT) == 0;
    return alike && (a & ~SPACE_PERCENT) > (b & ~SPACE_PERCENT);
}

// The pause of replication is the last resort: what can be given up goes before. 0 = no limit.
static void check_reserve(struct checking *checking, int position)
{
    const struct instance_options *options = &checking->config->instances[position];
    option_SPACE soft = options->cache.soft_limit, hard = options->cache.hard_limit;
    option_SPACE least = hard != 0 ? hard : soft;
    if (least != 0 && exceeds(options->reserve, least)) {
        FAIL(checking, line_of(checking, position, "reserve"),
             "reserve must not be above %s: both are free disk, and replication would pause "
             "before any value is given up", hard != 0 ? "hard_limit" : "soft_limit");
    }
}

static void check_cache(struct checking *checking, int position)
{
    const struct instance_options *options = &checking->config->instances[position];
    const struct config_section *section = &checking->reading->scan.sections[position];
    if (options->role != ROLE_PROXY && section->cache_line != 0) {
        FAIL(checking, section->cache_line, "cache { ... } is for a proxy, a %s holds every value",
             role_text(options->role));
    }
    if (section->cache_line != 0 && exceeds(options->cache.hard_limit, options->cache.soft_limit)) {
        const struct option_row *row = option_find(option_scope_cache(), bytes_text("hard_limit"));
        unsigned line = config_scan_line(&checking->reading->scan, position, row);
        FAIL(checking, line != 0 ? line : section->cache_line,
             "hard_limit must not be above soft_limit: both are free disk, and the soft one is "
             "reached first");
    }
    if (section->cache_line != 0) {
        check_reserve(checking, position);
    }
}

static void check_number(struct checking *checking, int position)
{
    const struct instance_options *all = checking->config->instances;
    for (int i = 0; i < position; i++) {
        if (all[i].number == all[position].number) {
            FAIL(checking, line_of(checking, position, "number"),
                 "number %" PRIu64 " is taken by instance '%s' (line %u)", all[i].number,
                 all[i].name, line_of(checking, i, "number"));
        }
    }
}

// Addresses that this node listens on; of all others there may be several alike.
static bool listens(const struct option_row *row)
{
    return strcmp(row->name, "peer") == 0 || strcmp(row->name, "client") == 0 ||
           strcmp(row->name, "admin") == 0;
}

static bool same_address(const char *a, const char *b)
{
    struct address parsed_a, parsed_b;
    const char *reason;
    if (address_parse(&parsed_a, a, &reason) != OK || address_parse(&parsed_b, b, &reason) != OK) {
        return strcmp(a, b) == 0;
    }
    size_t size = strlen(a);
    bool any_port = size >= 2 && strcmp(a + size - 2, ":0") == 0 && strncmp(a, "unix:", 5) != 0;
    return !any_port && parsed_a.length == parsed_b.length &&
           memcmp(&parsed_a.storage, &parsed_b.storage, parsed_a.length) == 0;
}

static void check_addresses(struct checking *checking)
{
    const struct config_reading *reading = checking->reading;
    for (size_t i = 0; i < reading->value_count; i++) {
        const struct config_value *later = &reading->values[i];
        for (size_t j = 0; j < i && listens(later->row); j++) {
            const struct config_value *earlier = &reading->values[j];
            if (listens(earlier->row) && same_address(earlier->text, later->text)) {
                FAIL(checking, later->line, "option '%s': address '%s' is taken by option '%s' on "
                                            "line %u",
                     later->row->name, later->text, earlier->row->name, earlier->line);
            }
        }
    }
}

// ---- consul ------------------------------------------------------------------------------------

static unsigned consul_line_of(const struct checking *checking, const char *name)
{
    const struct config_scan *scan = &checking->reading->scan;
    const struct option_row *row = option_find(option_scope_consul(), bytes_text(name));
    CHECK(row != NULL);
    unsigned line = config_scan_line(scan, CONFIG_TOP, row);
    return line != 0 ? line : scan->consul_line;
}

static bool http_fits(const char *http)
{
    if (strncmp(http, "unix:", 5) == 0) {
        return http[5] == '/';
    }
    const char *scheme = strstr(http, "://");
    const char *rest = scheme == NULL ? http : scheme + 3;
    bool known = scheme == NULL || strncmp(http, "http://", 7) == 0 ||
                 strncmp(http, "https://", 8) == 0;
    return known && strcspn(rest, "/?#@ ") == strlen(rest) && strchr(rest, ':') > rest;
}

static bool word_fits(const char *text, size_t max, const char *also)
{
    size_t size = strlen(text);
    for (size_t i = 0; i < size; i++) {
        bool plain = (text[i] >= 'a' && text[i] <= 'z') || (text[i] >= '0' && text[i] <= '9');
        if (!plain && strchr(also, text[i]) == NULL) {
            return false;
        }
    }
    return size >= 1 && size <= max;
}

static void check_consul_options(struct checking *checking)
{
    const struct consul_options *consul = &checking->config->consul;
    if (!http_fits(consul->http)) {
        FAIL(checking, consul_line_of(checking, "http"),
             "option 'http': '%.128s' is not one of host:port, unix:/path, https://host:port",
             consul->http);
    }
    if (!word_fits(consul->service_prefix, CONSUL_PREFIX_MAX, "-")) {
        FAIL(checking, consul_line_of(checking, "service_prefix"),
             "option 'service_prefix': '%.80s' must be 1 to %d of a-z, 0-9 and '-'",
             consul->service_prefix, CONSUL_PREFIX_MAX);
    }
    if (consul->datacenter != NULL && !word_fits(consul->datacenter, NODE_NAME_MAX, "-_")) {
        FAIL(checking, consul_line_of(checking, "datacenter"),
             "option 'datacenter': '%.80s' must be 1 to %d of a-z, 0-9, '-' and '_'",
             consul->datacenter, NODE_NAME_MAX);
    }
    if (!word_fits(consul->domain, CONSUL_DOMAIN_MAX, "-.")) {
        FAIL(checking, consul_line_of(checking, "domain"),
             "option 'domain': '%.80s' must be 1 to %d of a-z, 0-9, '-' and '.'", consul->domain,
             CONSUL_DOMAIN_MAX);
    }
    if ((consul->cert_file == NULL) != (consul->key_file == NULL)) {
        FAIL(checking, consul_line_of(checking, consul->cert_file == NULL ? "key_file"
                                                                          : "cert_file"),
             "cert_file and key_file belong together: one is missing");
    }
}

// What is registered must lead others here.
static void check_advertise(struct checking *checking)
{
    const struct node_options *node = &checking->config->node;
    bool own = node->advertise != NULL;
    const char *text = own ? node->advertise : node->peer;
    unsigned line = line_of(checking, CONFIG_TOP, own ? "advertise" : "peer");
    struct address address;
    const char *reason;
    if (text == NULL || address_parse(&address, text, &reason) != OK) {
        return; // nothing is registered; or said already
    }
    if (node->peer == NULL) {
        FAIL(checking, line, "advertise says where others reach `peer`, which is not given");
    }
    if (address_is_wildcard(&address)) {
        FAIL(checking, line, own ? "option 'advertise': '%s' is no address that others could reach"
                                 : "option 'peer': '%s' is no address that others could reach: "
                                   "with consul { ... } give `advertise`, too", text);
    }
    const char *colon = strrchr(text, ':');
    if (own && strcmp(colon, ":0") == 0) {
        FAIL(checking, line, "option 'advertise': nobody can be reached at port 0");
    }
}

static void check_consul(struct checking *checking)
{
    if (checking->config->consul.given) {
        check_consul_options(checking);
        check_advertise(checking);
    } else if (checking->config->node.advertise != NULL) {
        FAIL(checking, line_of(checking, CONFIG_TOP, "advertise"),
             "advertise is registered in Consul, and there is no consul { ... }");
    }
}

void config_check(const struct config *config, struct config_reading *reading)
{
    struct checking checking = {.config = config, .reading = reading};
    check_node(&checking);
    check_consul(&checking);
    for (size_t i = 0; i < config->instance_count; i++) {
        check_number(&checking, (int)i);
        check_role(&checking, (int)i);
        check_roots(&checking, (int)i);
        check_cache(&checking, (int)i);
    }
    check_addresses(&checking);
}
