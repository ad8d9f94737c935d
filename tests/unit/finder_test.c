// SPDX-License-Identifier: Apache-2.0
// The finder against a Consul that lies in every way it can: unknown service, nobody, 3 of 40, old,
// wrong ports, slow, no JSON, too much, an index that goes back, a check that is not known. Each
// time the list that was there stays, and what is right again is taken within seconds.
#include <signal.h>

#include "common/discovery/finder.h"
#include "common/discovery/inquiry.h"
#include "tests/unit/consul_fixture.h"

#define HEALTH "GET /v1/health/service/qs-main?"
#define REGISTER "PUT /v1/agent/service/register"
#define BEAT "PUT /v1/agent/check/update/qs-main:me:ttl"
#define LEAVE "PUT /v1/agent/service/deregister/qs-main:me"
#define PATIENCE_NS (60 * NS_PER_S) // only a hang takes as long

// All pauses of the finder go through here, and are a tenth of what they are.
uint64_t __real_random_jitter_ms(uint64_t ms);
uint64_t __wrap_random_jitter_ms(uint64_t ms);
uint64_t __wrap_random_jitter_ms(uint64_t ms) { return __real_random_jitter_ms(ms) / 10; }

struct world {
    struct fake_consul fake;
    struct finder *finder;
    struct node_options node;
    struct consul_options consul;
    struct node_metrics metrics;
    struct instance_metrics instance_metrics;
    struct endpoint_feed parents, replicas;
    struct finder_instance instance;
    char *directory, *saved;
    _Atomic int state;
    _Atomic bool feeds;
};

static void tell_facts(void *owner, struct agent_facts *ret_facts)
{
    struct world *world = owner;
    *ret_facts = (struct agent_facts){
        .state = atomic_load(&world->state),
        .feeds = atomic_load(&world->feeds),
        .history = "00ff",
        .epoch = 3,
        .depth = 2,
    };
}

// Nodes first .. first + count - 1 of 10.0.0.x, as Consul lists them.
static char *health(unsigned first, unsigned count, unsigned port)
{
    struct buf json = {0};
    for (unsigned i = first; i < first + count; i++) {
        buf_format(&json,
                   "%s{\"Node\":{\"Datacenter\":\"dc1\"},\"Service\":{\"Address\":\"10.0.0.%u"
                   "\",\"Port\":%u,\"Tags\":[\"replica\"],\"Meta\":{\"node\":\"n%u\","
                          "\"cluster\":\"qs\"}}}",
                   i == first ? "[" : ",", i + 1, port, i);
    }
    buf_append(&json, count == 0 ? "[]" : "]", count == 0 ? 3 : 2); // with the zero
    return (char *)json.data;
}

// Without an index in `headers` the next question does not wait for a change.
static void says_nodes(struct world *world, unsigned first, unsigned count, unsigned port,
                       const char *headers)
{
    char *body = health(first, count, port);
    fake_answer(&world->fake, HEALTH, 200, headers, body);
    mem_free(body);
}

static void open_finder(struct world *world)
{
    struct finder_setup setup = {
        .node = &world->node,
        .consul = &world->consul,
        .advertise = "[::1]:7400",
        .metrics = &world->metrics,
        .instances = &world->instance,
        .instance_count = 1,
    };
    const char *reason = NULL;
    assert_int_equal(finder_open(&world->finder, &setup, &reason), OK);
}

