// SPDX-License-Identifier: Apache-2.0
// The levels of space for given disks, and what a directory takes.
#include "tests/unit/support.h"

#include "common/core/space.h"
#include "common/data/disk.h"

#define TOTAL (1000 * MIB)

static struct space_state judge(const struct space_limits *limits, uint64_t used_mib,
                                uint64_t free_mib, enum space_level before)
{
    const struct space_sample sample = {
        .used_bytes = used_mib * MIB, .free_bytes = free_mib * MIB, .total_bytes = TOTAL};
    return space_judge(limits, &sample, before);
}

static void levels_have_their_reason(void **state)
{
    (void)state;
    const struct space_limits none = {0}, size = {.max_bytes = 960 * MIB},
                              percent = {.soft = SPACE_PERCENT + 20,
                                         .hard = SPACE_PERCENT + 10,
                                         .reserve = SPACE_PERCENT + 1},
                              bytes = {.soft = 200 * MIB, .hard = 100 * MIB, .reserve = 10 * MIB},
                              both = {.max_bytes = 96 * MIB, .soft = 200 * MIB},
                              odd = {.soft = 100 * MIB, .hard = SPACE_PERCENT + 30},
                              late = {.soft = SPACE_PERCENT + 20,
                                      .hard = SPACE_PERCENT + 10,
                                      .reserve = 400 * MIB};
    static const struct {
        char limits;
        uint64_t used_mib, free_mib;
        enum space_level level;
        const char *reason;
    } cases[] = {
        {'n', 999, 0, SPACE_OK, ""},
        {'s', 864, 0, SPACE_OK, ""},          {'s', 865, 0, SPACE_SOFT, "max_bytes"},
        {'s', 900, 0, SPACE_SOFT, "max_bytes"}, {'s', 901, 0, SPACE_HARD, "max_bytes"},
        {'s', 999, 0, SPACE_HARD, "max_bytes"},
        {'p', 9, 200, SPACE_OK, ""},          {'p', 9, 199, SPACE_SOFT, "soft_limit"},
        {'p', 9, 100, SPACE_SOFT, "soft_limit"}, {'p', 9, 99, SPACE_HARD, "hard_limit"},
        {'p', 9, 10, SPACE_HARD, "hard_limit"}, {'p', 9, 9, SPACE_RESERVE, "reserve"},
        {'b', 9, 200, SPACE_OK, ""},          {'b', 9, 199, SPACE_SOFT, "soft_limit"},
        {'b', 9, 99, SPACE_HARD, "hard_limit"}, {'b', 9, 0, SPACE_RESERVE, "reserve"},
        {'2', 50, 300, SPACE_OK, ""},         {'2', 50, 100, SPACE_SOFT, "soft_limit"},
        {'2', 91, 300, SPACE_HARD, "max_bytes"}, {'2', 91, 100, SPACE_HARD, "max_bytes"},
        {'o', 9, 299, SPACE_HARD, "hard_limit"}, {'o', 9, 300, SPACE_OK, ""},
        {'l', 9, 399, SPACE_RESERVE, "reserve"}, {'l', 9, 400, SPACE_OK, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct space_limits *limits = cases[i].limits == 'n'   ? &none
                                            : cases[i].limits == 's' ? &size
                                            : cases[i].limits == 'p' ? &percent
                                            : cases[i].limits == 'b' ? &bytes
                                            : cases[i].limits == '2' ? &both
                                            : cases[i].limits == 'l' ? &late
                                                                     : &odd;
        struct space_state found =
            judge(limits, cases[i].used_mib, cases[i].free_mib, SPACE_OK);
        assert_int_equal(found.level, cases[i].level);
        assert_string_equal(found.reason, cases[i].reason);
        // What is over says by how much, and what is not has room; without a limit any.
        bool soft = limits != &none && found.level >= SPACE_SOFT;
        assert_int_equal(found.over_bytes > 0, soft);
        assert_int_equal(found.room_bytes == UINT64_MAX, limits == &none);
    }
}

static void a_level_is_left_with_room_to_spare(void **state)
{
    (void)state;
    const struct space_limits limits = {
        .max_bytes = 640 * MIB, .soft = 160 * MIB, .reserve = 16 * MIB};
    // Soft at 576 MiB, a margin of 10.
    assert_int_equal(judge(&limits, 570, 500, SPACE_OK).level, SPACE_OK);
    struct space_state soft = judge(&limits, 570, 500, SPACE_SOFT);
    assert_int_equal(soft.level, SPACE_SOFT);
    assert_int_equal(soft.over_bytes, 4 * MIB);
    assert_int_equal(soft.room_bytes, 6 * MIB);
    assert_int_equal(judge(&limits, 566, 500, SPACE_SOFT).level, SPACE_OK);
    assert_int_equal(judge(&limits, 600, 500, SPACE_SOFT).over_bytes, 34 * MIB);
    // Free disk: a margin of 10 too; of the reserve, 1.
    assert_int_equal(judge(&limits, 1, 165, SPACE_SOFT).level, SPACE_SOFT);
    assert_int_equal(judge(&limits, 1, 165, SPACE_OK).level, SPACE_OK);
    assert_int_equal(judge(&limits, 1, 170, SPACE_SOFT).level, SPACE_OK);
    assert_int_equal(judge(&limits, 1, 16, SPACE_RESERVE).level, SPACE_RESERVE);
    assert_int_equal(judge(&limits, 1, 16, SPACE_OK).level, SPACE_SOFT);
    assert_int_equal(judge(&limits, 1, 17, SPACE_RESERVE).level, SPACE_SOFT);
    // From anywhere to anywhere: a lower level is never above the one that was.
    for (uint64_t used = 0; used < 700; used += 3) {
        for (uint64_t left = 0; left < 200; left += 3) {
            enum space_level fresh = judge(&limits, used, left, SPACE_OK).level;
            for (int before = SPACE_OK; before <= SPACE_RESERVE; before++) {
                enum space_level now = judge(&limits, used, left, (enum space_level)before).level;
                assert_true(now >= fresh);
                assert_true((int)now <= (before > (int)fresh ? before : (int)fresh));
            }
        }
    }
}

static void what_is_left_is_what_no_file_takes_yet(void **state)
{
    (void)state;
    const struct space_limits none = {.soft = 100 * MIB}, limits = {.max_bytes = 960 * MIB};
    struct space_sample sample = {.used_bytes = 900 * MIB,
                                  .coming_bytes = 500 * MIB,
                                  .free_bytes = TOTAL,
                                  .total_bytes = TOTAL};
    assert_int_equal(space_judge(&limits, &sample, SPACE_OK).left_bytes, 60 * MIB);
    assert_int_equal(space_judge(&none, &sample, SPACE_OK).left_bytes, UINT64_MAX);
    sample.used_bytes = 961 * MIB;
    assert_int_equal(space_judge(&limits, &sample, SPACE_OK).left_bytes, 0);
}

static void what_comes_counts_as_used(void **state)
{
    (void)state;
    const struct space_limits limits = {.max_bytes = 960 * MIB, .soft = 100 * MIB};
    for (uint64_t coming = 0; coming <= 960; coming += 20) {
        struct space_sample sample = {.used_bytes = (960 - coming) * MIB,
                                      .coming_bytes = coming * MIB,
                                      .free_bytes = TOTAL,
                                      .total_bytes = TOTAL};
        struct space_state full = space_judge(&limits, &sample, SPACE_OK);
        assert_int_equal(full.level, SPACE_HARD);
        assert_int_equal(full.over_bytes, (96 + 15) * MIB);
        sample.used_bytes /= 2;
        sample.coming_bytes /= 2;
        assert_int_equal(space_judge(&limits, &sample, SPACE_HARD).level, SPACE_OK);
        sample.free_bytes = 99 * MIB; // of the disk it takes nothing yet
        assert_int_equal(space_judge(&limits, &sample, SPACE_OK).level, SPACE_SOFT);
    }
}

// What was written since the last measurement counts twice, and so does what is asked about.
static void what_is_kept_fits_below_the_hard_level(void **state)
{
    (void)state;
    struct instance_options options = {.role = ROLE_PROXY};
    struct instance instance = {.options = &options};
    options.cache.max_bytes = 64 * MIB; // hard: 60
    space_open(&instance);
    assert_true(space_takes(&instance, 30 * MIB));
    assert_false(space_takes(&instance, 30 * MIB + 1));
    space_grow(&instance, MIB / 4);
    assert_true(space_takes(&instance, 30 * MIB - MIB / 4));
    assert_false(space_takes(&instance, 30 * MIB - MIB / 4 + 1));
    atomic_store(&instance.space_level, SPACE_HARD);
    assert_false(space_takes(&instance, 0));
    space_close(&instance);
    options.cache.max_bytes = 0;
    atomic_store(&instance.space_level, SPACE_SOFT);
    space_open(&instance);
    assert_true(space_takes(&instance, UINT32_MAX));
    atomic_store(&instance.space_level, SPACE_HARD);
    assert_false(space_takes(&instance, 0));
    space_close(&instance);
}

static void a_directory_counts_files_once(void **state)
{
    (void)state;
    char *directory = test_mkdir();
    uint64_t empty, used, linked;
    assert_int_equal(disk_used(directory, &empty), OK);
    uint8_t *data = mem_zalloc(MIB);
    test_write_file(directory, "a", bytes_of(data, MIB));
    assert_int_equal(disk_used(directory, &used), OK);
    assert_in_range(used - empty, MIB, MIB + 64 * KIB);
    char *from = mem_format("%s/a", directory), *to = mem_format("%s/b", directory);
    assert_int_equal(link(from, to), 0);
    assert_int_equal(disk_used(directory, &linked), OK);
    assert_in_range(linked + 1, used, used + 64 * KIB);
    assert_int_equal(disk_used(to, &linked), OK);
    char *none = mem_format("%s/none", directory);
    assert_int_equal(disk_used(none, &linked), ERR_NOT_FOUND);
    uint64_t total, left;
    assert_int_equal(disk_total(directory, &total), OK);
    assert_int_equal(disk_free(directory, &left), OK);
    assert_true(left <= total);
    mem_free(none);
    mem_free(from);
    mem_free(to);
    mem_free(data);
    test_rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_have_their_reason),
        cmocka_unit_test(a_level_is_left_with_room_to_spare),
        cmocka_unit_test(what_is_left_is_what_no_file_takes_yet),
        cmocka_unit_test(what_comes_counts_as_used),
        cmocka_unit_test(what_is_kept_fits_below_the_hard_level),
        cmocka_unit_test(a_directory_counts_files_once),
    };
    return cmocka_run_group_tests_name("space", tests, NULL, NULL);
}
