// SPDX-License-Identifier: Apache-2.0
#include "bench/timing.h"

#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

#define NAME_BYTES 32 // of a made key, at most
#define CLOCK_LOOKS 10000

struct batch {
    uint64_t numbers[TIMING_BATCH];
    char names[TIMING_BATCH][NAME_BYTES];
    struct bytes keys[TIMING_BATCH];
    ssize_t sizes[TIMING_BATCH]; // the answers
    uint8_t *values;             // ... `room` bytes for each
    size_t room;
    uint8_t *right;
};

static void draw_keys(struct batch *batch, struct drive_keys *keys)
{
    for (size_t i = 0; i < TIMING_BATCH; i++) {
        batch->numbers[i] = drive_keys_next(keys);
        size_t size = pair_key(keys->pairs, batch->numbers[i], batch->names[i]);
        batch->keys[i] = bytes_of(batch->names[i], size);
    }
}

static void ask_together(const struct door *door, struct batch *batch, struct timing *timing)
{
    uint64_t began = clock_mono_ns();
    for (size_t i = 0; i < TIMING_BATCH; i++) {
        uint8_t *to = batch->values + i * batch->room;
        batch->sizes[i] = door->get(door->of, batch->keys[i], to, batch->room);
    }
    timing->batched_ns += clock_mono_ns() - began;
    timing->batched += TIMING_BATCH;
}

static void ask_singly(const struct door *door, struct batch *batch, struct timing *timing)
{
    for (size_t i = 0; i < TIMING_BATCH; i++) {
        uint8_t *to = batch->values + i * batch->room;
        uint64_t began = clock_mono_ns();
        batch->sizes[i] = door->get(door->of, batch->keys[i], to, batch->room);
        histogram_add(&timing->latency, clock_mono_ns() - began);
    }
}

static bool is_right(const struct timing_options *options, struct batch *batch, size_t at)
{
    const struct pairs *pairs = options->load->pairs;
    uint64_t number = batch->numbers[at];
    ssize_t size = batch->sizes[at];
    const uint8_t *got = batch->values + at * batch->room;
    if (number >= pairs->count || size < 0) {
        return number >= pairs->count && size == DOOR_ABSENT;
    }
    if (options->changing) {
        return pair_value_fits(pairs, number, bytes_of(got, (size_t)size));
    }
    size_t right = pair_value(pairs, number, 0, batch->right);
    return (size_t)size == right && memcmp(got, batch->right, right) == 0;
}

static bool compare(const struct timing_options *options, struct batch *batch,
                    struct timing *timing)
{
    for (size_t i = 0; i < TIMING_BATCH; i++) {
        timing->count++;
        if (!is_right(options, batch, i)) {
            timing->faults++;
            fprintf(stderr, "qs-bench: %s: wrong answer for key %llu\n", options->name,
                    (unsigned long long)batch->numbers[i]);
            return false;
        }
    }
    return true;
}

// Batches for so long, at least one.
static bool run_part(const struct door *door, const struct timing_options *options,
                     struct batch *batch, struct drive_keys *keys, bool singly,
                     struct timing *timing)
{
    uint64_t end = clock_mono_ns() + options->load->duration_ns / 2;
    bool fine = true;
    do {
        draw_keys(batch, keys);
        (singly ? ask_singly : ask_together)(door, batch, timing);
        fine = compare(options, batch, timing);
    } while (fine && clock_mono_ns() < end);
    return fine;
}

bool timing_run(const struct door *door, const struct timing_options *options,
                struct timing *timing)
{
    const struct drive_options *load = options->load;
    CHECK(load->pairs->options.file == NULL);
    struct batch *batch = mem_zalloc(sizeof *batch);
    batch->room = load->pairs->options.value_bytes;
    batch->values = mem_alloc(TIMING_BATCH * batch->room);
    batch->right = mem_alloc(batch->room);
    struct drive_keys keys;
    drive_keys_open(&keys, load);
    bool fine = run_part(door, options, batch, &keys, false, timing) &&
                run_part(door, options, batch, &keys, true, timing);
    mem_free(batch->values);
    mem_free(batch->right);
    mem_free(batch);
    return fine;
}

uint64_t timing_clock_ns(void)
{
    struct histogram *looks = mem_zalloc(sizeof *looks);
    for (unsigned i = 0; i < CLOCK_LOOKS; i++) {
        uint64_t began = clock_mono_ns();
        histogram_add(looks, clock_mono_ns() - began);
    }
    uint64_t ns = histogram_ns(looks, 0.5);
    mem_free(looks);
    return ns;
}