// One at a time, static for the alignment of its metrics.
static struct world *world_open(const char *http)
{
    static struct world one;
    struct world *world = &one;
    *world = (struct world){0};
    snprintf(world->fake.http, sizeof world->fake.http, "%s", http);
    fake_open(&world->fake);
    fake_answer(&world->fake, REGISTER, 200, NULL, "");
    fake_answer(&world->fake, BEAT, 200, NULL, "");
    fake_answer(&world->fake, LEAVE, 200, NULL, "");
    fake_answer(&world->fake, "GET /v1/agent/self", 200, NULL,
                "{\"Config\":{\"Datacenter\":\"dc1\"}}");
    fake_answer(&world->fake, "GET /v1/catalog/datacenters", 200, NULL, "[\"dc1\"]");
    fake_answer(&world->fake, "GET /v1/coordinate/datacenters", 200, NULL, "[]");
    world->directory = test_mkdir();
    world->saved = mem_format("%s/FOUND", world->directory);
    world->node = (struct node_options){.node = "me", .cluster = "qs"};
    world->consul = (struct consul_options){
        .given = true,
        .http = world->fake.http,
        .dns = world->fake.dns,
        .domain = "consul",
        .service_prefix = "qs-",
        .ttl = 600,
    };
    endpoint_feed_open(&world->parents);
    endpoint_feed_open(&world->replicas);
    world->instance = (struct finder_instance){
        .name = "main",
        .role = ROLE_PROXY,
        .parents = &world->parents,
        .replicas = &world->replicas,
        .saved_path = world->saved,
        .metrics = &world->instance_metrics,
        .facts = tell_facts,
        .owner = world,
    };
    atomic_store(&world->state, AGENT_SERVING);
    return world;
}

static void close_finder(struct world *world)
{
    finder_close(world->finder);
    world->finder = NULL;
}

static void world_close(struct world *world)
{
    if (world->finder != NULL) {
        close_finder(world);
    }
    fake_close(&world->fake);
    endpoint_feed_close(&world->parents);
    endpoint_feed_close(&world->replicas);
    mem_free(world->saved);
    test_rmdir(world->directory);
}

static size_t count_of(struct endpoint_feed *feed)
{
    struct endpoints *list = endpoint_feed_get(feed);
    size_t count = list->count;
    endpoints_release(list);
    return count;
}

#define AWAIT(condition)                                                                           \
    do {                                                                                           \
        uint64_t begun_ns = clock_mono_ns();                                                       \
        while (!(condition)) {                                                                     \
            assert_true(clock_mono_ns() - begun_ns < PATIENCE_NS);                                 \
            fake_sleep();                                                                          \
        }                                                                                          \
    } while (0)

// So many more questions of the kind have been answered, the one that was under way aside.
static void await_answers(struct world *world, unsigned more)
{
    unsigned asked = fake_asked(&world->fake, HEALTH, "");
    AWAIT(fake_asked(&world->fake, HEALTH, "") > asked + more);
}

// ---- registration ------------------------------------------------------------------------------

static void it_is_registered_and_kept_so(void **state)
{
    (void)state;
    struct world *world = world_open("");
    struct fake_consul *fake = &world->fake;
    world->instance.role = ROLE_REPLICA;
    says_nodes(world, 0, 0, 7400, NULL);
    open_finder(world);
    AWAIT(METRIC_GET(&world->metrics, node, consul_registered) == 1);
    static const char *const parts[] = {
        "\"ID\":\"qs-main:me\"", "\"Name\":\"qs-main\"", "\"Address\":\"::1\"", "\"Port\":7400",
        "\"Tags\":[\"replica\"]", "\"node\":\"me\"", "\"cluster\":\"qs\"", "\"role\":\"replica\"",
        "\"history\":\"00ff\"", "\"epoch\":\"3\"", "\"depth\":\"2\"", "\"TTL\":\"600ms\"",
        "\"Status\":\"passing\"", "\"DeregisterCriticalServiceAfter\":\"10m\"",
    };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        assert_int_equal(fake_asked(fake, REGISTER, parts[i]), 1);
    }
    AWAIT(fake_asked(fake, BEAT, "\"passing\"") >= 3);
    assert_int_equal(fake_asked(fake, REGISTER, ""), 1); // nothing has changed
    atomic_store(&world->state, AGENT_LOADING);
    AWAIT(fake_asked(fake, BEAT, "\"critical\"") >= 1);
    atomic_store(&world->state, AGENT_STOPPED);
    AWAIT(fake_asked(fake, BEAT, "\"warning\"") >= 1);
    atomic_store(&world->feeds, true);
    AWAIT(fake_asked(fake, REGISTER, "[\"replica\",\"intermediate\"]") == 1);
    // The agent has lost it, and says so in either way.
    static const unsigned lost[] = {404, 500};
    for (size_t i = 0; i < ARRAY_LEN(lost); i++) {
        unsigned before = fake_asked(fake, REGISTER, "");
        fake_answer(fake, BEAT, lost[i], NULL, "Unknown check");
        AWAIT(fake_asked(fake, REGISTER, "") > before);
        fake_answer(fake, BEAT, 200, NULL, "");
    }
    AWAIT(METRIC_GET(&world->metrics, node, consul_registered) == 1);
    assert_int_equal(fake_asked(fake, LEAVE, ""), 0);
    close_finder(world);
    assert_int_equal(fake_asked(fake, LEAVE, ""), 1);
    world_close(world);
}

