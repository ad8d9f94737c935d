// SPDX-License-Identifier: Apache-2.0
// The configuration file: a whole sample, every default, a table of wrong files each with the
// line and a word of what must be said, and mutated files that may be refused but never crash.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/io/loop.h"
#include "qs/config.h"

static char directory[] = "/tmp/qs-config-XXXXXX";
static char path[64];

// The sample of the documentation; DIR stands for the test's directory.
static const char sample[] =
    "# a node at the edge\n"
    "node     = \"edge-17\"                          # unique name\n"
    "data_dir = \"DIR\"\n"
    "peer     = \"0.0.0.0:7400\"                     # other qs nodes\n"
    "client   = {\"unix:DIR/qs.sock\", \"127.0.0.1:7401\"}   # RESP\n"
    "admin    = \"127.0.0.1:7402\"                   # HTTP\n"
    "io       = auto                               # auto | uring | epoll\n"
    "instance zones {\n"
    "    number   = 0                              # what SELECT 0 means\n"
    "    client   = {\"unix:DIR/zones.sock\"}\n"
    "    role     = proxy                          # root | replica | proxy\n"
    "    parents  = {\"10.0.0.1:7400\",              # the first\n"
    "                \"10.0.0.3:7400\",}             # and the second\n"
    "    replicas = {\"10.0.0.2:7400\"}\n"
    "    window   = 90s   window_bytes = 1GB\n"
    "    cache { soft_limit = \"20%\"  hard_limit = 10%  # free disk, and a size\n"
    "            max_bytes = \"40GB\" }\n"
    "    reserve  = 300MB\n"
    "}\n"
    "instance 'keys' { number = 7 role = root parents = {} }\n";

static struct bytes fill_in(struct buf *to, const char *text)
{
    buf_clear(to);
    const char *at = text;
    for (const char *mark = strstr(at, "DIR"); mark != NULL; mark = strstr(at, "DIR")) {
        buf_append(to, at, (size_t)(mark - at));
        buf_append_text(to, directory);
        at = mark + 3;
    }
    buf_append_text(to, at);
    return buf_bytes(to);
}

static void write_file(struct bytes text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(text.size == 0 || fwrite(text.data, 1, text.size, file) == text.size);
    assert_int_equal(fclose(file), 0);
}

static int read_text(const char *text, struct config **ret_config, char **ret_message)
{
    struct buf filled = {0};
    write_file(fill_in(&filled, text));
    int error = config_read(ret_config, path, ret_message);
    buf_free(&filled);
    return error;
}

static struct config *read_good(const char *text)
{
    struct config *config = NULL;
    char *message = NULL;
    if (read_text(text, &config, &message) != OK) {
        fail_msg("%s", message);
    }
    return config;
}

static void sample_is_read(void **state)
{
    (void)state;
    struct config *config = read_good(sample);
    assert_string_equal(config->node.node, "edge-17");
    assert_string_equal(config->node.data_dir, directory);
    assert_string_equal(config->node.peer, "0.0.0.0:7400");
    assert_string_equal(config->node.client[1], "127.0.0.1:7401");
    assert_null(config->node.client[2]);
    assert_int_equal(config->node.io, IO_AUTO);
    assert_int_equal(config->instance_count, 2);
    const struct instance_options *zones = &config->instances[0], *keys = &config->instances[1];
    assert_string_equal(zones->name, "zones");
    assert_int_equal(zones->role, ROLE_PROXY);
    assert_string_equal(zones->parents[0], "10.0.0.1:7400");
    assert_string_equal(zones->parents[1], "10.0.0.3:7400");
    assert_null(zones->parents[2]);
    assert_string_equal(zones->replicas[0], "10.0.0.2:7400");
    assert_int_equal(zones->window, 90000);
    assert_int_equal(zones->window_bytes, GIB);
    assert_int_equal(zones->cache.soft_limit, SPACE_PERCENT + 20);
    assert_int_equal(zones->cache.hard_limit, SPACE_PERCENT + 10);
    assert_int_equal(zones->cache.max_bytes, 40 * GIB);
    assert_int_equal(zones->reserve, 300 * MIB);
    assert_string_equal(keys->name, "keys");
    assert_int_equal(keys->number, 7);
    assert_int_equal(keys->role, ROLE_ROOT);
    assert_null(keys->parents[0]);
    config_free(config);
}

