// SPDX-License-Identifier: Apache-2.0
// Reads the configuration file: text -> config_scan (grammar) -> libconfuse (strings, variables)
// -> values, each checked on its line -> option structs -> config_check (what must fit between
// options). Everything the options point into lies in one arena and lives as long as the config.
// config_read: one thread at a time. A finished config is immutable, for any thread.
#include "qs/config.h"

#include <confuse.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "qs/config_parts.h"

#define FILE_BYTES_MAX MIB
#define VALUES_MAX 20000

struct config_memory {
    struct arena arena;
};

// libconfuse's callbacks have no argument of ours.
static _Thread_local struct config_reading *reading_now;

static int section_position(const struct config_scan *scan, const char *title)
{
    for (size_t i = 0; title != NULL && i < scan->section_count; i++) {
        if (strcmp(scan->sections[i].name, title) == 0) {
            return (int)i;
        }
    }
    return CONFIG_TOP;
}

static char *arena_text(struct arena *arena, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = arena_alloc(arena, size);
    memcpy(copy, text, size);
    return copy;
}

// libconfuse hands over each value here, in the order of the file.
static int on_value(cfg_t *cfg, cfg_opt_t *option, const char *text, void *result)
{
    struct config_reading *reading = reading_now;
    int instance = section_position(&reading->scan, cfg->title);
    struct bytes name = bytes_text(option->name);
    const struct option_row *row =
        option_find(instance == CONFIG_TOP ? option_scope_node() : option_scope_instance(), name);
    if (row == NULL) {
        row = option_find(instance == CONFIG_TOP ? option_scope_consul() : option_scope_cache(),
                          name);
    }
    CHECK(row != NULL);
    uint64_t number;
    char *reason = option_parse(row, text, &number);
    if (reason == NULL && reading->value_count == VALUES_MAX) {
        reason = mem_format("there are more than %d values", VALUES_MAX);
    }
    if (reason != NULL) {
        config_fail(&reading->fault, (unsigned)cfg->line, "option '%s': %s", row->name, reason);
        mem_free(reason);
        return -1;
    }
    reading->values =
        mem_realloc(reading->values, (reading->value_count + 1) * sizeof *reading->values);
    reading->values[reading->value_count++] = (struct config_value){
        .instance = instance,
        .row = row,
        .text = arena_text(reading->arena, text),
        .number = number,
        .line = (unsigned)cfg->line,
    };
    *(const char **)result = text;
    return 0;
}

static void on_confuse_error(cfg_t *cfg, const char *format, va_list arguments)
{
    char text[512];
    vsnprintf(text, sizeof text, format, arguments);
    config_fail(&reading_now->fault, cfg == NULL ? 0 : (unsigned)cfg->line, "%s", text);
}

static size_t add_rows(cfg_opt_t *to, struct option_scope scope)
{
    for (size_t i = 0; i < scope.count; i++) {
        const char *name = scope.rows[i].name;
        if (option_is_list(&scope.rows[i])) {
            to[i] = (cfg_opt_t)CFG_STR_LIST_CB(name, NULL, CFGF_NODEFAULT, on_value);
        } else {
            to[i] = (cfg_opt_t)CFG_STR_CB(name, NULL, CFGF_NODEFAULT, on_value);
        }
    }
    return scope.count;
}

// Feeds the scanned text through libconfuse into reading->values.
static void parse_values(struct config_reading *reading)
{
    if (reading->scan.clean[0] == '\0') {
        return; // fmemopen refuses an empty text
    }
    struct option_scope node = option_scope_node(), instance = option_scope_instance();
    struct option_scope cache = option_scope_cache(), consul = option_scope_consul();
    cfg_opt_t *inner = mem_zalloc((instance.count + cache.count + 1) * sizeof *inner);
    size_t inner_count = add_rows(inner, instance);
    // The scan took the words of inner sections away: their options stand among those around them.
    inner_count += add_rows(inner + inner_count, cache);
    inner[inner_count] = (cfg_opt_t)CFG_END();
    cfg_opt_t *outer = mem_zalloc((node.count + consul.count + 2) * sizeof *outer);
    size_t count = add_rows(outer, node);
    count += add_rows(outer + count, consul);
    outer[count] =
        (cfg_opt_t)CFG_SEC("instance", inner, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES);
    outer[count + 1] = (cfg_opt_t)CFG_END();
    cfg_t *cfg = cfg_init(outer, CFGF_NONE);
    CHECK(cfg != NULL);
    cfg_set_error_function(cfg, on_confuse_error);
    FILE *file = fmemopen(reading->scan.clean, strlen(reading->scan.clean), "r");
    CHECK(file != NULL);
    reading_now = reading;
    if (cfg_parse_fp(cfg, file) != CFG_SUCCESS) {
        config_fail(&reading->fault, 0, "the file could not be parsed");
    }
    reading_now = NULL;
    fclose(file);
    cfg_free(cfg);
    mem_free(outer);
    mem_free(inner);
}

