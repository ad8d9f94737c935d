// SPDX-License-Identifier: Apache-2.0
// Keeps the record of roots `a`, `b` and `c` at the Consul whose address is given, as it is told
// line by line, and says what came of it, a line each:
//   read                          -> missing | record EPOCH LEADER SET GENERATION INDEX | failed
//   change INDEX EPOCH LEADER SET GENERATION          -> done | refused | unknown
// and `moved` whenever the watch has seen a change. SET is a mask.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/roots/keeper.h"

static const struct members names = {.count = 3,
                                     .all = {{.name = "a"}, {.name = "b"}, {.name = "c"}}};

static void on_read(void *owner, uint64_t ticket, const struct root_record *record, uint64_t index)
{
    (void)owner;
    (void)ticket;
    if (record == NULL) {
        puts("missing");
        return;
    }
    printf("record %" PRIu64 " %u %" PRIu32 " %" PRIu64 " %" PRIu64 "\n", record->leadership.epoch,
           record->leadership.leader, record->in_sync, record->generation, index);
}

static void on_failed(void *owner, uint64_t ticket)
{
    (void)owner;
    (void)ticket;
    puts("failed");
}

static void on_changed(void *owner, uint64_t ticket, int result)
{
    (void)owner;
    (void)ticket;
    puts(result == OK ? "done" : result == ERR_CONFLICT ? "refused" : "unknown");
}

static void on_moved(void *owner)
{
    (void)owner;
    puts("moved");
}

// False: the words are over.
static bool take_line(struct keeper *keeper)
{
    char line[128];
    struct root_record record = {0};
    uint64_t index;
    if (fgets(line, sizeof line, stdin) == NULL) {
        return false;
    }
    if (strcmp(line, "read\n") == 0) {
        keeper_read(keeper, 1);
    } else if (sscanf(line, "change %" SCNu64 " %" SCNu64 " %u %" SCNu32 " %" SCNu64, &index,
                      &record.leadership.epoch, &record.leadership.leader, &record.in_sync,
                      &record.generation) == 5 &&
               record.leadership.leader < names.count) {
        keeper_change(keeper, 2, &record, index);
    } else {
        fprintf(stderr, "not known: %s", line);
        return false;
    }
    return true;
}

int main(int count, char **words)
{
    static struct node_metrics metrics;
    struct consul_options options = {.given = true, .http = count == 2 ? words[1] : NULL};
    struct keeper_setup setup = {
        .scope = "main",
        .prefix = "qs/",
        .names = &names,
        .read = on_read,
        .failed = on_failed,
        .changed = on_changed,
        .moved = on_moved,
    };
    struct consul *consul;
    struct keeper keeper;
    const char *reason = "usage: keep ADDRESS";
    if (count != 2 || consul_open(&consul, &options, &metrics, &reason) != OK) {
        fprintf(stderr, "%s\n", reason);
        return 2;
    }
    setvbuf(stdin, NULL, _IONBF, 0); // so that poll tells of each line
    setvbuf(stdout, NULL, _IOLBF, 0);
    keeper_open(&keeper, &setup, consul);
    bool more = true;
    while (more) {
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
        (void)keeper_turn(&keeper, clock_mono_ns());
        consul_wait(consul, &input, 1, 500);
        more = input.revents == 0 || take_line(&keeper);
    }
    keeper_close(&keeper);
    consul_close(consul);
    return 0;
}
