// SPDX-License-Identifier: Apache-2.0
// What Consul's answers say, JSON and DNS: whole ones, wrong ones, and random ones, which must be
// refused or read, and nothing else.
#include "common/discovery/catalog.h"
#include "common/discovery/srv.h"
#include "tests/unit/support.h"

static const struct catalog_wish wish = {.node = "me", .cluster = "qs", .own_site = true};

#define ROW(node, tag, address, port, more)                                                        \
    "{\"Node\":{\"Node\":\"host\",\"Address\":\"10.9.9.9\",\"Datacenter\":\"dc1\"},"               \
    "\"Service\":{\"Service\":\"qs-main\",\"Tags\":[\"" tag "\"],\"Address\":\"" address           \
    "\",\"Port\":" port ",\"Meta\":{\"cluster\":\"qs\",\"node\":\"" node "\"" more "}},"           \
    "\"Checks\":[]}"

static struct endpoints *read_good(const char *json, struct catalog_faults *faults)
{
    struct endpoints *list = NULL;
    assert_int_equal(catalog_read_health(bytes_text(json), &wish, &list, faults), OK);
    return list;
}

static void nodes_are_read(void **state)
{
    (void)state;
    struct catalog_faults faults;
    struct endpoints *list = read_good(
        "[" ROW("a", "root", "10.0.0.1", "7400", ",\"depth\":\"0\"") ","
            ROW("b", "x\",\"intermediate\",\"replica", "", "7401", ",\"depth\":\"3\"") ","
            ROW("me", "replica", "10.0.0.3", "7400", "") ","
            ROW("other", "replica", "10.0.0.4", "7400", ",\"cluster\":\"another\"") ","
            ROW("c", "replica", "fd00::1", "65535", ",\"depth\":\"many\"") "]", &faults);
    assert_int_equal(faults.refused, 0);
    assert_int_equal(list->count, 3);
    const struct endpoint *a = &list->endpoint[0], *b = a + 1, *c = a + 2;
    assert_string_equal(a->address, "10.0.0.1:7400");
    assert_string_equal(a->site, "dc1");
    assert_true(a->kind == ENDPOINT_ROOT && a->depth == 0 && a->own_site);
    assert_string_equal(b->address, "10.9.9.9:7401"); // the host's own
    assert_true(b->kind == ENDPOINT_INTERMEDIATE && b->depth == 3);
    assert_string_equal(c->address, "[fd00::1]:65535");
    assert_true(c->kind == ENDPOINT_REPLICA && c->depth == UINT32_MAX);
    endpoints_release(list);
}

static void wrong_nodes_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const rows[] = {
        ROW("a", "root", "10.0.0.1", "0", ""),       ROW("a", "root", "10.0.0.1", "65536", ""),
        ROW("a", "root", "10.0.0.1", "-1", ""),      ROW("a", "root", "10.0.0.1", "\"7400\"", ""),
        ROW("a", "root", "0.0.0.0", "7400", ""),     ROW("a", "root", "::", "7400", ""),
        ROW("a", "root", "example.org", "7400", ""), ROW("a", "root", "unix:/x", "7400", ""),
        ROW("a", "root", "10.0.0.1]", "7400", ""),   ROW("a b", "root", "10.0.0.1", "7400", ""),
        ROW("", "root", "10.0.0.1", "7400", ""),     ROW("\\n", "root", "10.0.0.1", "7400", ""),
        "{}", "[]", "7", "null", "{\"Node\":7,\"Service\":[]}",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct catalog_faults faults;
        char *json = mem_format("[%s,%s]", rows[i], ROW("good", "root", "10.0.0.2", "7400", ""));
        struct endpoints *list = read_good(json, &faults);
        assert_int_equal(list->count, 1);
        assert_string_equal(list->endpoint[0].node, "good");
        assert_int_equal(faults.refused, 1);
        assert_non_null(strstr(faults.first, "node "));
        endpoints_release(list);
        mem_free(json);
    }
}

static void broken_answers_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "null", "{}", "[", "[}", "none", "[\"\\u0000\"", "7"};
    struct endpoints *list = NULL;
    struct catalog_faults faults;
    struct catalog_sites sites;
    char site[ENDPOINT_SITE_MAX + 1];
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct bytes text = bytes_text(texts[i]);
        assert_int_equal(catalog_read_health(text, &wish, &list, &faults), ERR_PROTOCOL);
        assert_int_equal(catalog_read_sites(text, &sites), ERR_PROTOCOL);
        assert_int_equal(catalog_read_distances(text, "dc1", &sites), ERR_PROTOCOL);
        assert_int_equal(catalog_read_self(text, site), ERR_PROTOCOL);
    }
    // As deep as it likes.
    char *deep = mem_alloc(100001);
    memset(deep, '[', 100000);
    deep[100000] = '\0';
    assert_int_equal(catalog_read_health(bytes_text(deep), &wish, &list, &faults), ERR_PROTOCOL);
    mem_free(deep);
    assert_null(list);
    struct endpoints *none = read_good("[]", &faults);
    assert_int_equal(none->count, 0);
    endpoints_release(none);
}

