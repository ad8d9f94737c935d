// SPDX-License-Identifier: Apache-2.0
// The overlay against a naive model: random writes, views that show a prefix, and revoked ends.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "replica/overlay.h"

#define KEYS 40
#define WRITES 4000

struct written {
    unsigned key;
    bool present;
};

static struct bytes name_of(unsigned key, char *to, size_t size)
{
    int length = snprintf(to, size, "key-%u", key);
    return bytes_of(to, (size_t)length);
}

// The newest write of `key` with visible < index <= last, 0 when there is none.
static uint64_t newest(const struct written *log, unsigned key, uint64_t visible, uint64_t last)
{
    for (uint64_t index = last; index > visible; index--) {
        if (log[index].key == key) {
            return index;
        }
    }
    return 0;
}

static void compare(const struct overlay *overlay, const struct written *log, uint64_t visible,
                    uint64_t last)
{
    for (unsigned key = 0; key < KEYS; key++) {
        char text[16];
        const struct overlay_entry *entry = overlay_find(overlay, name_of(key, text, sizeof text));
        uint64_t expected = newest(log, key, visible, last);
        if (expected == 0) {
            assert_null(entry);
            continue;
        }
        assert_non_null(entry);
        assert_int_equal(entry->index, expected);
        assert_int_equal(entry->present, log[expected].present);
        assert_int_equal(entry->value.size, log[expected].present ? sizeof expected : 0);
    }
}

static void test_random(void **state)
{
    (void)state;
    static struct written log[WRITES + 1];
    srandom(7);
    struct overlay overlay;
    overlay_open(&overlay);
    uint64_t visible = 0, last = 0;
    for (unsigned step = 0; step < 3 * WRITES && last < WRITES; step++) {
        unsigned dice = (unsigned)random() % 100;
        if (dice < 80) {
            log[++last] = (struct written){(unsigned)random() % KEYS, random() % 4 != 0};
            char text[16];
            struct bytes key = name_of(log[last].key, text, sizeof text);
            if (log[last].present) {
                overlay_put(&overlay, key, bytes_of(&last, sizeof last), last);
            } else {
                overlay_delete(&overlay, key, last);
            }
        } else if (dice < 95) {
            visible += last == visible ? 0 : (uint64_t)random() % (last - visible + 1);
            overlay_forget(&overlay, visible);
        } else {
            uint64_t keep = visible + (last == visible ? 0 : (uint64_t)random() % (last - visible));
            overlay_revoke(&overlay, keep + 1);
            last = keep;
        }
        compare(&overlay, log, visible, last);
    }
    assert_int_equal(overlay.entry_count, last - visible);
    overlay_close(&overlay);
}

static void test_growth(void **state)
{
    (void)state;
    struct overlay overlay;
    overlay_open(&overlay);
    char text[16];
    for (unsigned i = 1; i <= 20000; i++) {
        overlay_put(&overlay, name_of(i, text, sizeof text), bytes_text("v"), i);
    }
    for (unsigned i = 1; i <= 20000; i++) {
        const struct overlay_entry *entry = overlay_find(&overlay, name_of(i, text, sizeof text));
        assert_non_null(entry);
        assert_int_equal(entry->index, i);
    }
    overlay_forget(&overlay, 20000);
    assert_int_equal(overlay.entry_count, 0);
    overlay_close(&overlay);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_growth),
    };
    return cmocka_run_group_tests_name("overlay", tests, NULL, NULL);
}
