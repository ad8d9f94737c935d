// SPDX-License-Identifier: Apache-2.0
#include "bench/drive.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench/conn.h"
#include "bench/interrupt.h"
#include "bench/lookups.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define READ_BYTES (64 * KIB)
#define DRAIN_NS (10 * NS_PER_S)
#define WAITING_MAX 16384 // of one connection; beyond it the server has lost
#define CLOSED_WAIT_MS 1000

struct asked {
    uint64_t number, due_ns;
};

// A connection and what it still has to answer, a ring in the order of asking.
struct lane {
    struct conn conn;
    struct asked *asked;
    unsigned first, count;
    size_t matched; // bytes of the first one's answer that have come
};

struct drive {
    const struct drive_options *options;
    struct drive_result *result;
    struct drive_keys keys;
    struct lane lanes[DRIVE_CONNECTIONS_MAX];
    int epoll;
    unsigned turn;
    uint64_t waiting;
    uint64_t began_ns, now_ns, end_ns;
    struct buf constant; // the right answer, where it is the same for all
    struct buf expected; // ... and of one key
    uint8_t *value, *bytes;
};

// ---- the sequence -------------------------------------------------------------------------------

void drive_keys_open(struct drive_keys *keys, const struct drive_options *options)
{
    *keys = (struct drive_keys){
        .draw = {.state = draw_mix(options->seed)},
        .what = options->what,
        .pairs = options->pairs,
        .zipf = options->zipf,
    };
}

uint64_t drive_keys_next(struct drive_keys *keys)
{
    enum drive_what what = keys->what;
    if (what == DRIVE_MIXED) {
        bool present = draw_below(&keys->draw, ABSENT_PER_PRESENT + 1) == 0;
        what = present ? DRIVE_PRESENT : DRIVE_ABSENT;
    }
    switch (what) {
    case DRIVE_PRESENT:
        return zipf_draw(keys->zipf, &keys->draw);
    case DRIVE_ABSENT_ZIPF:
        return keys->pairs->count + zipf_draw(keys->zipf, &keys->draw);
    case DRIVE_STORE:
        return keys->next++;
    default:
        return keys->pairs->count + draw_below(&keys->draw, ABSENT_SPACE * keys->pairs->count);
    }
}

static bool all_sent(const struct drive *drive)
{
    if (interrupted()) {
        return true;
    }
    return drive->options->what == DRIVE_STORE ? drive->keys.next >= drive->options->pairs->count
                                               : drive->now_ns >= drive->end_ns;
}

// ---- asking -------------------------------------------------------------------------------------

static void fault(struct drive *drive, const char *what, uint64_t number, struct bytes got)
{
    struct buf text = {0};
    buf_format(&text, "%s: %s for key %llu: ", drive->options->socket, what,
               (unsigned long long)number);
    buf_append_printable(&text, got);
    if (drive->result->fault[0] == '\0') {
        snprintf(drive->result->fault, sizeof drive->result->fault, "%.*s", (int)text.size,
                 (const char *)text.data);
    }
    buf_free(&text);
}

// A lane that fails loses what it was asked, and is asked nothing more.
static void lane_lose(struct drive *drive, struct lane *lane)
{
    if (lane->conn.open && lane->count > 0) {
        fault(drive, "no right answer", lane->asked[lane->first].number, bytes_of(NULL, 0));
    }
    drive->result->faults += lane->count;
    drive->waiting -= lane->count;
    lane->count = 0;
    conn_close(&lane->conn);
}

static void lane_ask(struct drive *drive, struct lane *lane, uint64_t due_ns)
{
    const struct drive_options *options = drive->options;
    uint64_t number = drive_keys_next(&drive->keys);
    if (!lane->conn.open || lane->count == WAITING_MAX) {
        drive->result->faults++;
        fault(drive, "not asked", number, bytes_of(NULL, 0));
        return;
    }
    char name[PAIR_KEY_BYTES_MAX];
    struct bytes key = bytes_of(name, pair_key(options->pairs, number, name));
    if (options->what == DRIVE_STORE) {
        size_t size = pair_value(options->pairs, number, 0, drive->value);
        dialect_set(options->dialect, &lane->conn.out, key, bytes_of(drive->value, size));
    } else {
        dialect_get(options->dialect, &lane->conn.out, key);
    }
    unsigned last = (lane->first + lane->count) % WAITING_MAX;
    lane->asked[last] = (struct asked){.number = number, .due_ns = due_ns};
    lane->count++;
    drive->waiting++;
}