#define COORD(site, area, x, height)                                                               \
    "{\"Datacenter\":\"" site "\",\"AreaID\":\"" area "\",\"Coordinates\":[{\"Node\":\"n\","       \
    "\"Coord\":{\"Vec\":[" x ",0,0,0],\"Height\":" height ",\"Adjustment\":0}}]}"

static void sites_are_ordered_by_distance(void **state)
{
    (void)state;
    struct catalog_sites sites;
    assert_int_equal(catalog_read_sites(bytes_text("[\"far\",\"dc1\",\"dark\",\"near\",7,\"a b\"]"),
                                        &sites), OK);
    assert_int_equal(sites.count, 4);
    assert_int_equal(
        catalog_read_distances(bytes_text("[" COORD("dc1", "wan", "0", "0.001") ","
                                              COORD("near", "lan", "9", "0") ","
                                              COORD("near", "wan", "0.01", "0.001") ","
                                              COORD("far", "wan", "-0.2", "0.001") ","
                                              COORD("bad", "wan", "1e308", "0") "]"),
                               "dc1", &sites), OK);
    assert_string_equal(sites.site[0].name, "dc1");
    assert_string_equal(sites.site[1].name, "near");
    assert_string_equal(sites.site[2].name, "far");
    assert_string_equal(sites.site[3].name, "dark");
    assert_true(sites.site[1].distance_ns / 100000 == 120); // 12 ms
    assert_true(sites.site[3].distance_ns == UINT64_MAX);
    // A lone agent has none: Consul's order stays.
    assert_int_equal(catalog_read_distances(bytes_text("[]"), "dc1", &sites), OK);
    assert_string_equal(sites.site[1].name, "near");
    char site[ENDPOINT_SITE_MAX + 1];
    assert_int_equal(catalog_read_self(bytes_text("{\"Config\":{\"Datacenter\":\"dc1\"}}"), site),
                     OK);
    assert_string_equal(site, "dc1");
}

static void random_json_is_read_or_refused(void **state)
{
    (void)state;
    static const char seed_text[] =
        "[" ROW("a", "root", "10.0.0.1", "7400", ",\"depth\":\"0\"") ","
            ROW("b", "replica", "", "7401", "") "," COORD("dc1", "wan", "0.5", "1") "]";
    uint64_t seed = 7;
    char text[sizeof seed_text];
    for (unsigned round = 0; round < ROUNDS(30000); round++) {
        memcpy(text, seed_text, sizeof text);
        for (uint64_t flips = test_between(&seed, 1, 4); flips > 0; flips--) {
            text[test_random(&seed) % (sizeof text - 1)] =
                "\"{}[],:0123456789eE-.\\ux"[test_random(&seed) % 25];
        }
        struct bytes body = bytes_of(text, test_random(&seed) % 8 == 0
                                               ? test_random(&seed) % sizeof text
                                               : sizeof text - 1);
        struct endpoints *list;
        struct catalog_faults faults;
        struct catalog_sites sites = {.count = 1, .site = {{.name = "dc1"}}};
        if (catalog_read_health(body, &wish, &list, &faults) == OK) {
            assert_true(list->count + faults.refused <= 64);
            endpoints_release(list);
        }
        (void)!catalog_read_distances(body, "dc1", &sites);
        (void)!catalog_read_sites(body, &sites);
    }
}

// ---- DNS ---------------------------------------------------------------------------------------

static void put_u16(struct buf *to, unsigned number)
{
    buf_append(to, (uint8_t[]){(uint8_t)(number >> 8), (uint8_t)number}, 2);
}

static void put_name(struct buf *to, const char *name)
{
    while (*name != '\0') {
        size_t size = strcspn(name, ".");
        buf_append(to, (uint8_t[]){(uint8_t)size}, 1);
        buf_append(to, name, size);
        name += size + (name[size] == '.');
    }
    buf_append(to, "", 1);
}

static void put_record(struct buf *to, const char *name, unsigned type, const void *data,
                       size_t size)
{
    put_name(to, name);
    put_u16(to, type);
    put_u16(to, 1);
    put_u16(to, 0);
    put_u16(to, 0); // time to live: Consul says 0
    put_u16(to, (unsigned)size);
    buf_append(to, data, size);
}

static void put_srv(struct buf *to, const char *target, unsigned port)
{
    struct buf data = {0};
    put_u16(&data, 1);
    put_u16(&data, 1);
    put_u16(&data, port);
    put_name(&data, target);
    put_record(to, "replica.qs-main.service.consul", 33, data.data, data.size);
    buf_free(&data);
}

static void put_head(struct buf *to, unsigned answers, unsigned additionals)
{
    put_u16(to, 4711);
    put_u16(to, 0x8580);
    put_u16(to, 1);
    put_u16(to, answers);
    put_u16(to, 0);
    put_u16(to, additionals);
    put_name(to, "replica.qs-main.service.consul");
    put_u16(to, 33);
    put_u16(to, 1);
}