#define GOOD "node=n1 data_dir=\"DIR\"\n"
#define ROOT "instance a { number=0 role=root }\n"
// One line, and open.
#define PROXY "instance a { number=0 role=proxy parents=10.0.0.1:1 replicas=10.0.0.1:1\n"

static void defaults_come_from_the_rows(void **state)
{
    (void)state;
    struct config *config = read_good(GOOD ROOT);
    const struct node_options *node = &config->node;
    assert_string_equal(node->cluster, "qs");
    assert_null(node->peer);
    assert_null(node->admin);
    assert_non_null(node->client);
    assert_null(node->client[0]);
    assert_int_equal(node->block_cache, 256 * MIB);
    assert_int_equal(node->heartbeat, 500);
    assert_int_equal(node->idle, 0);
    assert_int_equal(node->log_level, LOG_INFO);
    assert_int_equal(config->instances[0].journal_age, 7ull * 86400000);
    assert_int_equal(config->instances[0].sync, 2);
    assert_null(config->instances[0].client[0]);
    config_free(config);
}

static void forms_of_values(void **state)
{
    (void)state;
    setenv("QS_TEST_NODE", "from-env", 1);
    unsetenv("QS_TEST_UNSET");
    struct config *config = read_good("node = \"${QS_TEST_NODE}\"\r\n"
                                      "cluster = \"${QS_TEST_UNSET:-other}\"\r\n"
                                      "data_dir = 'DIR'\r\n"
                                      "client = 127.0.0.1:0\n"
                                      "client += {127.0.0.1:0}\n"
                                      "client += \"[::1]:7401\"\n"
                                      "idle = 1500\n loops = 3\n block_cache = 4mb\n"
                                      "log_level = warn\n io = epoll\n"
                                      "reply_bytes = 65536 # \" ' { in a comment\n" ROOT
                                      "# no line feed at the end");
    assert_string_equal(config->node.node, "from-env");
    assert_string_equal(config->node.cluster, "other");
    assert_string_equal(config->node.client[0], "127.0.0.1:0");
    assert_string_equal(config->node.client[2], "[::1]:7401");
    assert_null(config->node.client[3]);
    assert_int_equal(config->node.idle, 1500);
    assert_int_equal(config->node.loops, 3);
    assert_int_equal(config->node.block_cache, 4 * MIB);
    assert_int_equal(config->node.log_level, LOG_WARN);
    assert_int_equal(config->node.io, IO_EPOLL);
    assert_int_equal(config->node.reply_bytes, 65536);
    config_free(config);
}

static void a_bounded_cache_sizes_what_lies_beside_it(void **state)
{
    (void)state;
    struct config *config =
        read_good(GOOD PROXY "memtable = 2MB cache{max_bytes = 64MB soft_limit=0 hard_limit=0}}\n"
                  "instance b { number=1 role=proxy parents=10.0.0.1:1 replicas=10.0.0.1:1 }\n");
    const struct instance_options *small = &config->instances[0], *plain = &config->instances[1];
    assert_int_equal(small->cache.max_bytes, 64 * MIB);
    assert_int_equal(small->cache.soft_limit, 0);
    assert_int_equal(small->journal_bytes, 8 * MIB);
    assert_int_equal(small->segment_bytes, MIB);
    assert_int_equal(small->replay_bytes, 4 * MIB);
    assert_int_equal(small->apply_queue, 2 * MIB);
    assert_int_equal(small->memtable, 128 * KIB);
    assert_int_equal(small->window_bytes, 16 * MIB);
    assert_int_equal(small->recency_bytes, MIB);
    assert_int_equal(plain->cache.max_bytes, 0);
    assert_int_equal(plain->cache.soft_limit, SPACE_PERCENT + 10);
    assert_int_equal(plain->reserve, SPACE_PERCENT + 1);
    assert_int_equal(plain->journal_bytes, 4 * GIB);
    config_free(config);
}

struct wrong {
    const char *text;
    unsigned line; // 0 = "FILE: ..."
    const char *words;
};

