// SPDX-License-Identifier: Apache-2.0
// Single keys and ranges: get, put, del, mget, range, export. Values go out as they are (get) or
// as TSV fields, so that bytes survive a shell.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "common/base/mem.h"
#include "common/data/limits.h"
#include "common/wire/import_text.h"
#include "qs/cli/cli.h"

#define RANGE_LIMIT 1000
#define PAGE_KEYS 1000
#define WAIT_MS "10000"
#define PRINT_BYTES (256 * KIB)

// "value": ..., "version": n, "index": n of the reply to QS.GET.
static void append_record(struct buf *to, struct bytes key, redisReply *const *parts)
{
    bool found = parts[0]->type == REDIS_REPLY_STRING;
    buf_append_text(to, "{");
    export_json_member(to, "key", key);
    buf_format(to, ", \"found\": %s", found ? "true" : "false");
    if (found) {
        buf_append_text(to, ", ");
        export_json_member(to, "value", reply_bytes(parts[0]));
    }
    buf_format(to, ", \"version\": %lld, \"index\": %lld}\n", parts[1]->integer, parts[2]->integer);
}

static bool is_record(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 &&
           reply->element[1]->type == REDIS_REPLY_INTEGER &&
           reply->element[2]->type == REDIS_REPLY_INTEGER;
}

static int strange_reply(redisReply *reply)
{
    cli_error("the server answered something else than expected; is it qs?");
    freeReplyObject(reply);
    return EXIT_ERROR;
}

// The words of a get, as of an index or not before one. Their number; 0: usage was printed.
static size_t get_words(struct cli *cli, struct bytes words[5])
{
    const char *at = cli_option(cli, "--at");
    const char *least = cli_option(cli, "--min-index");
    const char *wait = cli_option(cli, "--wait");
    if (!cli_words_fit(cli, 1, 1)) {
        return 0;
    }
    if ((at != NULL && least != NULL) || (wait != NULL && least == NULL)) {
        cli_usage(cli, "--at stands alone, --wait belongs to --min-index");
        return 0;
    }
    words[0] = bytes_text(at != NULL ? "QS.GETAT" : "QS.GET");
    words[1] = bytes_text(cli->words[0]);
    words[2] = bytes_text(at != NULL ? at : "MININDEX");
    words[3] = bytes_text(least != NULL ? least : "");
    words[4] = bytes_text(wait != NULL ? wait : WAIT_MS);
    return at != NULL ? 3 : least != NULL ? 5 : 2;
}

int run_get(struct cli *cli)
{
    struct bytes words[5];
    size_t count = get_words(cli, words);
    if (count == 0) {
        return EXIT_USAGE;
    }
    redisReply *reply = cli_connect(cli) ? cli_call(cli, count, words) : NULL;
    if (reply == NULL) {
        return EXIT_ERROR;
    }
    if (!is_record(reply)) {
        return strange_reply(reply);
    }
    struct buf text = {0};
    bool found = reply->element[0]->type == REDIS_REPLY_STRING;
    if (cli->json) {
        append_record(&text, words[1], reply->element);
    } else if (found) {
        buf_append_bytes(&text, reply_bytes(reply->element[0]));
        buf_append_text(&text, "\n");
    }
    freeReplyObject(reply);
    return cli_finish(&text, found ? EXIT_FOUND : EXIT_ABSENT);
}

// Reads standard input whole, at most one value's worth.
static bool read_value(struct buf *value)
{
    size_t got = 1;
    while (got > 0 && value->size <= VALUE_BYTES_MAX) {
        got = fread(buf_reserve(value, 65536), 1, 65536, stdin);
        buf_commit(value, got);
    }
    if (ferror(stdin)) {
        cli_error("cannot read standard input: %s", strerror(errno));
        return false;
    }
    if (value->size > VALUE_BYTES_MAX) {
        cli_error("the value on standard input is larger than %llu bytes",
                  (unsigned long long)VALUE_BYTES_MAX);
        return false;
    }
    return true;
}

// Sends a write whose answer is an index, and prints that.
static int write_and_print(struct cli *cli, size_t count, const struct bytes *words)
{
    redisReply *reply = cli_connect(cli) ? cli_call(cli, count, words) : NULL;
    if (reply == NULL) {
        return EXIT_ERROR;
    }
    if (reply->type != REDIS_REPLY_INTEGER) {
        return strange_reply(reply);
    }
    struct buf text = {0};
    buf_format(&text, cli->json ? "{\"index\": %lld}\n" : "%lld\n", reply->integer);
    freeReplyObject(reply);
    return cli_finish(&text, EXIT_FOUND);
}

