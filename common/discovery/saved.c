// SPDX-License-Identifier: Apache-2.0
#include "common/discovery/saved.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/mem.h"

#define HEAD "qs-found 1 "
#define HEAD_BYTES (sizeof HEAD - 1 + 16 + 1)
#define HASH_SEED 1

static const char *or_dash(const char *text) { return text[0] == '\0' ? "-" : text; }

void saved_add(struct buf *to, const char *list, const struct endpoint *endpoint)
{
    buf_format(to, "%s %s %s %s %d %d\n", list, endpoint->address, or_dash(endpoint->node),
               or_dash(endpoint->site), (int)endpoint->kind, endpoint->own_site);
}

static void head_of(struct bytes lines, char *to, size_t room)
{
    snprintf(to, room, HEAD "%016" PRIx64 "\n", hash64(lines, HASH_SEED));
}

int saved_write(const char *path, const struct buf *lines)
{
    char head[HEAD_BYTES + 1];
    head_of(buf_bytes(lines), head, sizeof head);
    struct buf whole = {0};
    buf_append_text(&whole, head);
    buf_append_bytes(&whole, buf_bytes(lines));
    int error = file_save(path, buf_bytes(&whole));
    buf_free(&whole);
    return error;
}

static bool read_line(const char *line, char *list, struct endpoint *endpoint)
{
    int kind, own;
    char extra;
    *endpoint = (struct endpoint){.depth = UINT32_MAX, .distance_ns = UINT64_MAX};
    _Static_assert(ADDRESS_TEXT_BYTES == 128 && ENDPOINT_NODE_MAX == 64 && ENDPOINT_SITE_MAX == 64,
                   "the widths below");
    if (sscanf(line, "%15s %127s %64s %64s %d %d%c", list, endpoint->address, endpoint->node,
               endpoint->site, &kind, &own, &extra) != 6 ||
        kind < ENDPOINT_UNKNOWN || kind > ENDPOINT_PROXY) {
        return false;
    }
    const char *reason;
    endpoint->kind = (enum endpoint_kind)kind;
    endpoint->own_site = own == 1;
    endpoint->node[strcmp(endpoint->node, "-") == 0 ? 0 : ENDPOINT_NODE_MAX] = '\0';
    endpoint->site[strcmp(endpoint->site, "-") == 0 ? 0 : ENDPOINT_SITE_MAX] = '\0';
    return address_parse(&endpoint->parsed, endpoint->address, &reason) == OK;
}

int saved_read(const char *path,
               void (*each)(void *argument, const char *list, const struct endpoint *endpoint),
               void *argument)
{
    char *text = mem_alloc(SAVED_BYTES_MAX + 1);
    size_t size = 0;
    int error = file_load(path, (uint8_t *)text, SAVED_BYTES_MAX, &size);
    if (error == OK) {
        text[size] = '\0';
        char head[HEAD_BYTES + 1];
        size_t begin = u64_min(size, HEAD_BYTES);
        head_of(bytes_of(text + begin, size - begin), head, sizeof head);
        error = size >= HEAD_BYTES && memcmp(text, head, HEAD_BYTES) == 0 ? OK : ERR_CORRUPT;
    }
    char *line = text + HEAD_BYTES;
    while (error == OK && line < text + size) {
        char *end = strchr(line, '\n');
        char list[16];
        struct endpoint endpoint;
        if (end != NULL) {
            *end = '\0';
        }
        if (read_line(line, list, &endpoint)) { // else it was written by another version
            each(argument, list, &endpoint);
        }
        line = end == NULL ? text + size : end + 1;
    }
    mem_free(text);
    return error;
}