static const struct wrong wrong_files[] = {
    // Grammar.
    {GOOD "nod = x\n" ROOT, 2, "did you mean 'node'"},
    {GOOD "# one\n# two\n\nhartbeat = 1s\n" ROOT, 5, "did you mean 'heartbeat'"},
    {GOOD "quux = x\n" ROOT, 2, "unknown option 'quux' (qsd --help"},
    {GOOD "parents = {}\n" ROOT, 2, "belongs inside an instance"},
    {GOOD "instance a {\n number=0\n role=root\n heartbeat=1s }\n", 5,
     "belongs outside of instance"},
    {GOOD "\ncluster = x;\n" ROOT, 3, "';' separates nothing"},
    {GOOD "cluster = x ; idle = 1\n" ROOT, 2, "';'"},
    {GOOD "// words\n" ROOT, 2, "comments begin with '#'"},
    {GOOD "idle = 1 /* words */\n" ROOT, 2, "comments begin with '#'"},
    {GOOD "cluster = a//b\n" ROOT, 2, "quotes"},
    {GOOD "idle = 1\n\nidle = 2\n" ROOT, 4, "given twice, first on line 2"},
    {GOOD "client = 127.0.0.1:0\nclient = 127.0.0.1:0\n" ROOT, 3, "given twice"},
    {GOOD "idle += 1\n" ROOT, 2, "'+=' is for lists"},
    {GOOD "cluster =\nidle = 1\n" ROOT, 2, "value of 'cluster' is missing"},
    {GOOD "cluster\nidle = 1\n" ROOT, 2, "'=' is missing after 'cluster'"},
    {GOOD "cluster x\n" ROOT, 2, "'=' is missing"},
    {GOOD "cluster = = x\n" ROOT, 2, "is missing"},
    {GOOD "cluster = {x}\n" ROOT, 2, "takes one value, not a list"},
    {GOOD "cluster = \"x\n" ROOT, 2, "no closing quote"},
    {GOOD "cluster = 'x\n" ROOT, 2, "no closing quote"},
    {GOOD "cluster = \"a\\nb\"\n" ROOT, 2, "backslash"},
    {GOOD "cluster = ${HOME}\n" ROOT, 2, "double quotes"},
    {GOOD "cluster = \"${HOME\"\n" ROOT, 2, "has no end"},
    {GOOD "cluster = (x)\n" ROOT, 2, "'(' means nothing"},
    {GOOD "cluster = x*\n" ROOT, 2, "'*' means nothing"},
    {GOOD "cluster = \001\n" ROOT, 2, "control character"},
    {GOOD "client = {127.0.0.1:1,\n  127.0.0.1:2\n" ROOT, 2, "not closed before line 4"},
    {GOOD "client = {127.0.0.1:1 127.0.0.1:2}\n" ROOT, 2, "','"},
    {GOOD "client = {,}\n" ROOT, 2, "','"},
    {GOOD ROOT "client = {\n\n", 3, "the list that opens here is not closed"},
    {GOOD ROOT "}\n", 3, "closes nothing"},
    {GOOD "instance a {\n number=0\n role=root\n\n", 2, "instance that opens here is not closed"},
    {GOOD "instance a {\n number=0\n role=root\ninstance b {\n}\n", 5,
     "'{' of line 2 is not closed"},
    {GOOD "instance {\n}\n", 2, "needs a name"},
    {GOOD "instance = a\n", 2, "is a section"},
    {GOOD "instance a number = 0\n", 2, "'{' is missing"},
    {GOOD "\ninstance Zones { number=0 role=root }\n", 3, "a-z, 0-9"},
    {GOOD "instance \"\" { number=0 role=root }\n", 2, "a-z, 0-9"},
    {GOOD "instance aaaaaaaaaabbbbbbbbbbccccccccccddddddddddx { number=0 role=root }\n", 2,
     "1 to 40"},
    {GOOD ROOT "\ninstance a { number=1 role=root }\n", 4, "there twice, first on line 2"},
    {GOOD "cash { }\n" ROOT, 2, "unknown section 'cash'"},
    {GOOD "cache { }\n" ROOT, 2, "directly inside an instance"},
    {GOOD PROXY " cache {\n cache { }\n}\n}\n", 4, "directly inside an instance"},
    {GOOD PROXY " cache = 5\n}\n", 3, "cache is a section"},
    {GOOD PROXY " cache {\n}\n cache { }\n}\n", 5, "there twice, first on line 3"},
    {GOOD PROXY " cache {\n soft_limit = 5%\n", 3, "not closed"},
    {GOOD PROXY " cache {\n\n window = 5m }\n}\n", 5, "outside of cache"},
    {GOOD PROXY "\n max_bytes = 1GB\n}\n", 4, "inside the cache"},
    {GOOD "soft_limit = 5%\n" ROOT, 2, "inside the cache"},
    {GOOD PROXY " cache {\n soft_limt = 5%\n}\n}\n", 4, "did you mean 'soft_limit'"},
    {GOOD PROXY " cache {\n peer = 1.1.1.1:1\n}\n}\n", 4, "outside of instance"},
    {GOOD PROXY " cache { max_bytes = 1GB\n max_bytes = 1GB }\n}\n", 4,
     "given twice, first on line 3"},
    {GOOD PROXY " cache {\n\n max_bytes = 1KB }\n}\n", 5, "67108864 to"},
    {GOOD PROXY " cache {\n soft_limit = 100%\n}\n}\n", 4, "neither a percentage"},
    {GOOD PROXY " cache {\n soft_limit = 007%\n}\n}\n", 4, "neither a percentage"},
    {GOOD PROXY " cache {\n soft_limit = %\n}\n}\n", 4, "neither a percentage"},
    {GOOD PROXY " cache {\n max_bytes = 10%\n}\n}\n", 4, "is not a size"},
    {GOOD PROXY " cache {\n soft_limit = 5%\n hard_limit = 6%\n}\n}\n", 5, "not be above"},
    {GOOD PROXY " cache {\n soft_limit = 1%\n}\n}\n", 3, "not be above"},
    {GOOD PROXY " cache { hard_limit=2GB soft_limit=1GB }\n}\n", 3, "not be above"},
    {GOOD PROXY " cache { soft_limit=2GB hard_limit=1GB }\n\n reserve=2GB }\n", 5,
     "above hard_limit"},
    {GOOD PROXY " cache { soft_limit=9GB hard_limit=0 }\n\n reserve=10GB }\n", 5,
     "above soft_limit"},
    {GOOD PROXY "\n cache { hard_limit=6% }\n reserve=7% }\n", 5, "above hard_limit"},
    {GOOD "instance a { number=0 role=root\n cache { } }\n", 3, "is for a proxy"},
    {GOOD "instance a {\n consul { } }\n", 3, "'consul' belongs outside"},
    {GOOD "consul {\n consul { } }\n" ROOT, 3, "'consul' belongs outside"},
    {GOOD "consul { }\n\nconsul { }\n" ROOT, 4, "'consul' is there twice, first on line 2"},
    {GOOD "consul = yes\n" ROOT, 2, "consul is a section: consul { ... }"},
    {GOOD "consul {\n\n" ROOT, 4, "'{' of line 2 is not closed"},
    {GOOD "consul {\n token_fil = x\n}\n" ROOT, 3, "did you mean 'token_file'"},
    {GOOD "consul {\n io = auto\n}\n" ROOT, 3, "outside of consul"},
    {GOOD "token_file = x\n" ROOT, 2, "inside consul { ... }"},
    {GOOD ROOT "consul {\n", 3, "section that opens here is not closed"},
    {GOOD "consul {\n http = \"ftp://h:1\"\n}\n" ROOT, 3, "host:port, unix:/path"},
    {GOOD "consul {\n http = \"http://h:1/v1\"\n}\n" ROOT, 3, "host:port, unix:/path"},
    {GOOD "consul {\n http = unix:sock\n}\n" ROOT, 3, "host:port, unix:/path"},
    {GOOD "consul {\n dns = here\n}\n" ROOT, 3, "not an address"},
    {GOOD "consul {\n service_prefix = A_\n}\n" ROOT, 3, "a-z, 0-9 and '-'"},
    {GOOD "consul {\n datacenter = \"a b\"\n}\n" ROOT, 3, "'datacenter'"},
    {GOOD "consul {\n domain = \"c/d\"\n}\n" ROOT, 3, "'domain'"},
    {GOOD "consul {\n cert_file = x\n}\n" ROOT, 3, "one is missing"},
    {GOOD "consul {\n ttl = 1ms\n}\n" ROOT, 3, "1000 to"},
    {GOOD "consul { }\npeer = 0.0.0.0:7400\n" ROOT, 3, "give `advertise`, too"},
    {GOOD "consul { }\npeer = [::]:7400\n" ROOT, 3, "give `advertise`, too"},
    {GOOD "consul { }\npeer = 0.0.0.0:7400\nadvertise = 0.0.0.0:7400\n" ROOT, 4, "could reach"},
    {GOOD "consul { }\npeer = 0.0.0.0:7400\nadvertise = 1.1.1.1:0\n" ROOT, 4, "port 0"},
    {GOOD "consul { }\nadvertise = 1.1.1.1:7400\n" ROOT, 3, "which is not given"},
    {GOOD "peer = 0.0.0.0:7400\nadvertise = 1.1.1.1:7400\n" ROOT, 3, "there is no consul"},
    {GOOD "include(\"x\")\n" ROOT, 2, "'(' means nothing"},
    {GOOD ROOT "node", 3, "the file ends after 'node'"},
    // Values.
    {"node = \"a b\"\ndata_dir=\"DIR\"\n" ROOT, 1, "'a b' must be"},
    {"\n\nnode=\"\"\ndata_dir=\"DIR\"\n" ROOT, 3, "empty"},
    {GOOD "cluster = \"a/b\"\n" ROOT, 2, "option 'cluster'"},
    {"node=n\n\ndata_dir=DIR/none\n" ROOT, 3, "does not exist"},
    {"node=n\ndata_dir=DIR/qs.conf\n" ROOT, 2, "is not a directory"},
    {GOOD "loops = 65\n" ROOT, 2, "0 to 64"},
    {GOOD "loops = -1\n" ROOT, 2, "not a whole number"},
    {GOOD "loops = 010\n" ROOT, 2, "not a whole number"},
    {GOOD "loops = four\n" ROOT, 2, "not a whole number"},
    {GOOD "loops = 99999999999999999999999\n" ROOT, 2, "not a whole number"},
    {GOOD "block_cache = 1kb\n" ROOT, 2, "1048576 to 1099511627776 bytes"},
    {GOOD "block_cache = 1PB\n" ROOT, 2, "KB, MB, GB or TB"},
    {GOOD "block_cache = 99999999999TB\n" ROOT, 2, "out of bounds"},
    {GOOD "heartbeat = 1w\n" ROOT, 2, "ms, s, m, h or d"},
    {GOOD "heartbeat = 2m\n" ROOT, 2, "10 to 60000 ms"},
    {GOOD "silence = 100ms\n" ROOT, 2, "longer than heartbeat"},
    {GOOD "heartbeat = 10s\n" ROOT, 2, "longer than heartbeat"},
    {GOOD "io = kqueue\n" ROOT, 2, "auto, uring or epoll"},
    {GOOD "log_level = loud\n" ROOT, 2, "debug, info, warn or error"},
    {GOOD "instance a {\n number=0\n role=leader }\n", 4, "root, replica or proxy"},
    {GOOD "peer = 127.0.0.1\n" ROOT, 2, "not an address"},
    {GOOD "peer = 127.0.0.1:70000\n" ROOT, 2, "not an address"},
    {GOOD "peer = unix:/tmp/x\n" ROOT, 2, "for clients only"},
    {GOOD "\nclient = {\"127.0.0.1:7401\", # one\n  \"127.0.0.1:x\"}\n" ROOT, 4, "'127.0.0.1:x'"},
    // What must fit together.
    {GOOD, 0, "no instance is configured"},
    {GOOD "instance a { role=root }\n\ninstance b { role=root }\n", 4, "number 0 is taken"},
    {GOOD "\ninstance a {\n number=0 }\n", 3, "option 'role' is missing"},
    {GOOD "instance a { number=1024 role=root }\n", 2, "0 to 1023"},
    {GOOD ROOT "instance b {\n role=root\n number=0 }\n", 5, "taken by instance 'a' (line 2)"},
    {GOOD "instance a {\n number=0 role=root\n parents={\"h:1\"} }\n", 4, "not an address"},
    {GOOD "instance a {\n number=0 role=root\n parents={\"10.0.0.1:1\"} }\n", 4,
     "root has no parents"},
    {GOOD "\ninstance a {\n number=0 role=replica }\n", 3, "needs parents"},
    {GOOD "instance a {\n number=0 role=replica\n parents = {} }\n", 4, "needs parents"},
    {GOOD "instance a {\n number=0 role=replica\n parents={\"10.0.0.1:0\"} }\n", 4, "port 0"},
    {GOOD "instance a {\n number=0 role=replica parents={\"10.0.0.1:1\"}\n"
          " replicas={\"10.0.0.1:1\"} }\n",
     4, "replicas are for a proxy"},
    {GOOD "\ninstance a {\n number=0 role=proxy parents={\"10.0.0.1:1\"}}\n", 3, "needs replicas"},
    {GOOD "client={127.0.0.1:7401}\npeer=127.0.0.1:7401\n" ROOT, 3,
     "taken by option 'client' on line 2"},
    {GOOD "client = {\"unix:DIR/s\",\n \"127.0.0.1:0\",\n \"unix:DIR/s\"}\n" ROOT, 4, "is taken"},
    {GOOD "client = 127.0.0.1:7401\ninstance a { number=0 role=root\n client=127.0.0.1:7401 }\n", 4,
     "is taken"},
};