// The next `depth` of a closed loop, at once. They are few: the kernel takes them, soon if not now.
static void lane_refill(struct drive *drive, struct lane *lane)
{
    for (unsigned i = 0; i < drive->options->depth && !all_sent(drive); i++) {
        lane_ask(drive, lane, drive->now_ns);
    }
    bool fine = conn_flush(&lane->conn);
    while (fine && conn_unsent(&lane->conn)) {
        struct pollfd room = {.fd = lane->conn.fd, .events = POLLOUT};
        fine = poll(&room, 1, CLOSED_WAIT_MS) == 1 && conn_flush(&lane->conn);
    }
    if (!fine) {
        lane_lose(drive, lane);
    }
}

// ---- answers ------------------------------------------------------------------------------------

static struct bytes right_answer(struct drive *drive, uint64_t number)
{
    const struct drive_options *options = drive->options;
    if (options->what == DRIVE_STORE || number >= options->pairs->count) {
        return buf_bytes(&drive->constant);
    }
    char name[PAIR_KEY_BYTES_MAX];
    struct bytes key = bytes_of(name, pair_key(options->pairs, number, name));
    size_t size = pair_value(options->pairs, number, 0, drive->value);
    buf_clear(&drive->expected);
    dialect_found(options->dialect, &drive->expected, key, bytes_of(drive->value, size));
    return buf_bytes(&drive->expected);
}

static void answered(struct drive *drive, struct lane *lane)
{
    const struct asked *asked = &lane->asked[lane->first];
    struct drive_result *result = drive->result;
    result->count++;
    result->took_ns = drive->now_ns - drive->began_ns;
    if (drive->options->rate > 0) {
        histogram_add(&result->latency,
                      drive->now_ns > asked->due_ns ? drive->now_ns - asked->due_ns : 0);
    }
    lane->matched = 0;
    lane->first = (lane->first + 1) % WAITING_MAX;
    lane->count--;
    drive->waiting--;
}

// False: these are not the bytes that had to come.
static bool lane_match(struct drive *drive, struct lane *lane, struct bytes got)
{
    while (got.size > 0) {
        if (lane->count == 0) {
            drive->result->faults++;
            fault(drive, "an answer too many", 0, got);
            return false;
        }
        uint64_t number = lane->asked[lane->first].number;
        struct bytes right = right_answer(drive, number);
        size_t size = u64_min(right.size - lane->matched, got.size);
        if (memcmp(right.data + lane->matched, got.data, size) != 0) {
            fault(drive, "wrong answer", number, got);
            return false;
        }
        lane->matched += size;
        got = bytes_of(got.data + size, got.size - size);
        if (lane->matched == right.size) {
            answered(drive, lane);
        }
    }
    return true;
}

