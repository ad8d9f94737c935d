// SPDX-License-Identifier: Apache-2.0
// What an import shows on standard error and keeps in FILE.qs-progress. The file is replaced as a
// whole, by renaming; size and time of the input are kept with it, because an offset means nothing
// in a file that has changed.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "qs/cli/import.h"

#define BAR_NS (NS_PER_S / 5)
#define LINE_NS (2 * NS_PER_S)
#define SAVE_NS NS_PER_S
#define BAR_WIDTH 30

static void append_rate(struct buf *to, struct importing *importing, uint64_t now)
{
    uint64_t pairs = importing->acknowledged.pairs - importing->started.pairs;
    double seconds = (double)(now - importing->start_ns) / (double)NS_PER_S;
    append_count(to, importing->acknowledged.pairs);
    buf_append_text(to, " pairs, ");
    append_count(to, importing->acknowledged.offset / MIB);
    buf_append_text(to, " MB, ");
    append_count(to, seconds > 0 ? (uint64_t)((double)pairs / seconds) : 0);
    buf_append_text(to, " pairs/s");
    uint64_t done = importing->acknowledged.offset - importing->started.offset;
    if (importing->regular && done > 0 && seconds > 1) {
        double left = (double)importing->status.st_size - (double)importing->acknowledged.offset;
        buf_format(to, ", %.0f s left", left > 0 ? left * seconds / (double)done : 0.0);
    }
}

static void append_bar(struct buf *to, const struct importing *importing)
{
    if (!importing->regular || importing->status.st_size <= 0) {
        return;
    }
    double part = (double)importing->acknowledged.offset / (double)importing->status.st_size;
    part = part > 1 ? 1 : part;
    int full = (int)(part * BAR_WIDTH);
    buf_format(to, "%5.1f%% [%.*s%*s] ", part * 100, full, "##############################",
               BAR_WIDTH - full, "");
}

static void show(struct importing *importing, uint64_t now)
{
    struct buf text = {0};
    buf_append_text(&text, importing->tty ? "\r\033[K" : "qs: ");
    append_bar(&text, importing);
    append_rate(&text, importing, now);
    buf_append_text(&text, importing->tty ? "" : "\n");
    fwrite(text.data, 1, text.size, stderr);
    fflush(stderr);
    buf_free(&text);
}

void import_tick(struct importing *importing)
{
    uint64_t now = clock_mono_ns();
    if ((importing->tty || importing->progress) &&
        now - importing->shown_ns >= (importing->tty ? BAR_NS : LINE_NS)) {
        importing->shown_ns = now;
        show(importing, now);
    }
    if (now - importing->saved_ns >= SAVE_NS) {
        importing->saved_ns = now;
        import_save(importing);
    }
}

void import_hide(struct importing *importing)
{
    if (importing->tty) {
        fputs("\r\033[K", stderr);
    }
}

static char *progress_path(const struct importing *importing, const char *suffix)
{
    return mem_format("%s.qs-progress%s", importing->path, suffix);
}

void import_save(struct importing *importing)
{
    if (!importing->regular) {
        return;
    }
    char *path = progress_path(importing, ""), *fresh = progress_path(importing, ".new");
    FILE *file = fopen(fresh, "we");
    bool fine = file != NULL;
    if (fine) {
        const struct import_place *place = &importing->acknowledged;
        fprintf(file,
                "qs-progress 1\nsize %lld\nmodified_ns %lld\nformat %s\noffset %" PRIu64
                "\nline %" PRIu64 "\npairs %" PRIu64 "\n",
                (long long)importing->status.st_size,
                (long long)importing->status.st_mtim.tv_sec * 1000000000 +
                    importing->status.st_mtim.tv_nsec,
                import_format_text(importing->format), place->offset, place->line, place->pairs);
        fine = fclose(file) == 0 && rename(fresh, path) == 0;
    }
    if (!fine && !importing->save_failed) { // said once; the import itself goes on
        importing->save_failed = true;
        cli_error("cannot write %s: %s; --resume will not know how far it came", path,
                  strerror(errno));
    }
    mem_free(path);
    mem_free(fresh);
}

void import_forget(struct importing *importing)
{
    if (importing->regular) {
        char *path = progress_path(importing, "");
        unlink(path);
        mem_free(path);
    }
}

static bool read_progress(struct importing *importing, FILE *file, const char *path)
{
    long long size = 0, modified_ns = 0;
    char format[16] = "";
    struct import_place place = {0};
    int fields = fscanf(file,
                        "qs-progress 1 size %lld modified_ns %lld format %15s offset %" SCNu64
                        " line %" SCNu64 " pairs %" SCNu64,
                        &size, &modified_ns, format, &place.offset, &place.line, &place.pairs);
    enum import_format known;
    if (fields != 6 || !import_format_of(format, &known)) {
        cli_error("%s cannot be understood; remove it to begin anew", path);
        return false;
    }
    long long now_ns = (long long)importing->status.st_mtim.tv_sec * 1000000000 +
                       importing->status.st_mtim.tv_nsec;
    if (size != importing->status.st_size || modified_ns != now_ns ||
        place.offset > (uint64_t)importing->status.st_size) {
        cli_error("%s has changed since %s was written; import it without --resume",
                  importing->path, path);
        return false;
    }
    if (importing->format != IMPORT_AUTO && known != importing->format && known != IMPORT_AUTO) {
        cli_error("%s says the format is %s", path, format);
        return false;
    }
    importing->format = known == IMPORT_AUTO ? importing->format : known;
    importing->started = place;
    return true;
}

bool import_recall(struct importing *importing)
{
    if (!importing->regular) {
        cli_error("--resume needs a file, not a pipe");
        return false;
    }
    char *path = progress_path(importing, "");
    FILE *file = fopen(path, "re");
    bool fine = file != NULL ? read_progress(importing, file, path) : errno == ENOENT;
    if (file == NULL) {
        cli_error("%s: %s%s", path, strerror(errno), fine ? "; beginning at the start" : "");
    } else {
        fclose(file);
    }
    mem_free(path);
    return fine;
}