static void check_wrong(const struct wrong *wrong)
{
    struct config *config = NULL;
    char *message = NULL;
    if (read_text(wrong->text, &config, &message) == OK) {
        fail_msg("accepted: %s", wrong->text);
    }
    assert_null(config);
    char head[128];
    if (wrong->line == 0) {
        snprintf(head, sizeof head, "%s: ", path);
    } else {
        snprintf(head, sizeof head, "%s:%u: ", path, wrong->line);
    }
    if (strncmp(message, head, strlen(head)) != 0 || strstr(message, wrong->words) == NULL ||
        strchr(message, '\n') != NULL) {
        fail_msg("for:\n%s\nwanted %s...%s...\ngot    %s", wrong->text, head, wrong->words,
                 message);
    }
    mem_free(message);
}

static void wrong_files_are_refused_with_their_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong_files); i++) {
        check_wrong(&wrong_files[i]);
    }
}

static void zero_bytes_and_huge_files_are_refused(void **state)
{
    (void)state;
    struct config *config = NULL;
    char *message = NULL;
    write_file(bytes_of("node = x\n# a\0b\n", 15));
    assert_int_equal(config_read(&config, path, &message), ERR_CONFIG);
    assert_non_null(strstr(message, ":2: a zero byte"));
    mem_free(message);
    char *huge = mem_alloc(2 * MIB);
    memset(huge, '\n', 2 * MIB);
    write_file(bytes_of(huge, 2 * MIB));
    assert_int_equal(config_read(&config, path, &message), ERR_CONFIG);
    assert_non_null(strstr(message, "larger than"));
    mem_free(message);
    mem_free(huge);
    assert_int_equal(config_read(&config, "/nonexistent/qs.conf", &message), ERR_CONFIG);
    assert_string_equal(message, "/nonexistent/qs.conf: No such file or directory");
    mem_free(message);
    assert_int_equal(config_read(&config, directory, &message), ERR_CONFIG);
    assert_non_null(strstr(message, "directory"));
    mem_free(message);
}

