// SPDX-License-Identifier: Apache-2.0
// promote: asks a root to lead, and looks until it does, or says that it will not. One that leads
// already is done, whatever was to be accepted.
#include <jansson.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "qs/cli/cli.h"

#define WAIT_MS 30000
#define PAUSE_NS (50 * NS_PER_MS)

// What the root says of itself; NULL: said why not.
static json_t *look(struct cli *cli)
{
    struct bytes words[] = {bytes_text("QS.TREE")};
    redisReply *reply = cli_call(cli, 1, words);
    if (reply == NULL) {
        return NULL;
    }
    json_error_t error;
    struct bytes text = reply_bytes(reply);
    json_t *tree = json_loadb((const char *)text.data, text.size, 0, &error);
    json_t *roots = json_incref(json_object_get(tree, "roots"));
    json_decref(tree);
    freeReplyObject(reply);
    if (!json_is_object(roots)) {
        json_decref(roots);
        cli_error("the answer to QS.TREE says nothing of roots");
        return NULL;
    }
    return roots;
}

// `alone`: also while no writes are taken, for want of others.
static bool leads(json_t *roots, bool alone)
{
    const char *part = json_string_value(json_object_get(roots, "part"));
    bool leader = part != NULL && strcmp(part, "leader") == 0;
    return leader && (alone || json_is_null(json_object_get(roots, "no_writes")));
}

static void say_why_not(json_t *roots)
{
    const char *reason = json_string_value(json_object_get(roots, "no_writes"));
    if (reason != NULL) {
        cli_error("it leads; no writes are taken yet: %s", reason);
    }
}

// One look; true: `ret_code` is how it has ended.
static bool look_once(struct cli *cli, json_int_t asked, bool alone, int *ret_code)
{
    json_t *roots = look(cli);
    bool seen = json_integer_value(json_object_get(roots, "asked")) > asked;
    const char *refused = json_string_value(json_object_get(roots, "refused"));
    bool over = true;
    if (roots == NULL) {
        *ret_code = EXIT_ERROR;
    } else if (leads(roots, alone)) {
        say_why_not(roots);
        *ret_code = EXIT_FOUND;
    } else if (seen && refused != NULL) {
        cli_error("refused: %s", refused);
        *ret_code = EXIT_ERROR;
    } else {
        over = false;
    }
    json_decref(roots);
    return over;
}

static int wait_for_it(struct cli *cli, json_int_t asked, bool alone, uint64_t wait_ms)
{
    uint64_t until_ns = clock_mono_ns() + wait_ms * NS_PER_MS;
    int code;
    while (!look_once(cli, asked, alone, &code)) {
        if (clock_mono_ns() >= until_ns) {
            cli_error("it does not lead yet; QS.TREE says how things stand");
            return EXIT_ABSENT;
        }
        clock_sleep_ns(PAUSE_NS);
    }
    return code;
}

int run_promote(struct cli *cli)
{
    uint64_t wait_ms;
    const char *loss = cli_option(cli, "--accept-loss");
    if (!cli_number(cli, "--wait", WAIT_MS, &wait_ms) || !cli_words_fit(cli, 0, 0)) {
        return EXIT_USAGE;
    }
    if (!cli_connect(cli)) {
        return EXIT_ERROR;
    }
    json_t *roots = look(cli);
    if (roots == NULL) {
        return EXIT_ERROR;
    }
    json_int_t asked = json_integer_value(json_object_get(roots, "asked"));
    bool done = leads(roots, loss != NULL);
    json_decref(roots);
    if (done) {
        return EXIT_FOUND;
    }
    struct bytes words[] = {bytes_text("QS.PROMOTE"), bytes_text("ACCEPT-LOSS"),
                            bytes_text(loss != NULL ? loss : "")};
    redisReply *reply = cli_call(cli, loss != NULL ? 3 : 1, words);
    if (reply == NULL) {
        return EXIT_ERROR;
    }
    freeReplyObject(reply);
    return wait_for_it(cli, asked, loss != NULL, wait_ms);
}
