// SPDX-License-Identifier: Apache-2.0
// 0 version u8 · 1 floor u64 · 9 check (XXH3-128 of the 9 bytes before)
#include "replica/floor_file.h"

#include "common/base/bytes.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#define NAME "history_floor"
#define VERSION 1
#define CHECKED_BYTES 9
#define FILE_BYTES (CHECKED_BYTES + HASH128_BYTES)

int floor_file_write(const char *directory, const char *scope, uint64_t floor)
{
    static struct log_gate gate;
    uint8_t data[FILE_BYTES];
    data[0] = VERSION;
    store_u64(data + 1, floor);
    hash128_store(data + CHECKED_BYTES, hash128(bytes_of(data, CHECKED_BYTES), 0));
    char *path = mem_format("%s/" NAME, directory);
    int error = file_save(path, bytes_of(data, sizeof data));
    if (error != OK) {
        LOG_GATED(&gate, LOG_WARN, scope, "cannot write %s: %s", path, error_text(error));
    }
    mem_free(path);
    return error;
}

int floor_file_read(const char *directory, uint64_t *ret_floor)
{
    char *path = mem_format("%s/" NAME, directory);
    uint8_t data[FILE_BYTES];
    size_t size;
    int error = file_load(path, data, sizeof data, &size);
    mem_free(path);
    if (error != OK) {
        return error;
    }
    if (size != FILE_BYTES || data[0] != VERSION) {
        return ERR_CORRUPT;
    }
    struct hash128 check = hash128(bytes_of(data, CHECKED_BYTES), 0);
    if (!hash128_equal(check, hash128_load(data + CHECKED_BYTES))) {
        return ERR_CORRUPT;
    }
    *ret_floor = load_u64(data + 1);
    return OK;
}