static uint64_t next_random(uint64_t *seed) // xorshift64*
{
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    return *seed * 0x2545F4914F6CDD1Dull;
}

static void mutate(struct buf *text, uint64_t *seed)
{
    static const char *const pieces[] = {"{", "}", "\"", "'", "\\", "#", "=", ",", "\n", ";", "${",
                                         "+=", "/*", "\r", " ", "instance x {", "0", "\377", "("};
    for (uint64_t changes = 1 + next_random(seed) % 4; changes > 0; changes--) {
        size_t at = next_random(seed) % text->size, size = text->size;
        const char *piece = pieces[next_random(seed) % ARRAY_LEN(pieces)];
        switch (next_random(seed) % 4) {
        case 0:
            text->data[at] = (uint8_t)next_random(seed);
            break;
        case 1:
            memmove(text->data + at, text->data + at + 1, size - at - 1);
            text->size--;
            break;
        case 2: // a piece more
            buf_append_text(text, piece);
            memmove(text->data + at + strlen(piece), text->data + at, size - at);
            memcpy(text->data + at, piece, strlen(piece));
            break;
        default: // a stretch twice
            if (size < 4000) {
                struct bytes stretch = bytes_of(mem_copy(text->data + at, size - at), size - at);
                buf_append_bytes(text, stretch);
                mem_free((void *)stretch.data);
            }
        }
    }
}