static void its_end_does_not_wait_for_consul(void **state)
{
    (void)state;
    struct world *world = world_open("");
    fake_answer(&world->fake, LEAVE, 0, NULL, "");
    fake_answer(&world->fake, HEALTH, 0, NULL, "");
    pthread_mutex_lock(&world->fake.lock);
    world->fake.srv_mute = true;
    pthread_mutex_unlock(&world->fake.lock);
    open_finder(world);
    AWAIT(METRIC_GET(&world->metrics, node, consul_registered) == 1);
    AWAIT(atomic_load(&world->fake.looks) > 0);
    close_finder(world); // or the test hangs
    assert_int_equal(fake_asked(&world->fake, LEAVE, ""), 1);
    world_close(world);
}

static void write_token(const char *path, const char *token)
{
    char *other = mem_format("%s.new", path);
    FILE *file = fopen(other, "w");
    assert_non_null(file);
    fprintf(file, "%s\n", token);
    fclose(file);
    assert_int_equal(rename(other, path), 0);
    mem_free(other);
}

static void the_token_is_read_again_when_it_changes(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "%ld.sock", (long)getpid());
    char *http = mem_format("unix:/tmp/qs-finder-%s", path); // over a unix socket, too
    struct world *world = world_open(http);
    char *token = mem_format("%s/token", world->directory);
    world->consul.token_file = token;
    write_token(token, "first-one");
    open_finder(world);
    AWAIT(fake_asked(&world->fake, BEAT, "X-Consul-Token: first-one\r\n") >= 2);
    write_token(token, "second\r\nX-Evil: 1"); // is none
    write_token(token, "second");
    AWAIT(fake_asked(&world->fake, BEAT, "X-Consul-Token: second\r\n") >= 2);
    assert_int_equal(fake_asked(&world->fake, "", "X-Evil"), 0);
    assert_int_equal(unlink(token), 0); // the one that is known stays
    unsigned beats = fake_asked(&world->fake, BEAT, "second");
    AWAIT(fake_asked(&world->fake, BEAT, "second") > beats + 1);
    world_close(world);
    unlink(http + 5);
    mem_free(token);
    mem_free(http);
}

// ---- lists -------------------------------------------------------------------------------------

static void set_srv(struct world *world, unsigned count, bool mute, bool broken)
{
    pthread_mutex_lock(&world->fake.lock);
    world->fake.srv_count = count;
    world->fake.srv_mute = mute;
    world->fake.srv_broken = broken;
    pthread_mutex_unlock(&world->fake.lock);
}

static void lie_nobody(struct world *world)
{
    says_nodes(world, 0, 0, 7400, NULL);
    set_srv(world, 0, false, false);
}

static void lie_few(struct world *world)
{
    says_nodes(world, 0, 3, 7400, NULL);
    set_srv(world, 3, false, false);
}

static void lie_wrong_ports(struct world *world)
{
    says_nodes(world, 0, 40, 0, NULL);
    set_srv(world, 40, false, true);
}

static void lie_old(struct world *world)
{
    says_nodes(world, 0, 1, 7400, "X-Consul-KnownLeader: false\r\n");
}

static void lie_no_json(struct world *world)
{
    fake_answer(&world->fake, HEALTH, 200, NULL, "<html>welcome</html>");
}

static void lie_refused(struct world *world)
{
    fake_answer(&world->fake, HEALTH, 500, NULL, "No cluster leader");
}

static void lie_too_much(struct world *world)
{
    says_nodes(world, 0, 1, 7400, NULL);
    pthread_mutex_lock(&world->fake.lock);
    for (size_t i = 0; i < FAKE_ROWS; i++) {
        struct fake_row *row = &world->fake.rows[i];
        row->more = row->question != NULL && strcmp(row->question, HEALTH) == 0
                        ? CONSUL_ANSWER_MAX
                        : 0;
    }
    pthread_mutex_unlock(&world->fake.lock);
}