const struct config_value *config_value(const struct config_reading *reading, int instance,
                                        const struct option_row *row, size_t nth)
{
    for (size_t i = 0; i < reading->value_count; i++) {
        const struct config_value *value = &reading->values[i];
        if (value->instance == instance && value->row == row && nth-- == 0) {
            return value;
        }
    }
    return NULL;
}

static const char *const *make_list(struct config_reading *reading, int instance,
                                    const struct option_row *row)
{
    size_t count = 0;
    while (config_value(reading, instance, row, count) != NULL) {
        count++;
    }
    const char **list = arena_alloc(reading->arena, (count + 1) * sizeof *list);
    for (size_t i = 0; i < count; i++) {
        list[i] = config_value(reading, instance, row, i)->text;
    }
    list[count] = NULL;
    return list;
}

static void fill_option(struct config_reading *reading, int instance, const struct option_row *row,
                        void *options)
{
    void *to = (char *)options + row->offset;
    if (option_is_list(row)) {
        *(const char *const **)to = make_list(reading, instance, row);
        return;
    }
    const struct config_value *value = config_value(reading, instance, row, 0);
    const char *text = value != NULL ? value->text : row->initial;
    uint64_t number = 0;
    if (value == NULL && option_is_required(row)) {
        unsigned line = instance == CONFIG_TOP ? 0 : reading->scan.sections[instance].line;
        config_fail(&reading->fault, line, "option '%s' is missing (%s)", row->name, row->help);
        return;
    }
    if (value != NULL) {
        number = value->number;
    } else if (text[0] != '\0') {
        char *reason = option_parse(row, text, &number);
        CHECK(reason == NULL); // a default of the table that the table forbids
    }
    if (option_is_number(row)) {
        *(uint64_t *)to = number;
    } else if (row->type == OPTION_TEXT || row->type == OPTION_ADDRESS) {
        *(const char **)to = text[0] == '\0' ? NULL : text;
    } else {
        *(int *)to = (int)number;
    }
}

static void fill_scope(struct config_reading *reading, int instance, struct option_scope scope,
                       void *options)
{
    for (size_t i = 0; i < scope.count; i++) {
        fill_option(reading, instance, &scope.rows[i], options);
    }
}

// "" when the host has none: the check of names then says so.
static const char *host_name(struct arena *arena)
{
    char name[HOST_NAME_MAX + 1] = "";
    if (gethostname(name, sizeof name) != 0) {
        name[0] = '\0';
    }
    name[HOST_NAME_MAX] = '\0';
    return arena_text(arena, name);
}

static void fill_config(struct config *config, struct config_reading *reading)
{
    config->instance_count = reading->scan.section_count;
    config->instances = mem_zalloc(config->instance_count * sizeof *config->instances);
    fill_scope(reading, CONFIG_TOP, option_scope_node(), &config->node);
    fill_scope(reading, CONFIG_TOP, option_scope_consul(), &config->consul);
    config->consul.given = reading->scan.consul_line != 0;
    if (config->node.node == NULL) {
        config->node.node = host_name(reading->arena);
    }
    for (size_t i = 0; i < config->instance_count; i++) {
        config->instances[i].name = arena_text(reading->arena, reading->scan.sections[i].name);
        fill_scope(reading, (int)i, option_scope_instance(), &config->instances[i]);
        fill_scope(reading, (int)i, option_scope_cache(), &config->instances[i]);
    }
}

// Journal, buffers, window and the memory of accesses lie in the directory that max_bytes bounds,
// and what they take the values cannot have. A segment goes whole; a compaction may write as much
// as six memtables before what it replaces goes.
static void fit_to_cache(struct instance_options *options)
{
    uint64_t max_bytes = options->cache.max_bytes;
    if (max_bytes > 0) {
        options->journal_bytes = u64_min(options->journal_bytes, max_bytes / 8);
        options->segment_bytes = u64_min(options->segment_bytes, max_bytes / 64);
        options->replay_bytes = u64_min(options->replay_bytes, max_bytes / 16);
        options->apply_queue = u64_min(options->apply_queue, max_bytes / 32); // is journaled
        options->memtable = u64_min(options->memtable, max_bytes / 256);
        options->window_bytes = u64_min(options->window_bytes, max_bytes / 4);
        options->recency_bytes = u64_min(options->recency_bytes, max_bytes / 64);
    }
}