static void mutated_files_never_crash(void **state)
{
    (void)state;
    uint64_t seed = 20240617;
    struct buf text = {0};
    unsigned good = 0;
    for (unsigned round = 0; round < 3000; round++) {
        fill_in(&text, sample);
        mutate(&text, &seed);
        write_file(buf_bytes(&text));
        struct config *config = NULL;
        char *message = NULL;
        if (config_read(&config, path, &message) == OK) {
            good++;
            config_free(config);
        } else {
            assert_null(strchr(message, '\n'));
            assert_int_equal(strncmp(message, path, strlen(path)), 0);
            mem_free(message);
        }
    }
    assert_true(good > 100 && good < 2900);
    buf_free(&text);
}

struct collected {
    struct buf text;
    unsigned count;
};

static void collect(void *argument, const char *name, const char *value)
{
    struct collected *collected = argument;
    buf_format(&collected->text, "\n%s=%s", name, value);
    collected->count++;
}

static void each_option_is_shown(void **state)
{
    (void)state;
    struct config *config = read_good(sample);
    struct collected collected = {0};
    config_each(config, collect, &collected);
    buf_append(&collected.text, "\n", 2);
    const char *text = (const char *)collected.text.data;
    assert_non_null(strstr(text, "\nnode=edge-17\n"));
    assert_non_null(strstr(text, "\nio=auto\n"));
    assert_non_null(strstr(text, "\nblock_cache=268435456\n"));
    assert_non_null(strstr(text, "\nzones.role=proxy\n"));
    assert_non_null(strstr(text, "\nzones.parents=10.0.0.1:7400 10.0.0.3:7400\n"));
    assert_non_null(strstr(text, "\nkeys.parents=\n"));
    assert_true(collected.count > 60);
    buf_free(&collected.text);
    config_free(config);
}

