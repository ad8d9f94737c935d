// SPDX-License-Identifier: Apache-2.0
// Input to commands. A pair is encoded by hand, straight into the out buffer; RESP commands are
// parsed to be judged and then passed on as they stand. A line that cannot be understood stops the
// import before anything behind it is sent, or is counted and skipped.
#include <errno.h>
#include <strings.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/data/limits.h"
#include "qs/cli/import.h"

#define BATCH_BYTES (8 * MIB)

void import_fill(struct importing *importing)
{
    struct buf *in = &importing->in;
    if (importing->in_at > 0) { // only the start of one line or command is left
        buf_consume(in, importing->in_at);
        importing->in_scanned -= u64_min(importing->in_at, importing->in_scanned);
        importing->in_at = 0;
    }
    if (in->size > IMPORT_LINE_BYTES) {
        import_fail(importing, "a line is longer than %llu bytes",
                    (unsigned long long)IMPORT_LINE_BYTES);
        return;
    }
    ssize_t got = read(importing->fd, buf_reserve(in, IMPORT_READ_BYTES), IMPORT_READ_BYTES);
    if (got < 0 && errno != EINTR && errno != EAGAIN) {
        import_fail(importing, "cannot read %s: %s", importing->path, strerror(errno));
    } else if (got == 0) {
        importing->in_end = true;
    } else if (got > 0) {
        buf_commit(in, (size_t)got);
    }
}

// The next line without its line feed; *ret_used counts it in. False: more input is needed.
static bool next_line(struct importing *importing, struct bytes *ret_line, size_t *ret_used)
{
    const uint8_t *start = importing->in.data + importing->in_at;
    size_t size = importing->in.size - importing->in_at;
    if (size == 0) {
        return false;
    }
    size_t from =
        importing->in_scanned > importing->in_at ? importing->in_scanned - importing->in_at : 0;
    const uint8_t *end = size == from ? NULL : memchr(start + from, '\n', size - from);
    if (end == NULL && !importing->in_end) {
        importing->in_scanned = importing->in.size;
        return false;
    }
    *ret_line = bytes_of(start, end == NULL ? size : (size_t)(end - start));
    *ret_used = ret_line->size + (end != NULL);
    return true;
}

static void use_input(struct importing *importing, size_t used)
{
    importing->in_at += used;
    importing->read.offset += used;
    importing->read.line++;
}

// ---- encoding ---------------------------------------------------------------------------------

static uint8_t *put_text(uint8_t *to, const char *text, size_t size)
{
    memcpy(to, text, size);
    return to + size;
}

