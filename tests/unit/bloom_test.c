// SPDX-License-Identifier: Apache-2.0
// The blocked Bloom filter: no key is lost, false positives come as seldom as they should, and a
// reader beside the adder finds whatever it was told of.
#include "tests/unit/support.h"

#include <pthread.h>

#include "common/base/bloom.h"

#define KEYS 1000000
#define PROBES 1000000

static struct bloom filter(uint64_t keys, unsigned bits)
{
    struct bloom bloom = {.count = (keys * bits + 511) / 512};
    size_t size = bloom.count * sizeof *bloom.lines;
    bloom.lines = aligned_alloc(BLOOM_LINE_BYTES, size);
    memset(bloom.lines, 0, size);
    return bloom;
}

// 28 bytes, as keys of the field are.
struct name {
    char text[32];
};

static struct bytes name_of(struct name *name, const char *kind, uint64_t i)
{
    int size = snprintf(name->text, sizeof name->text, "%s/zone/%016llx", kind,
                        (unsigned long long)(i * 0x9e3779b97f4a7c15u));
    return bytes_of(name->text, (size_t)size);
}

static void test_rates(void **state)
{
    (void)state;
    // Bits a key, and what share of absent keys may look present, in millionths. A filter whose
    // lines were drawn from a poor hash, or with fewer probes, is far outside.
    static const struct {
        unsigned bits, least, most;
    } rows[] = {{10, 9000, 13000}, {16, 600, 1200}, {24, 20, 150}};
    for (unsigned row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        struct bloom bloom = filter(KEYS, rows[row].bits);
        struct name name;
        for (uint64_t i = 0; i < KEYS; i++) {
            bloom_add(&bloom, name_of(&name, "present", i));
        }
        for (uint64_t i = 0; i < KEYS; i++) {
            assert_true(bloom_maybe(&bloom, name_of(&name, "present", i)));
        }
        unsigned found = 0;
        for (uint64_t i = 0; i < PROBES; i++) {
            found += bloom_maybe(&bloom, name_of(&name, "missing", i)) ? 1 : 0;
        }
        printf("%u bits a key: %u of %u absent keys look present\n", rows[row].bits, found, PROBES);
        assert_in_range(found, rows[row].least, rows[row].most);
        free(bloom.lines);
    }
}

// Keys of all lengths, and a filter of one line.
static void test_small(void **state)
{
    (void)state;
    struct bloom bloom = filter(1, 16);
    assert_int_equal(bloom.count, 1);
    uint8_t key[1024];
    memset(key, 'k', sizeof key);
    assert_false(bloom_maybe(&bloom, bytes_of(key, 1)));
    for (size_t size = 1; size <= sizeof key; size += 93) {
        bloom_add(&bloom, bytes_of(key, size));
        assert_true(bloom_maybe(&bloom, bytes_of(key, size)));
    }
    free(bloom.lines);
}

struct race {
    struct bloom bloom;
    _Atomic uint64_t added; // keys below it were added
};

static void *probe_main(void *argument)
{
    struct race *race = argument;
    struct name name;
    uint64_t seed = 7, lost = 0;
    for (uint64_t added = 0; added < KEYS;) {
        added = atomic_load_explicit(&race->added, memory_order_acquire);
        for (unsigned i = 0; added > 0 && i < 16; i++) {
            uint64_t key = i == 0 ? added - 1 : test_random(&seed) % added;
            lost += bloom_maybe(&race->bloom, name_of(&name, "present", key)) ? 0 : 1;
        }
    }
    return (void *)(uintptr_t)lost;
}

static void *add_main(void *argument)
{
    struct race *race = argument;
    struct name name;
    for (uint64_t i = 0; i < KEYS; i++) {
        bloom_add(&race->bloom, name_of(&name, "other", i));
    }
    return NULL;
}

// Two adders, as while a generation is built, and a reader that trusts only what it was told.
static void test_concurrent(void **state)
{
    (void)state;
    struct race race = {.bloom = filter(2 * KEYS, 16)};
    pthread_t probing, adding;
    pthread_create(&probing, NULL, probe_main, &race);
    pthread_create(&adding, NULL, add_main, &race);
    struct name name;
    for (uint64_t i = 0; i < KEYS; i++) {
        bloom_add(&race.bloom, name_of(&name, "present", i));
        atomic_store_explicit(&race.added, i + 1, memory_order_release);
    }
    void *lost;
    pthread_join(adding, NULL);
    pthread_join(probing, &lost);
    assert_null(lost);
    for (uint64_t i = 0; i < KEYS; i++) {
        assert_true(bloom_maybe(&race.bloom, name_of(&name, "present", i)));
        assert_true(bloom_maybe(&race.bloom, name_of(&name, "other", i)));
    }
    free(race.bloom.lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rates),
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_concurrent),
    };
    return cmocka_run_group_tests_name("bloom", tests, NULL, NULL);
}