static void help_names_every_option(void **state)
{
    (void)state;
    struct buf help = {0}, page = {0};
    config_help(&help);
    config_reference(&page);
    buf_append(&help, "", 1);
    buf_append(&page, "", 1);
#define NODE_OPTION(type, name, initial, min, max, text)                                           \
    assert_non_null(strstr((const char *)help.data, "  " #name " "));                              \
    assert_non_null(strstr((const char *)page.data, "| `" #name "` |"));
#define INSTANCE_OPTION(type, name, initial, min, max, text) NODE_OPTION(type, name, , , , )
#include "common/tables/options.h"
    assert_non_null(strstr((const char *)help.data, "(size, 1MB to 1TB; default 256MB)"));
    assert_non_null(strstr((const char *)help.data, "(root, replica or proxy; must be given)"));
    assert_non_null(strstr((const char *)page.data, "| `sync` | duration, 0ms to 1s | `2ms` |"));
    buf_free(&help);
    buf_free(&page);
}

static int make_directory(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/qs.conf", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    return unlink(path) == 0 && rmdir(directory) == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sample_is_read),
        cmocka_unit_test(defaults_come_from_the_rows),
        cmocka_unit_test(forms_of_values),
        cmocka_unit_test(a_bounded_cache_sizes_what_lies_beside_it),
        cmocka_unit_test(wrong_files_are_refused_with_their_line),
        cmocka_unit_test(zero_bytes_and_huge_files_are_refused),
        cmocka_unit_test(mutated_files_never_crash),
        cmocka_unit_test(each_option_is_shown),
        cmocka_unit_test(help_names_every_option),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
