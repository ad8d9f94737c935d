// SPDX-License-Identifier: Apache-2.0
#include "bench/peers.h"

#include <stdio.h>
#include <sys/prctl.h>
#include <sys/utsname.h>

#include "bench/interrupt.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

static const struct {
    const char *name;
    bool staged; // on the servers of the stage
    bool (*run)(struct peers *peers);
} sections[] = {
    {"sockets", true, peers_sockets},
    {"engines", true, peers_engines},
    {"writers", false, peers_writers},
    {"hops", false, peers_hops},
    {"children", false, peers_children},
    {"apply", false, peers_apply},
};

size_t peers_turn(uint64_t round, size_t turn, size_t count)
{
    CHECK(turn < count);
    return round % 2 == 0 ? turn : count - 1 - turn;
}

static bool is_asked(const struct peers_options *options, const char *name)
{
    bool asked = options->section_count == 0;
    for (size_t i = 0; i < options->section_count; i++) {
        asked = asked || strcmp(options->sections[i], name) == 0;
    }
    return asked;
}

static bool all_known(const struct peers_options *options)
{
    for (size_t i = 0; i < options->section_count; i++) {
        bool known = false;
        for (size_t j = 0; j < ARRAY_LEN(sections); j++) {
            known = known || strcmp(options->sections[i], sections[j].name) == 0;
        }
        if (!known) {
            fprintf(stderr, "qs-bench: --section: there is no '%s'\n", options->sections[i]);
            return false;
        }
    }
    return true;
}

static void note_set_up(struct peers *peers)
{
    const struct peers_options *options = peers->options;
    struct utsname system;
    char *pairs = pairs_text(options->pairs);
    sheet_note(&peers->sheet, mem_format("%s, every answer compared byte for byte", pairs));
    unsigned long long rounds = options->rounds, run_ms = options->run_ms;
    sheet_note(&peers->sheet,
               mem_format("%llu rounds, %llu ms of each side in a round, every other round in the "
                          "other order",
                          rounds, run_ms));
    sheet_note(&peers->sheet,
               mem_format("%u cores; Linux %s", peers->cores.count,
                          uname(&system) == 0 ? system.release : "?"));
    mem_free(pairs);
}

// The stage stays while sections need it.
static bool run_section(struct peers *peers, size_t at)
{
    uint64_t began = clock_mono_ns();
    peers->loading_ns = 0;
    fprintf(stderr, "qs-bench: %s\n", sections[at].name);
    bool fine = (sections[at].staged || peers_stage_close(peers)) && sections[at].run(peers);
    cores_free_self(&peers->cores);
    fprintf(stderr, "qs-bench: %s: %.0f s, %.0f of them loading\n", sections[at].name,
            (double)(clock_mono_ns() - began) / 1e9, (double)peers->loading_ns / 1e9);
    return fine && !interrupted();
}

static bool run_sections(struct peers *peers)
{
    bool fine = true;
    for (size_t i = 0; fine && i < ARRAY_LEN(sections); i++) {
        fine = !is_asked(peers->options, sections[i].name) || run_section(peers, i);
    }
    return peers_stage_close(peers) && fine;
}

int peers_run(const struct peers_options *options)
{
    if (!all_known(options)) {
        return 2;
    }
    interrupt_catch();
    prctl(PR_SET_TIMERSLACK, 1); // ns: what is due is not put off to save wake-ups
    struct peers *peers = mem_zalloc(sizeof *peers);
    peers->options = options;
    peers->sheet.title = "qs beside its peers";
    cores_open(&peers->cores);
    zipf_open(&peers->zipf, options->pairs->count);
    printf("qs-bench peers: qs beside its peers\n");
    note_set_up(peers);
    uint64_t began = clock_mono_ns();
    bool fine = run_sections(peers);
    if (fine && options->out != NULL) {
        fine = sheet_write_json(&peers->sheet, options->out, options->name) &&
               sheet_write_picture(&peers->sheet, options->out, options->name);
    }
    if (interrupted()) {
        fprintf(stderr, "qs-bench: interrupted\n");
    }
    sheet_print_claims(&peers->sheet);
    printf("%llu answers compared, %llu wrong, missing or errors; %.0f s\n",
           (unsigned long long)peers->answers, (unsigned long long)peers->faults,
           (double)(clock_mono_ns() - began) / 1e9);
    fine = fine && peers->faults == 0;
    sheet_close(&peers->sheet);
    mem_free(peers);
    return fine ? 0 : 1;
}