static void lie_silence(struct world *world)
{
    fake_answer(&world->fake, HEALTH, 0, NULL, "");
    set_srv(world, 40, true, false);
}

static const struct lie {
    const char *name;
    void (*tell)(struct world *world);
    bool looks; // is told over DNS, too
    bool fails; // counts as an error
} lies[] = {
    {"nobody", lie_nobody, true, false},
    {"3 of 40", lie_few, true, false},
    {"wrong ports", lie_wrong_ports, true, false},
    {"old", lie_old, false, false},
    {"no JSON", lie_no_json, false, false},
    {"refused", lie_refused, false, true},
    {"too much", lie_too_much, false, true},
    {"silence", lie_silence, false, true},
};

static void no_lie_takes_the_list_away(void **state)
{
    (void)state;
    struct world *world = world_open("");
    unsigned truth = 40, named = 39; // DNS says less: until it was heard, the others stand in
    says_nodes(world, 0, truth, 7400, NULL);
    set_srv(world, named, false, false);
    open_finder(world);
    AWAIT(count_of(&world->parents) == truth && count_of(&world->replicas) == named);
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        unsigned looks = atomic_load(&world->fake.looks);
        uint64_t errors = METRIC_GET(&world->metrics, node, consul_errors);
        lies[i].tell(world);
        if (lies[i].fails) {
            AWAIT(METRIC_GET(&world->metrics, node, consul_errors) > errors);
        } else {
            await_answers(world, 1);
            AWAIT(!lies[i].looks || atomic_load(&world->fake.looks) > looks);
        }
        if (count_of(&world->parents) != truth || count_of(&world->replicas) != named) {
            fail_msg("%s: %zu parents, %zu replicas", lies[i].name, count_of(&world->parents),
                     count_of(&world->replicas));
        }
    }
    truth++; // and what is true is taken at once
    says_nodes(world, 0, truth, 7400, NULL);
    set_srv(world, truth, false, false);
    AWAIT(count_of(&world->parents) == truth && count_of(&world->replicas) == truth);
    assert_true(METRIC_GET(&world->instance_metrics, instance, found_refused) >= 40);
    world_close(world);
}

static void the_last_list_is_there_without_consul(void **state)
{
    (void)state;
    struct world *world = world_open("");
    says_nodes(world, 0, 7, 7400, NULL);
    set_srv(world, 5, false, false);
    open_finder(world);
    AWAIT(count_of(&world->parents) == 7 && count_of(&world->replicas) == 5);
    close_finder(world);
    endpoint_feed_publish(&world->parents, endpoints_new(0));
    endpoint_feed_publish(&world->replicas, endpoints_new(0));
    fake_close(&world->fake);
    open_finder(world);
    assert_int_equal(count_of(&world->parents), 7); // before anybody was asked
    assert_int_equal(count_of(&world->replicas), 5);
    AWAIT(METRIC_GET(&world->metrics, node, consul_errors) >= 4);
    assert_int_equal(count_of(&world->parents), 7);
    // It comes back, another one.
    fake_open(&world->fake);
    fake_answer(&world->fake, REGISTER, 200, NULL, "");
    says_nodes(world, 6, 2, 7400, NULL);
    AWAIT(count_of(&world->parents) == 8);
    struct endpoints *list = endpoint_feed_get(&world->parents);
    assert_string_equal(list->endpoint[0].node, "n6"); // who is named comes first
    endpoints_release(list);
    world_close(world);
}

static void an_old_answer_misses_nobody(void **state)
{
    (void)state;
    struct world *world = world_open("");
    says_nodes(world, 0, 3, 7400, NULL);
    open_finder(world);
    AWAIT(count_of(&world->parents) == 3);
    says_nodes(world, 2, 2, 7400, "X-Consul-KnownLeader: false\r\n");
    AWAIT(count_of(&world->parents) == 4); // but what it adds is taken
    assert_int_equal(METRIC_GET(&world->instance_metrics, instance, found_missed), 0);
    says_nodes(world, 3, 1, 7400, "X-Consul-KnownLeader: true\r\n");
    AWAIT(METRIC_GET(&world->instance_metrics, instance, found_missed) == 3);
    assert_int_equal(count_of(&world->parents), 4);
    world_close(world);
}