// Two replicas, one of them over IPv6; one without an address; one at port 0; and a text.
static struct buf sample(void)
{
    struct buf message = {0};
    put_head(&message, 4, 5);
    put_srv(&message, "a.node.dc1.consul", 7400);
    put_srv(&message, "B.node.dc1.consul", 7401);
    put_srv(&message, "lost.node.dc1.consul", 7402);
    put_srv(&message, "a.node.dc1.consul", 0);
    put_record(&message, "a.node.dc1.consul", 1, "\x0a\x00\x00\x01", 4);
    put_record(&message, "a.node.dc1.consul", 16, "\x03x=y", 4);
    put_record(&message, "b.node.dc1.consul", 28, "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
    put_record(&message, "b.node.dc1.consul", 1, "\x0a", 1); // no address
    put_record(&message, "z.node.dc1.consul", 1, "\x0a\x00\x00\x09", 4);
    return message;
}

static void srv_records_are_read(void **state)
{
    (void)state;
    struct buf message = sample();
    struct endpoints *list;
    size_t refused;
    assert_int_equal(srv_read(buf_bytes(&message), &list, &refused), OK);
    assert_int_equal(list->count, 2);
    assert_int_equal(refused, 2);
    assert_string_equal(list->endpoint[0].address, "10.0.0.1:7400");
    assert_string_equal(list->endpoint[1].address, "[fd00::1]:7401");
    assert_int_equal(list->endpoint[0].kind, ENDPOINT_REPLICA);
    endpoints_release(list);
    // Whatever is cut off, what is left is refused, in memory of exactly that size.
    for (size_t size = 0; size < message.size; size++) {
        uint8_t *cut = mem_copy(message.data, size);
        list = NULL;
        assert_int_equal(srv_read(bytes_of(cut, size), &list, &refused), ERR_PROTOCOL);
        assert_null(list);
        mem_free(cut);
    }
    buf_free(&message);
}

static void names_that_lead_in_circles_are_refused(void **state)
{
    (void)state;
    struct buf message = {0};
    put_u16(&message, 1);
    put_u16(&message, 0x8580);
    put_u16(&message, 0);
    put_u16(&message, 1);
    put_u16(&message, 0);
    put_u16(&message, 0);
    put_u16(&message, 0xc000 | 12); // a name that points to itself
    buf_append(&message, "\0\41\0\1\0\0\0\0\0\0", 10);
    struct endpoints *list;
    size_t refused;
    assert_int_equal(srv_read(buf_bytes(&message), &list, &refused), ERR_PROTOCOL);
    buf_free(&message);
}

static void many_records_are_read(void **state)
{
    (void)state;
    struct buf message = {0};
    unsigned count = 1000;
    put_head(&message, count, count);
    for (unsigned i = 0; i < count; i++) {
        char *name = mem_format("%x", i);
        put_srv(&message, name, 7400);
        mem_free(name);
    }
    for (unsigned i = 0; i < count; i++) {
        char *name = mem_format("%x", i);
        put_record(&message, name, 1, (uint8_t[]){10, 1, (uint8_t)(i >> 8), (uint8_t)i}, 4);
        mem_free(name);
    }
    struct endpoints *list;
    size_t refused;
    assert_int_equal(srv_read(buf_bytes(&message), &list, &refused), OK);
    assert_int_equal(list->count, count);
    assert_string_equal(list->endpoint[999].address, "10.1.3.231:7400");
    endpoints_release(list);
    buf_free(&message);
}

static void random_messages_are_read_or_refused(void **state)
{
    (void)state;
    struct buf whole = sample();
    uint64_t seed = 11;
    unsigned read = 0, rounds = ROUNDS(100000);
    for (unsigned round = 0; round < rounds; round++) {
        size_t size = test_random(&seed) % 4 == 0 ? test_random(&seed) % (whole.size + 1)
                                                  : whole.size;
        uint8_t *message = mem_copy(whole.data, size);
        for (uint64_t flips = test_between(&seed, 0, 5); flips > 0 && size > 0; flips--) {
            static const uint8_t special[] = {0, 1, 12, 33, 63, 64, 0xc0, 0xff};
            message[test_random(&seed) % size] =
                test_random(&seed) % 2 == 0 ? special[test_random(&seed) % sizeof special]
                                            : (uint8_t)test_random(&seed);
        }
        struct endpoints *list;
        size_t refused;
        if (srv_read(bytes_of(message, size), &list, &refused) == OK) {
            endpoints_release(list);
            read++;
        }
        mem_free(message);
    }
    assert_true(read > rounds / 20 && read < rounds); // both happen
    buf_free(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_are_read),
        cmocka_unit_test(wrong_nodes_are_refused_by_name),
        cmocka_unit_test(broken_answers_are_refused),
        cmocka_unit_test(sites_are_ordered_by_distance),
        cmocka_unit_test(random_json_is_read_or_refused),
        cmocka_unit_test(srv_records_are_read),
        cmocka_unit_test(names_that_lead_in_circles_are_refused),
        cmocka_unit_test(many_records_are_read),
        cmocka_unit_test(random_messages_are_read_or_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