int run_put(struct cli *cli)
{
    if (!cli_words_fit(cli, 1, 2)) {
        return EXIT_USAGE;
    }
    struct buf value = {0};
    if (cli->count == 2) {
        buf_append_text(&value, cli->words[1]);
    } else if (!read_value(&value)) {
        return EXIT_ERROR;
    }
    struct bytes words[] = {bytes_text("QS.PUT"), bytes_text(cli->words[0]),
                            value.size == 0 ? bytes_text("") : buf_bytes(&value)};
    int code = write_and_print(cli, 3, words);
    buf_free(&value);
    return code;
}

// A command's name and all words behind it; freed by the caller.
static struct bytes *all_words(struct cli *cli, const char *name)
{
    struct bytes *words = mem_alloc(((size_t)cli->count + 1) * sizeof *words);
    words[0] = bytes_text(name);
    for (int i = 0; i < cli->count; i++) {
        words[i + 1] = bytes_text(cli->words[i]);
    }
    return words;
}

int run_del(struct cli *cli)
{
    if (!cli_words_fit(cli, 1, BATCH_ENTRIES_MAX)) {
        return EXIT_USAGE;
    }
    struct bytes *words = all_words(cli, "QS.DELETE");
    int code = write_and_print(cli, (size_t)cli->count + 1, words);
    mem_free(words);
    return code;
}

static int print_values(struct cli *cli, const redisReply *reply)
{
    struct buf text = {0};
    int code = EXIT_FOUND;
    for (int i = 0; i < cli->count; i++) {
        struct bytes key = bytes_text(cli->words[i]);
        redisReply *each = reply->element[i];
        if (cli->json) {
            append_record(&text, key, each->element);
            each = each->element[0];
        } else if (each->type == REDIS_REPLY_STRING) {
            export_tsv(&text, key, reply_bytes(each));
        } else {
            export_tsv_field(&text, key);
            buf_append_text(&text, "\n");
        }
        code = each->type == REDIS_REPLY_STRING ? code : EXIT_ABSENT;
    }
    return cli_finish(&text, code);
}

int run_mget(struct cli *cli)
{
    if (!cli_words_fit(cli, 1, BATCH_ENTRIES_MAX)) {
        return EXIT_USAGE;
    }
    struct bytes *words = all_words(cli, cli->json ? "QS.MGET" : "MGET");
    redisReply *reply = cli_connect(cli) ? cli_call(cli, (size_t)cli->count + 1, words) : NULL;
    mem_free(words);
    if (reply == NULL) {
        return EXIT_ERROR;
    }
    bool fits = reply->type == REDIS_REPLY_ARRAY && reply->elements == (size_t)cli->count;
    for (size_t i = 0; fits && cli->json && i < reply->elements; i++) {
        fits = is_record(reply->element[i]);
    }
    if (!fits) {
        return strange_reply(reply);
    }
    int code = print_values(cli, reply);
    freeReplyObject(reply);
    return code;
}

// QS.RANGE start end LIMIT n [AT index]: an array of key, value, key, value...
static redisReply *call_range(struct cli *cli, struct bytes start, struct bytes end, uint64_t limit,
                              const char *at)
{
    char number[24];
    snprintf(number, sizeof number, "%" PRIu64, limit);
    struct bytes words[] = {bytes_text("QS.RANGE"), start, end, bytes_text("LIMIT"),
                            bytes_text(number), bytes_text("AT"),
                            bytes_text(at != NULL ? at : "")};
    return cli_call_any(cli, ARRAY_LEN(words) - (at != NULL ? 0 : 2), words);
}

static bool is_page(const redisReply *reply)
{
    bool fits = reply->type == REDIS_REPLY_ARRAY && reply->elements % 2 == 0;
    for (size_t i = 0; fits && i < reply->elements; i++) {
        fits = reply->element[i]->type == REDIS_REPLY_STRING;
    }
    return fits;
}

static void append_page(struct cli *cli, struct buf *to, const redisReply *reply)
{
    for (size_t i = 0; i < reply->elements; i += 2) {
        struct bytes key = reply_bytes(reply->element[i]),
                     value = reply_bytes(reply->element[i + 1]);
        if (cli->json) {
            export_jsonl(to, key, value);
        } else {
            export_tsv(to, key, value);
        }
    }
}

