// SPDX-License-Identifier: Apache-2.0
// `qs import`: options, opening, and what is said at the end. The work is in import_pump.c.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/data/limits.h"
#include "qs/cli/import.h"

static const struct resp_limits limits = {
    .request_bytes = IMPORT_LINE_BYTES, .words_max = 1048576, .inline_max = 65536};

// Options; the exit code, or EXIT_FOUND to go on.
static int read_options(struct importing *importing, bool *ret_resume)
{
    struct cli *cli = importing->cli;
    *ret_resume = cli_flag(cli, "--resume");
    importing->skip_bad = cli_flag(cli, "--skip-bad");
    importing->progress = cli_flag(cli, "--progress");
    importing->tty = isatty(STDERR_FILENO) != 0;
    const char *format = cli_option(cli, "--format");
    if (format != NULL && !import_format_of(format, &importing->format)) {
        return cli_usage(cli, "there is no format '%s'", format);
    }
    if (!cli_number(cli, "--batch", 0, &importing->batch) ||
        !cli_number(cli, "--from-offset", 0, &importing->started.offset) ||
        !cli_words_fit(cli, 1, 1)) {
        return EXIT_USAGE;
    }
    if (importing->batch > BATCH_ENTRIES_MAX) {
        return cli_usage(cli, "--batch takes at most %u", BATCH_ENTRIES_MAX);
    }
    importing->path = cli->words[0];
    return EXIT_FOUND;
}

static bool open_input(struct importing *importing, bool resume)
{
    bool standard = strcmp(importing->path, "-") == 0;
    importing->fd = standard ? STDIN_FILENO : open(importing->path, O_RDONLY | O_CLOEXEC);
    if (importing->fd < 0 || fstat(importing->fd, &importing->status) != 0) {
        cli_error("%s: %s", importing->path, strerror(errno));
        return false;
    }
    if (S_ISDIR(importing->status.st_mode)) {
        cli_error("%s is a directory", importing->path);
        return false;
    }
    importing->regular = !standard && S_ISREG(importing->status.st_mode);
    if (resume && !import_recall(importing)) {
        return false;
    }
    off_t offset = (off_t)importing->started.offset;
    if (offset > 0 && (!importing->regular || lseek(importing->fd, offset, SEEK_SET) != offset)) {
        cli_error("%s: cannot begin at byte %lld", importing->path, (long long)offset);
        return false;
    }
    importing->read = importing->finished = importing->acknowledged = importing->started;
    return true;
}

// The index that everything acknowledged is visible at.
static void ask_index(struct importing *importing)
{
    struct bytes words[] = {bytes_text("QS.INDEX")};
    redisReply *reply = importing->last_index == 0 ? cli_call(importing->cli, 1, words) : NULL;
    if (reply != NULL) {
        importing->last_index = reply->type == REDIS_REPLY_INTEGER ? (uint64_t)reply->integer : 0;
        freeReplyObject(reply);
    }
}

static int report(struct importing *importing)
{
    uint64_t pairs = importing->acknowledged.pairs - importing->started.pairs;
    uint64_t bytes = importing->acknowledged.offset - importing->started.offset;
    double seconds = (double)(clock_mono_ns() - importing->start_ns) / (double)NS_PER_S;
    double rate = seconds > 0 ? (double)pairs / seconds : 0;
    struct buf text = {0};
    if (importing->cli->json) {
        buf_format(&text,
                   "{\"pairs\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"seconds\": %.3f, "
                   "\"pairs_per_second\": %.0f, \"bad\": %" PRIu64 ", \"index\": %" PRIu64
                   ", \"offset\": %" PRIu64 ", \"complete\": %s}\n",
                   pairs, bytes, seconds, rate, importing->bad_lines, importing->last_index,
                   importing->acknowledged.offset, importing->failure == NULL ? "true" : "false");
    } else {
        append_count(&text, pairs);
        buf_append_text(&text, " pairs, ");
        append_count(&text, bytes);
        buf_format(&text, " bytes, %.2f s, ", seconds);
        append_count(&text, (uint64_t)rate);
        buf_format(&text, " pairs/s, index %" PRIu64, importing->last_index);
        if (importing->bad_lines > 0) {
            buf_format(&text, ", %" PRIu64 " bad lines skipped", importing->bad_lines);
        }
        buf_append_text(&text, "\n");
    }
    return cli_finish(&text, importing->failure == NULL ? EXIT_FOUND : EXIT_ERROR);
}

static int finish(struct importing *importing)
{
    import_hide(importing);
    if (importing->failure == NULL) {
        import_forget(importing);
    } else {
        import_save(importing);
        cli_error("%s: %s", importing->path, importing->failure);
        if (importing->regular) {
            cli_error("everything before byte %" PRIu64 " is written; qs import --resume goes on "
                      "from there", importing->acknowledged.offset);
        }
    }
    if (!importing->lost) {
        ask_index(importing);
    }
    return report(importing);
}

static void free_buffers(struct importing *importing)
{
    resp_close(&importing->parser);
    buf_free(&importing->in);
    buf_free(&importing->out);
    buf_free(&importing->scratch);
    buf_free(&importing->batch_body);
    buf_free(&importing->replies);
    mem_free(importing->failure);
    if (importing->fd > STDIN_FILENO) {
        close(importing->fd);
    }
}

int run_import(struct cli *cli)
{
    struct importing *importing = mem_zalloc(sizeof *importing);
    importing->cli = cli;
    resp_open(&importing->parser, &limits);
    bool resume;
    int code = read_options(importing, &resume);
    if (code == EXIT_FOUND) {
        code = open_input(importing, resume) && cli_connect(cli) ? EXIT_FOUND : EXIT_ERROR;
    }
    if (code == EXIT_FOUND) {
        importing->start_ns = importing->shown_ns = importing->saved_ns = clock_mono_ns();
        import_pump(importing);
        code = finish(importing);
    }
    free_buffers(importing);
    mem_free(importing);
    return code;
}