static void a_root_is_the_last_replica(void **state)
{
    (void)state;
    struct world *world = world_open("");
    static const char root[] =
        "[{\"Node\":{\"Datacenter\":\"dc1\",\"Address\":\"10.0.0.200\"},\"Service\":{"
        "\"Port\":7400,\"Tags\":[\"root\"],"
        "\"Meta\":{\"node\":\"r\",\"cluster\":\"qs\"}}}]";
    fake_answer(&world->fake, HEALTH, 200, NULL, root);
    open_finder(world);
    AWAIT(count_of(&world->replicas) == 1);
    struct endpoints *list = endpoint_feed_get(&world->replicas);
    assert_string_equal(list->endpoint[0].address, "10.0.0.200:7400");
    endpoints_release(list);
    set_srv(world, 2, false, false); // better
    says_nodes(world, 0, 2, 7400, NULL);
    AWAIT(count_of(&world->replicas) == 2);
    list = endpoint_feed_get(&world->replicas);
    assert_int_equal(list->endpoint[0].kind, ENDPOINT_REPLICA);
    assert_int_equal(list->endpoint[0].node[0], 'n'); // known from the other question
    endpoints_release(list);
    set_srv(world, 0, false, false); // all are gone: they stay, but not alone
    fake_answer(&world->fake, HEALTH, 200, NULL, "[]");
    AWAIT(count_of(&world->replicas) == 3);
    says_nodes(world, 0, 1, 7400, NULL);
    AWAIT(count_of(&world->replicas) == 2);
    world_close(world);
}

static void other_sites_come_by_their_distance(void **state)
{
    (void)state;
    struct world *world = world_open("");
    struct fake_consul *fake = &world->fake;
#define AT(site, x)                                                                                \
    "{\"Datacenter\":\"" site "\",\"AreaID\":\"wan\",\"Coordinates\":[{\"Coord\":{\"Vec\":[" x     \
    "],\"Height\":0,\"Adjustment\":0}}]}"
    fake_answer(fake, "GET /v1/coordinate/datacenters", 200, NULL,
                "[" AT("dc1", "0") "," AT("near", "0.01") "," AT("far", "-0.05") "]");
#define ONE(site, address)                                                                         \
    "[{\"Node\":{\"Datacenter\":\"" site "\",\"Address\":\"" address "\"},\"Service\":{\"Port\":"  \
    "7400,\"Tags\":[\"replica\"],\"Meta\":{\"node\":\"n-" site "\",\"cluster\":\"qs\"}}}]"
#define QUESTION HEALTH "passing=1&stale&filter=%22proxy%22%20not%20in%20Service.Tags&dc="
    fake_answer(fake, QUESTION "near", 200, NULL, ONE("near", "10.0.2.1"));
    fake_answer(fake, QUESTION "far", 200, NULL, ONE("far", "10.0.3.1"));
    fake_answer(fake, HEALTH, 200, NULL, ONE("dc1", "10.0.1.1"));
    open_finder(world);
    AWAIT(count_of(&world->parents) == 1); // its servers have not joined the others yet
    fake_answer(fake, "GET /v1/catalog/datacenters", 200, NULL, "[\"far\",\"dc1\",\"near\"]");
    AWAIT(count_of(&world->parents) == 3);
    struct endpoints *list = endpoint_feed_get(&world->parents);
    assert_string_equal(list->endpoint[0].node, "n-dc1");
    assert_string_equal(list->endpoint[1].node, "n-near");
    assert_string_equal(list->endpoint[2].node, "n-far");
    assert_true(list->endpoint[0].own_site && !list->endpoint[1].own_site);
    assert_int_equal(list->endpoint[2].distance_ns / NS_PER_MS, 50);
    endpoints_release(list);
    world_close(world);
}

