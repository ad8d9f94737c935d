// SPDX-License-Identifier: Apache-2.0
#include "common/core/shelf.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/disk.h"

#define FILE_BYTES 256
#define FORMAT "qs stores, format 1\nserving %" PRIu64 "\nbuilding %" PRIu64 "\n"

static int failed(const struct shelf *shelf, const char *what)
{
    int code = errno;
    log_line(LOG_ERROR, shelf->scope, "%s/STORES: %s: %s", shelf->directory, what, strerror(code));
    return error_from_errno(code);
}

char *shelf_path(const struct shelf *shelf, uint64_t number)
{
    return number == 0 ? mem_format("%s/store", shelf->directory)
                       : mem_format("%s/store-%" PRIu64, shelf->directory, number);
}

// The whole file, with the line that proves the others.
static char *shelf_text(uint64_t serving, uint64_t building)
{
    char *lines = mem_format(FORMAT, serving, building);
    char *text = mem_format("%scheck %016" PRIx64 "\n", lines, hash64(bytes_text(lines), 0));
    mem_free(lines);
    return text;
}

static int parse(struct shelf *shelf, const char *text)
{
    uint64_t serving, building;
    if (sscanf(text, FORMAT, &serving, &building) != 2) {
        return ERR_CORRUPT;
    }
    char *sound = shelf_text(serving, building);
    int error = strcmp(text, sound) == 0 && (building == 0 || building != serving) ? OK
                                                                                   : ERR_CORRUPT;
    mem_free(sound);
    if (error == OK) {
        shelf->serving = serving;
        shelf->building = building;
    } else {
        log_line(LOG_ERROR, shelf->scope,
                 "%s/STORES is damaged, so which store is in use is not known", shelf->directory);
    }
    return error;
}

static int read_file(struct shelf *shelf)
{
    char *path = mem_format("%s/STORES", shelf->directory);
    char text[FILE_BYTES] = "";
    size_t size;
    int error = file_load(path, (uint8_t *)text, sizeof text - 1, &size);
    if (error == ERR_IO) {
        error = failed(shelf, "read");
    }
    mem_free(path);
    return error == OK ? parse(shelf, text) : error;
}

// The number of a store's directory; UINT64_MAX when `name` is none.
static uint64_t number_of(const char *name)
{
    uint64_t number;
    char again[32];
    if (strcmp(name, "store") == 0) {
        return 0;
    }
    if (sscanf(name, "store-%" SCNu64, &number) != 1 || number == 0) {
        return UINT64_MAX;
    }
    snprintf(again, sizeof again, "store-%" PRIu64, number);
    return strcmp(name, again) == 0 ? number : UINT64_MAX;
}

// Calls `visit` for each directory of a store.
static int each_store(const struct shelf *shelf,
                      void (*visit)(const struct shelf *shelf, uint64_t number, void *argument),
                      void *argument)
{
    DIR *directory = opendir(shelf->directory);
    if (directory == NULL) {
        return failed(shelf, "list its directory");
    }
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        uint64_t number = number_of(entry->d_name);
        if (number != UINT64_MAX) {
            visit(shelf, number, argument);
        }
    }
    closedir(directory);
    return OK;
}

static void remove_leftover(const struct shelf *shelf, uint64_t number, void *argument)
{
    (void)argument;
    if (number == shelf->serving || (number == shelf->building && shelf->building != 0)) {
        return;
    }
    char *path = shelf_path(shelf, number);
    if (disk_remove(path) == OK) {
        log_line(LOG_INFO, shelf->scope, "%s was left over and is removed", path);
    }
    mem_free(path);
}

struct found {
    unsigned count;
    uint64_t number;
};

static void find(const struct shelf *shelf, uint64_t number, void *argument)
{
    (void)shelf;
    struct found *found = argument;
    found->count++;
    found->number = number;
}

// The first store needs no file; a second one is never made before there is one. So a single store
// is the one in use, and of several one cannot tell.
static int without_file(struct shelf *shelf)
{
    struct found found = {0};
    int error = each_store(shelf, find, &found);
    if (error == OK && found.count > 1) {
        log_line(LOG_ERROR, shelf->scope,
                 "%s/STORES is missing, so which store is in use is not known", shelf->directory);
        error = ERR_CORRUPT;
    }
    if (error == OK) {
        shelf->serving = found.number;
    }
    return error;
}

int shelf_open(struct shelf *shelf, const char *directory, const char *scope)
{
    *shelf = (struct shelf){.directory = directory, .scope = scope};
    int error = read_file(shelf);
    if (error == ERR_NOT_FOUND) {
        error = without_file(shelf);
    }
    if (error == ERR_CORRUPT) {
        log_line(LOG_ERROR, shelf->scope,
                 "%s: keep the newest store* there, move the others and STORES away", directory);
    }
    return error == OK ? each_store(shelf, remove_leftover, NULL) : error;
}

int shelf_set(struct shelf *shelf, uint64_t serving, uint64_t building)
{
    char *text = shelf_text(serving, building);
    char *path = mem_format("%s/STORES", shelf->directory);
    int error = file_save(path, bytes_text(text));
    if (error != OK) {
        error = failed(shelf, "write");
    }
    mem_free(path);
    mem_free(text);
    if (error == OK) {
        shelf->serving = serving;
        shelf->building = building;
    }
    return error;
}