static uint8_t *put_number(uint8_t *to, uint64_t number)
{
    uint8_t digits[20];
    size_t count = 0;
    do {
        digits[count++] = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (count > 0) {
        *to++ = digits[--count];
    }
    return to;
}

// "$3\r\nabc\r\n"
static uint8_t *put_bulk(uint8_t *to, struct bytes bytes)
{
    *to++ = '$';
    to = put_number(to, bytes.size);
    to = put_text(to, "\r\n", 2);
    if (bytes.size > 0) {
        to = put_text(to, (const char *)bytes.data, bytes.size);
    }
    return put_text(to, "\r\n", 2);
}

#define BULK_HEAD_BYTES 32

static void finish_batch(struct importing *importing)
{
    static const char head[] = "\r\n$4\r\nMSET\r\n";
    size_t before = importing->out.size;
    uint8_t *start = buf_reserve(&importing->out, 64 + importing->batch_body.size);
    uint8_t *at = start;
    *at++ = '*';
    at = put_number(at, 2 * importing->batch_pairs + 1);
    at = put_text(at, head, sizeof head - 1);
    at = put_text(at, (const char *)importing->batch_body.data, importing->batch_body.size);
    buf_commit(&importing->out, (size_t)(at - start));
    importing->finished = importing->read;
    import_under_way(importing, importing->out.size - before);
    buf_clear(&importing->batch_body);
    importing->batch_pairs = 0;
}

// Returns true when a whole command stands in `out`.
static bool add_pair(struct importing *importing, const struct import_pair *pair)
{
    static const char head[] = "*3\r\n$6\r\nQS.PUT\r\n";
    importing->read.pairs++;
    bool single = importing->batch == 0;
    struct buf *to = single ? &importing->out : &importing->batch_body;
    size_t room = sizeof head + 2 * BULK_HEAD_BYTES + pair->key.size + pair->value.size;
    uint8_t *start = buf_reserve(to, room), *at = start;
    if (single) {
        at = put_text(at, head, sizeof head - 1);
    }
    at = put_bulk(at, pair->key);
    at = put_bulk(at, pair->value);
    buf_commit(to, (size_t)(at - start));
    if (single) {
        importing->finished = importing->read;
        import_under_way(importing, (uint64_t)(at - start));
        return true;
    }
    importing->batch_pairs++;
    if (importing->batch_pairs < importing->batch && to->size < BATCH_BYTES) {
        return false;
    }
    finish_batch(importing);
    return true;
}

// ---- lines ------------------------------------------------------------------------------------

static const char *judge_pair(const struct import_pair *pair)
{
    if (pair->key.size > KEY_BYTES_MAX) {
        return "the key is longer than 1024 bytes";
    }
    return pair->value.size > VALUE_BYTES_MAX ? "the value is larger than 16 MiB" : NULL;
}

// Uses lines until a command is whole.
static bool encode_lines(struct importing *importing)
{
    struct bytes line;
    size_t used;
    while (importing->failure == NULL && next_line(importing, &line, &used)) {
        struct import_pair pair;
        const char *reason = importing->format == IMPORT_JSONL
                                 ? import_jsonl(line, &importing->scratch, &pair)
                                 : import_tsv(line, &importing->scratch, &pair);
        reason = reason == NULL ? judge_pair(&pair) : reason;
        if (reason != NULL && !importing->skip_bad) {
            import_fail(importing, "line %llu: %s", (unsigned long long)importing->read.line + 1,
                        reason);
            return false;
        }
        use_input(importing, used);
        importing->bad_lines += reason != NULL;
        if (reason == NULL && pair.key.size > 0 && add_pair(importing, &pair)) {
            return true;
        }
    }
    if (importing->in_end && importing->in_at == importing->in.size && importing->batch_pairs > 0) {
        finish_batch(importing);
        return true;
    }
    return false;
}

// ---- RESP -------------------------------------------------------------------------------------

static bool word_is(struct bytes word, const char *text)
{
    return word.size == strlen(text) && strncasecmp((const char *)word.data, text, word.size) == 0;
}

// Pairs or keys of the command, 0 when it is none that an import takes.
static uint64_t count_pairs(const struct importing *importing, struct bytes data)
{
    size_t count = resp_word_count(&importing->parser);
    struct bytes word = resp_word(&importing->parser, data, 0);
    if (word_is(word, "SET") || word_is(word, "QS.PUT")) {
        return count == 3; // answers with options are not read here
    }
    if (word_is(word, "MSET")) {
        return count % 2 == 1 ? count / 2 : 0;
    }
    bool deletes = word_is(word, "DEL") || word_is(word, "UNLINK") || word_is(word, "QS.DELETE");
    return deletes ? count - 1 : 0;
}

static bool encode_resp(struct importing *importing)
{
    while (importing->failure == NULL && importing->in_at < importing->in.size) {
        struct bytes data = bytes_of(importing->in.data + importing->in_at,
                                     importing->in.size - importing->in_at);
        ssize_t used = resp_parse(&importing->parser, data);
        unsigned long long number = importing->read.line + 1;
        if (used == 0) {
            if (importing->in_end) {
                import_fail(importing, "command %llu: the input ends inside it", number);
            }
            return false;
        }
        if (used < 0) {
            import_fail(importing, "command %llu: %s", number,
                        used == ERR_PROTOCOL ? importing->parser.error : error_text((int)used));
            return false;
        }
        bool empty = resp_word_count(&importing->parser) == 0;
        uint64_t pairs = empty ? 0 : count_pairs(importing, data);
        if (!empty && pairs == 0) {
            import_fail(importing,
                        "command %llu: only SET key value, MSET, DEL, QS.PUT and QS.DELETE "
                        "are imported",
                        number);
            return false;
        }
        use_input(importing, (size_t)used);
        importing->read.pairs += pairs;
        if (!empty) {
            buf_append(&importing->out, data.data, (size_t)used);
            importing->finished = importing->read;
            import_under_way(importing, (uint64_t)used);
            return true;
        }
    }
    return false;
}

bool import_encode(struct importing *importing)
{
    if (importing->failure != NULL) {
        return false;
    }
    if (importing->format == IMPORT_AUTO) {
        if (importing->in.size == 0) {
            return false;
        }
        importing->format = import_guess(buf_bytes(&importing->in));
    }
    return importing->format == IMPORT_RESP ? encode_resp(importing) : encode_lines(importing);
}

bool import_exhausted(const struct importing *importing)
{
    return importing->failure != NULL ||
           (importing->in_end && importing->in_at == importing->in.size &&
            importing->batch_pairs == 0);
}
