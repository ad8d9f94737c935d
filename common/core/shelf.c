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
    if (error == ERR_NOT_FOUND) {
        return OK;
    }
    if (error == OK) {
        error = parse(shelf, text);
    }
    if (error == ERR_CORRUPT) {
        log_line(LOG_ERROR, shelf->scope,
                 "%s/STORES is damaged, so which store is in use is not known: with one store "
                 "directory remove the file, with several keep the newest as \"store\"",
                 shelf->directory);
    }
    return error;
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

static int remove_leftovers(const struct shelf *shelf)
{
    DIR *directory = opendir(shelf->directory);
    if (directory == NULL) {
        return failed(shelf, "list its directory");
    }
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        uint64_t number = number_of(entry->d_name);
        if (number == UINT64_MAX || number == shelf->serving ||
            (number == shelf->building && shelf->building != 0)) {
            continue;
        }
        char *path = shelf_path(shelf, number);
        if (disk_remove(path) == OK) {
            log_line(LOG_INFO, shelf->scope, "%s was left over and is removed", path);
        }
        mem_free(path);
    }
    closedir(directory);
    return OK;
}

int shelf_open(struct shelf *shelf, const char *directory, const char *scope)
{
    *shelf = (struct shelf){.directory = directory, .scope = scope};
    int error = read_file(shelf);
    return error == OK ? remove_leftovers(shelf) : error;
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