int run_range(struct cli *cli)
{
    uint64_t limit;
    const char *at = cli_option(cli, "--at");
    if (!cli_number(cli, "--limit", RANGE_LIMIT, &limit) || !cli_words_fit(cli, 2, 2)) {
        return EXIT_USAGE;
    }
    if (!cli_connect(cli)) {
        return EXIT_ERROR;
    }
    redisReply *reply =
        call_range(cli, bytes_text(cli->words[0]), bytes_text(cli->words[1]), limit, at);
    if (reply == NULL) {
        return EXIT_ERROR;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        cli_say_reply_error(reply);
        freeReplyObject(reply);
        return EXIT_ERROR;
    }
    if (!is_page(reply)) {
        return strange_reply(reply);
    }
    struct buf text = {0};
    append_page(cli, &text, reply);
    int code = reply->elements == 0 ? EXIT_ABSENT : EXIT_FOUND;
    freeReplyObject(reply);
    return cli_finish(&text, code);
}

// ---- export -----------------------------------------------------------------------------------

struct exporting {
    struct cli *cli;
    FILE *to;
    struct buf start; // where the next page begins
    uint64_t page;    // keys
    uint64_t pairs, bytes;
    bool more;
};

static bool write_page(struct exporting *exporting, const redisReply *reply)
{
    struct buf text = {0};
    append_page(exporting->cli, &text, reply);
    bool fine = text.size == 0 || fwrite(text.data, 1, text.size, exporting->to) == text.size;
    if (!fine) {
        cli_error("cannot write: %s", strerror(errno));
    }
    exporting->pairs += reply->elements / 2;
    exporting->bytes += text.size;
    buf_free(&text);
    return fine;
}

// A page too large for one reply is asked for again in halves.
static bool too_large(struct exporting *exporting, const redisReply *reply)
{
    if (exporting->page > 1 && strstr(reply->str, "reply_bytes") != NULL) {
        exporting->page /= 2;
        return true;
    }
    cli_say_reply_error(reply);
    return false;
}

static bool export_page(struct exporting *exporting)
{
    struct bytes start =
        exporting->start.size == 0 ? bytes_text("") : buf_bytes(&exporting->start);
    redisReply *reply = call_range(exporting->cli, start, bytes_text(""), exporting->page, NULL);
    if (reply == NULL) {
        return false;
    }
    bool fine;
    if (reply->type == REDIS_REPLY_ERROR) {
        fine = too_large(exporting, reply);
    } else if (!is_page(reply)) {
        strange_reply(reply);
        return false;
    } else {
        exporting->more = reply->elements > 0;
        fine = write_page(exporting, reply);
        if (exporting->more) { // behind the last key: that key and a zero byte
            buf_clear(&exporting->start);
            buf_append_bytes(&exporting->start, reply_bytes(reply->element[reply->elements - 2]));
            buf_append(&exporting->start, "", 1);
        }
    }
    freeReplyObject(reply);
    return fine;
}

int run_export(struct cli *cli)
{
    uint64_t page;
    if (!cli_number(cli, "--page", PAGE_KEYS, &page) || !cli_words_fit(cli, 0, 1)) {
        return EXIT_USAGE;
    }
    if (!cli_connect(cli)) {
        return EXIT_ERROR;
    }
    const char *path = cli->count == 1 && strcmp(cli->words[0], "-") != 0 ? cli->words[0] : NULL;
    struct exporting exporting = {.cli = cli, .page = u64_max(page, 1), .more = true};
    exporting.to = path == NULL ? stdout : fopen(path, "we");
    if (exporting.to == NULL) {
        cli_error("%s: %s", path, strerror(errno));
        return EXIT_ERROR;
    }
    bool fine = true;
    while (fine && exporting.more) {
        fine = export_page(&exporting);
    }
    if ((path == NULL ? fflush(exporting.to) : fclose(exporting.to)) != 0 && fine) {
        cli_error("cannot write: %s", strerror(errno));
        fine = false;
    }
    buf_free(&exporting.start);
    fprintf(stderr, "qs: %" PRIu64 " pairs, %" PRIu64 " bytes%s\n", exporting.pairs,
            exporting.bytes, fine ? "" : "; not complete");
    return fine ? EXIT_FOUND : EXIT_ERROR;
}