// The whole file; a fault when it cannot be read or is too large.
static void read_text(const char *path, struct buf *text, struct config_fault *fault)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        config_fail(fault, 0, "%s", strerror(errno));
        return;
    }
    size_t got = 1;
    while (got > 0 && text->size <= FILE_BYTES_MAX) {
        got = fread(buf_reserve(text, 4096), 1, 4096, file);
        buf_commit(text, got);
    }
    if (ferror(file)) {
        config_fail(fault, 0, "%s", strerror(errno));
    } else if (text->size > FILE_BYTES_MAX) {
        config_fail(fault, 0, "the file is larger than %llu bytes",
                    (unsigned long long)FILE_BYTES_MAX);
    }
    fclose(file);
}

static void read_config(struct config *config, const char *path, struct config_reading *reading)
{
    struct buf text = {0};
    read_text(path, &text, &reading->fault);
    if (reading->fault.text == NULL && config_scan(&reading->scan, buf_bytes(&text),
                                                   &reading->fault)) {
        parse_values(reading);
    }
    if (reading->fault.text == NULL) {
        fill_config(config, reading);
    }
    if (reading->fault.text == NULL) {
        config_check(config, reading);
    }
    for (size_t i = 0; i < config->instance_count; i++) {
        fit_to_cache(&config->instances[i]);
    }
    buf_free(&text);
}

int config_read(struct config **ret_config, const char *path, char **ret_message)
{
    struct config *config = mem_zalloc(sizeof *config);
    config->memory = mem_zalloc(sizeof *config->memory);
    struct config_reading reading = {.arena = &config->memory->arena};
    read_config(config, path, &reading);
    config_scan_free(&reading.scan);
    mem_free(reading.values);
    if (reading.fault.text == NULL) {
        *ret_config = config;
        return OK;
    }
    *ret_message = reading.fault.line == 0
                       ? mem_format("%s: %s", path, reading.fault.text)
                       : mem_format("%s:%u: %s", path, reading.fault.line, reading.fault.text);
    mem_free(reading.fault.text);
    config_free(config);
    return ERR_CONFIG;
}

void config_free(struct config *config)
{
    if (config == NULL) {
        return;
    }
    arena_free(&config->memory->arena);
    mem_free(config->memory);
    mem_free(config->instances);
    mem_free(config);
}

static void option_value_text(struct buf *to, const struct option_row *row, const void *options)
{
    const void *from = (const char *)options + row->offset;
    if (option_is_list(row)) {
        const char *const *list = *(const char *const *const *)from;
        for (size_t i = 0; list[i] != NULL; i++) {
            buf_format(to, "%s%s", i == 0 ? "" : " ", list[i]);
        }
    } else if (option_is_number(row)) {
        uint64_t number = *(const uint64_t *)from;
        bool percent = row->type == OPTION_SPACE && number >= SPACE_PERCENT;
        buf_format(to, percent ? "%" PRIu64 "%%" : "%" PRIu64, number & ~SPACE_PERCENT);
    } else if (row->type == OPTION_TEXT || row->type == OPTION_ADDRESS) {
        const char *text = *(const char *const *)from;
        buf_append_text(to, text == NULL ? "" : text);
    } else {
        buf_append_text(to, option_word_of(row->type, *(const int *)from));
    }
    buf_append(to, "", 1);
}

static void each_of_scope(struct option_scope scope, const char *prefix, const void *options,
                          void (*each)(void *argument, const char *name, const char *value),
                          void *argument)
{
    struct buf value = {0};
    for (size_t i = 0; i < scope.count; i++) {
        char *name = mem_format("%s%s%s", prefix, prefix[0] == '\0' ? "" : ".", scope.rows[i].name);
        buf_clear(&value);
        option_value_text(&value, &scope.rows[i], options);
        each(argument, name, (const char *)value.data);
        mem_free(name);
    }
    buf_free(&value);
}

void config_each(const struct config *config,
                 void (*each)(void *argument, const char *name, const char *value), void *argument)
{
    each_of_scope(option_scope_node(), "", &config->node, each, argument);
    if (config->consul.given) {
        each_of_scope(option_scope_consul(), "consul", &config->consul, each, argument);
    }
    for (size_t i = 0; i < config->instance_count; i++) {
        const struct instance_options *options = &config->instances[i];
        each_of_scope(option_scope_instance(), options->name, options, each, argument);
        char *section = mem_format("%s.cache", options->name);
        each_of_scope(option_scope_cache(), section, options, each, argument);
        mem_free(section);
    }
}