static void lane_read(struct drive *drive, struct lane *lane)
{
    if (!lane->conn.open) {
        return;
    }
    ssize_t size = recv(lane->conn.fd, drive->bytes, READ_BYTES, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    drive->now_ns = clock_mono_ns();
    if (size <= 0 || !lane_match(drive, lane, bytes_of(drive->bytes, (size_t)size))) {
        lane_lose(drive, lane);
    } else if (drive->options->rate == 0 && lane->count == 0 && !all_sent(drive)) {
        lane_refill(drive, lane);
    }
}

// Waits for answers, at most until then, and takes what has come.
static void take(struct drive *drive, uint64_t until_ns)
{
    struct epoll_event events[DRIVE_CONNECTIONS_MAX];
    drive->now_ns = clock_mono_ns();
    uint64_t left = until_ns > drive->now_ns ? until_ns - drive->now_ns : 0;
    struct timespec limit = {
        .tv_sec = (time_t)(left / NS_PER_S),
        .tv_nsec = (long)(left % NS_PER_S),
    };
    int count = epoll_pwait2(drive->epoll, events, ARRAY_LEN(events), &limit, NULL);
    for (int i = 0; i < count; i++) {
        lane_read(drive, &drive->lanes[events[i].data.u32]);
    }
    drive->now_ns = clock_mono_ns();
}

// ---- the two loops ------------------------------------------------------------------------------

static void run_closed(struct drive *drive)
{
    for (unsigned i = 0; i < drive->options->connections; i++) {
        lane_refill(drive, &drive->lanes[i]);
    }
    uint64_t last_ns = drive->now_ns;
    for (uint64_t answers = 0; drive->waiting > 0 && drive->now_ns < last_ns + DRAIN_NS;) {
        take(drive, drive->now_ns + CLOSED_WAIT_MS * NS_PER_MS);
        last_ns = drive->result->count > answers ? drive->now_ns : last_ns;
        answers = drive->result->count;
    }
}

static void flush_all(struct drive *drive)
{
    for (unsigned i = 0; i < drive->options->connections; i++) {
        struct lane *lane = &drive->lanes[i];
        if (lane->conn.open && conn_unsent(&lane->conn) && !conn_flush(&lane->conn)) {
            lane_lose(drive, lane);
        }
    }
}

static void run_open(struct drive *drive)
{
    const struct drive_options *options = drive->options;
    uint64_t total = (uint64_t)((double)options->duration_ns / 1e9 * (double)options->rate);
    uint64_t due_ns = drive->began_ns;
    for (uint64_t sent = 0; sent < total;) {
        for (; sent < total && due_ns <= drive->now_ns; sent++) {
            lane_ask(drive, &drive->lanes[drive->turn], due_ns);
            drive->turn = (drive->turn + 1) % options->connections;
            due_ns = drive->began_ns + (sent + 1) * NS_PER_S / options->rate;
        }
        flush_all(drive);
        take(drive, due_ns);
    }
    uint64_t end_ns = drive->now_ns + DRAIN_NS;
    while (drive->waiting > 0 && drive->now_ns < end_ns) {
        flush_all(drive);
        take(drive, drive->now_ns + NS_PER_MS);
    }
}

// ---- all of it ----------------------------------------------------------------------------------

static bool open_lanes(struct drive *drive)
{
    CHECK(drive->options->connections <= DRIVE_CONNECTIONS_MAX);
    CHECK(drive->options->depth <= DRIVE_DEPTH_MAX);
    drive->epoll = epoll_create1(EPOLL_CLOEXEC);
    CHECK(drive->epoll >= 0);
    for (unsigned i = 0; i < drive->options->connections; i++) {
        struct lane *lane = &drive->lanes[i];
        lane->asked = mem_alloc(WAITING_MAX * sizeof *lane->asked);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        if (!conn_open(&lane->conn, drive->options->socket) ||
            epoll_ctl(drive->epoll, EPOLL_CTL_ADD, lane->conn.fd, &event) != 0) {
            return false;
        }
    }
    return true;
}

static void close_all(struct drive *drive)
{
    for (unsigned i = 0; i < drive->options->connections; i++) {
        lane_lose(drive, &drive->lanes[i]);
        mem_free(drive->lanes[i].asked);
    }
    close(drive->epoll);
    buf_free(&drive->constant);
    buf_free(&drive->expected);
    mem_free(drive->value);
    mem_free(drive->bytes);
}

bool drive_run(const struct drive_options *options, struct drive_result *result)
{
    struct drive *drive = mem_zalloc(sizeof *drive);
    drive->options = options;
    drive->result = result;
    drive->value = mem_alloc(PAIR_VALUE_BYTES_MAX);
    drive->bytes = mem_alloc(READ_BYTES);
    drive_keys_open(&drive->keys, options);
    if (options->what == DRIVE_STORE) {
        dialect_stored(options->dialect, &drive->constant);
    } else {
        dialect_absent(options->dialect, &drive->constant);
    }
    bool opened = open_lanes(drive);
    drive->began_ns = drive->now_ns = clock_mono_ns();
    drive->end_ns = drive->began_ns + options->duration_ns;
    if (opened) {
        (options->rate > 0 ? run_open : run_closed)(drive);
    }
    close_all(drive);
    mem_free(drive);
    return opened && result->faults == 0;
}
