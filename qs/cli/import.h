// SPDX-License-Identifier: Apache-2.0
// Inside `qs import`: a file flows through read -> encode -> send -> acknowledge in bounded
// memory. At any time there are at most a line of input, a little of encoded output, and a window
// of commands under way, each remembering where in the file it ends: so the offset up to which
// everything is acknowledged is always known, and is what --resume goes on from.
//   import.c           options, the file of progress, the report
//   import_read.c      input -> commands
//   import_pump.c      sockets: commands out, replies in
//   import_progress.c  what is shown and kept on the way
#ifndef QS_QS_CLI_IMPORT_H
#define QS_QS_CLI_IMPORT_H

#include <sys/stat.h>

#include "common/wire/import_text.h"
#include "common/wire/resp.h"
#include "qs/cli/cli.h"

#define IMPORT_WINDOW 8192u            // commands under way
#define IMPORT_WINDOW_BYTES (8 * MIB)  // ... and their bytes, unless it is a single one
#define IMPORT_OUT_BYTES (128 * KIB)   // encoded and not sent yet
#define IMPORT_READ_BYTES (256 * KIB)
#define IMPORT_LINE_BYTES (128 * MIB)

// A place in the input.
struct import_place {
    uint64_t offset; // bytes before it
    uint64_t line;   // lines (RESP: commands) before it
    uint64_t pairs;  // pairs (deletes count too) before it
};

struct inflight {
    struct import_place end;
    uint64_t bytes; // encoded
};

struct importing {
    struct cli *cli;
    const char *path; // "-" = standard input
    int fd;
    bool regular; // a file with a size, where an offset means something
    struct stat status;
    enum import_format format;
    uint64_t batch; // pairs in one MSET; 0 = QS.PUT for each
    bool skip_bad, progress, tty, save_failed;

    struct buf in;
    size_t in_at, in_scanned; // unparsed from, no line feed before
    bool in_end;
    struct import_place read;     // what was parsed
    struct import_place finished; // ... up to whole commands in `out`
    struct buf scratch;
    struct resp_parser parser;
    struct buf batch_body;
    uint64_t batch_pairs;
    uint64_t bad_lines;

    struct buf out;
    size_t out_sent;
    struct inflight window[IMPORT_WINDOW];
    size_t window_first, window_count;
    uint64_t window_bytes;
    struct buf replies;
    struct import_place acknowledged;
    struct import_place started; // where this run began
    uint64_t last_index;
    char *failure; // nothing more is sent once it is set
    bool refused;  // ... by the server: what is acknowledged behind it does not count
    bool lost;     // ... and nothing more is awaited

    uint64_t start_ns, shown_ns, saved_ns;
};

// Sets the first failure.
void import_fail(struct importing *importing, const char *format, ...) PRINTF_LIKE(2, 3);

// ---- import_read.c ----------------------------------------------------------------------------

// Reads some input; blocks on a pipe.
void import_fill(struct importing *importing);
// Encodes the next command into `out`. False: it needs more input, or there is no more.
bool import_encode(struct importing *importing);
// Nothing is left to encode.
bool import_exhausted(const struct importing *importing);

// ---- import_pump.c ----------------------------------------------------------------------------

// Runs until all is acknowledged or the run failed.
void import_pump(struct importing *importing);
// A command of `bytes` bytes, which ends at `finished`, was put into `out`.
void import_under_way(struct importing *importing, uint64_t bytes);

// ---- import_progress.c ------------------------------------------------------------------------

// Shows and saves progress when it is time.
void import_tick(struct importing *importing);
void import_hide(struct importing *importing); // wipes the bar
void import_save(struct importing *importing); // FILE.qs-progress
void import_forget(struct importing *importing);
// Reads FILE.qs-progress; false: said why there is no going on.
bool import_recall(struct importing *importing) MUST_CHECK;

#endif