// A site whose nodes all begin at once names none of them before the first has found another site.
static void who_knows_nobody_asks_other_sites_again(void **state)
{
    (void)state;
    struct world *world = world_open("");
    struct fake_consul *fake = &world->fake;
    fake_answer(fake, "GET /v1/catalog/datacenters", 200, NULL, "[\"dc1\",\"near\"]");
    fake_answer(fake, QUESTION "near", 200, NULL, "[]");
    fake_answer(fake, HEALTH, 200, NULL, "[]");
    open_finder(world);
    AWAIT(fake_asked(fake, QUESTION "near", "") >= 3);
    // DNS, too, is asked for both sites, at intervals that do not shrink.
    assert_in_range(METRIC_GET(&world->metrics, node, consul_lookups), 1, 6);
    fake_answer(fake, QUESTION "near", 200, NULL, ONE("near", "10.0.2.1"));
    AWAIT(count_of(&world->parents) == 1);
    world_close(world);
}

static void indexes_follow_the_rules(void **state)
{
    (void)state;
    assert_int_equal(inquiry_index(0, 7), 7);
    assert_int_equal(inquiry_index(7, 7), 7);
    assert_int_equal(inquiry_index(7, 6), 0);
    assert_int_equal(inquiry_index(7, 0), 0);
    for (unsigned i = 0; i < 100; i++) {
        assert_true(inquiry_pause_ms(i) >= 500 && inquiry_pause_ms(i) <= INQUIRY_FAILED_MS);
    }
    struct world *world = world_open("");
    says_nodes(world, 0, 1, 7400, "X-Consul-Index: 7\r\n");
    open_finder(world);
    AWAIT(fake_asked(&world->fake, HEALTH, "&index=7&wait=60s") >= 1);
    says_nodes(world, 0, 1, 7400, "X-Consul-Index: 3\r\n"); // another Consul
    unsigned plain = fake_asked(&world->fake, HEALTH, "") -
                     fake_asked(&world->fake, HEALTH, "&index=");
    AWAIT(plain <
          fake_asked(&world->fake, HEALTH, "") - fake_asked(&world->fake, HEALTH, "&index="));
    AWAIT(fake_asked(&world->fake, HEALTH, "&index=3&wait=60s") >= 1);
    world_close(world);
}

// What it is asked to wait for, then, never comes to pass.
static void an_agent_that_has_lost_everything_is_asked_anew(void **state)
{
    (void)state;
    struct world *world = world_open("");
    struct fake_consul *fake = &world->fake;
#define WAITING                                                                                    \
    HEALTH "passing=1&stale&near=_agent&filter=%22proxy%22%20not%20in%20Service.Tags&index=40"
    fake_answer(fake, WAITING, 0, NULL, "");
    says_nodes(world, 0, 1, 7400, "X-Consul-Index: 40\r\n");
    open_finder(world);
    AWAIT(fake_asked(fake, BEAT, "") >= 10 && fake_asked(fake, WAITING, "") >= 1);
    says_nodes(world, 0, 2, 7400, "X-Consul-Index: 3\r\n");
    unsigned registered = fake_asked(fake, REGISTER, "");
    fake_answer(fake, BEAT, 404, NULL, "Unknown check");
    AWAIT(fake_asked(fake, REGISTER, "") > registered);
    fake_answer(fake, BEAT, 200, NULL, "");
    AWAIT(count_of(&world->parents) == 2); // the question that waits is given up after 69 s
    AWAIT(fake_asked(fake, HEALTH, "&index=3&wait=60s") >= 1);
    world_close(world);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN); // as the daemon does
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_registered_and_kept_so),
        cmocka_unit_test(its_end_does_not_wait_for_consul),
        cmocka_unit_test(the_token_is_read_again_when_it_changes),
        cmocka_unit_test(no_lie_takes_the_list_away),
        cmocka_unit_test(the_last_list_is_there_without_consul),
        cmocka_unit_test(an_old_answer_misses_nobody),
        cmocka_unit_test(a_root_is_the_last_replica),
        cmocka_unit_test(other_sites_come_by_their_distance),
        cmocka_unit_test(who_knows_nobody_asks_other_sites_again),
        cmocka_unit_test(indexes_follow_the_rules),
        cmocka_unit_test(an_agent_that_has_lost_everything_is_asked_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
