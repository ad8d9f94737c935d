// SPDX-License-Identifier: Apache-2.0
// The grammar of the configuration file, before libconfuse sees it:
//   file     = { option | "consul" "{" { option } "}" | instance }
//   instance = "instance" NAME "{" { option | "cache" "{" { option } "}" } "}"
//   option   = NAME ("=" | "+=") (value | "{" [ value { "," value } [","] ] "}")
//   value    = word | "string" | 'string'       (begins on the line of its "=")
// Comments run from # to the end of the line, anywhere outside strings. Here stand the messages
// about names, braces, comments and things given twice, each with the line where a person must
// look; libconfuse then decodes strings and variables. The words of `cache { }` and `consul { }`
// are blanked for it: there their options stand among those around them.
#include "qs/config_parts.h"

#include <stdarg.h>
#include <stdio.h>

enum token_kind { TOKEN_END, TOKEN_WORD, TOKEN_STRING, TOKEN_SIGN };

struct token {
    enum token_kind kind;
    char sign;         // of TOKEN_SIGN: = + { } ,   where + stands for +=
    struct bytes text; // quotes included
    unsigned line;
};

enum expecting {
    EXPECT_NAME,      // an option's name, "instance", or } of a section
    EXPECT_EQUALS,    // after a name
    EXPECT_OPEN,      // { after "instance NAME"
    EXPECT_VALUE,     // after =
    EXPECT_ITEM,      // in a list, or its end
    EXPECT_SEPARATOR, // after an item of a list
};

struct scanner {
    struct config_scan *scan;
    struct config_fault *fault;
    struct bytes text;
    size_t at;
    unsigned line;
    enum expecting expecting;
    int section; // position, or CONFIG_TOP
    const char *inner; // "cache" of that section, "consul" of the top, or NULL
    struct token name;
    const struct option_row *row; // whose value comes
    unsigned list_line;
};

void config_fail(struct config_fault *fault, unsigned line, const char *format, ...)
{
    if (fault->text != NULL) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    char text[1024];
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    *fault = (struct config_fault){.line = line, .text = mem_text(text)};
}

#define FAIL(scanner, line, ...) config_fail((scanner)->fault, line, __VA_ARGS__)
#define SHOW(bytes) (int)u64_min((bytes).size, 40), (const char *)(bytes).data

static int byte_at(const struct scanner *s, size_t at)
{
    return at < s->text.size ? s->text.data[at] : -1;
}

static void skip_blanks(struct scanner *s)
{
    bool comment = false;
    for (; s->at < s->text.size; s->at++) {
        int byte = byte_at(s, s->at);
        if (byte == '\n') {
            s->line++;
            comment = false;
        } else if (comment || byte == '#' || byte == '\r') {
            comment = comment || byte == '#';
            s->scan->clean[s->at] = ' ';
        } else if (byte != ' ' && byte != '\t') {
            return;
        }
    }
}

// A variable inside "...": ${NAME} or ${NAME:-text}. Returns where it ends, 0 when it does not.
static size_t variable_end(const struct scanner *s, size_t at)
{
    for (; at < s->text.size; at++) {
        int byte = byte_at(s, at);
        if (byte == '}') {
            return at;
        }
        if (byte == '"' || byte == '\\' || byte == '\n') {
            return 0;
        }
    }
    return 0;
}

static bool take_string(struct scanner *s, struct token *token)
{
    int quote = byte_at(s, s->at);
    size_t at = s->at + 1;
    for (; at < s->text.size && byte_at(s, at) != quote && byte_at(s, at) != '\n'; at++) {
        int byte = byte_at(s, at), next = byte_at(s, at + 1);
        if (byte == '\\') {
            if (next != '\\' && next != quote && !(quote == '"' && next == '$')) {
                FAIL(s, s->line, "a backslash in a string may only stand before a quote, another "
                                 "backslash or a dollar sign");
                return false;
            }
            at++;
        } else if (quote == '"' && byte == '$' && next == '{') {
            at = variable_end(s, at + 2);
            if (at == 0) {
                FAIL(s, s->line, "the variable ${... in the string has no end");
                return false;
            }
        }
    }
    if (byte_at(s, at) != quote) {
        FAIL(s, s->line, "the string that begins here has no closing quote on its line");
        return false;
    }
    token->kind = TOKEN_STRING;
    token->text = bytes_of(s->text.data + s->at, at + 1 - s->at);
    s->at = at + 1;
    return true;
}

static bool word_byte(int byte)
{
    return byte > 0x20 && byte != 0x7f && strchr("#\"'={}()+,*;", byte) == NULL;
}

// Says what is wrong with a byte that begins no token.
static bool strange_byte(struct scanner *s, int byte)
{
    if (byte == ';') {
        FAIL(s, s->line, "';' separates nothing here: put one option after another without it");
    } else if (byte < 0x20 || byte == 0x7f) {
        FAIL(s, s->line, "a control character (byte %d)", byte);
    } else {
        FAIL(s, s->line, "'%c' means nothing here; a value that holds it needs quotes", byte);
    }
    return false;
}

static bool take_word(struct scanner *s, struct token *token)
{
    size_t at = s->at;
    for (; at < s->text.size && word_byte(byte_at(s, at)); at++) {
        int next = byte_at(s, at + 1);
        if (byte_at(s, at) == '/' && (next == '/' || next == '*')) {
            FAIL(s, s->line, "'/%c' is no comment here: comments begin with '#', and a value that "
                             "holds it needs quotes", next);
            return false;
        }
        if (byte_at(s, at) == '$' && next == '{') {
            FAIL(s, s->line, "a value with a variable ${...} needs double quotes");
            return false;
        }
    }
    if (at == s->at) {
        return strange_byte(s, byte_at(s, at));
    }
    token->kind = TOKEN_WORD;
    token->text = bytes_of(s->text.data + s->at, at - s->at);
    s->at = at;
    return true;
}

// The next token; false after a fault.
static bool take_token(struct scanner *s, struct token *ret_token)
{
    skip_blanks(s);
    int byte = byte_at(s, s->at);
    *ret_token = (struct token){.kind = TOKEN_END, .line = s->line};
    if (byte < 0) {
        return true;
    }
    if (byte == '"' || byte == '\'') {
        return take_string(s, ret_token);
    }
    size_t size = byte == '+' && byte_at(s, s->at + 1) == '=' ? 2 : 1;
    if (size == 2 || (byte != 0 && strchr("={},", byte) != NULL)) {
        ret_token->kind = TOKEN_SIGN;
        ret_token->sign = (char)byte;
        ret_token->text = bytes_of(s->text.data + s->at, size);
        s->at += size;
        return true;
    }
    return take_word(s, ret_token);
}

static bool is_sign(const struct token *token, char sign)
{
    return token->kind == TOKEN_SIGN && token->sign == sign;
}

static bool is_value(const struct token *token)
{
    return token->kind == TOKEN_WORD || token->kind == TOKEN_STRING;
}

static bool is_instance(const struct token *name)
{
    return bytes_equal_text(name->text, "instance");
}

// The inner section of this name, NULL when there is none.
static const char *inner_of(const struct token *name)
{
    return bytes_equal_text(name->text, "cache")    ? "cache"
           : bytes_equal_text(name->text, "consul") ? "consul"
                                                    : NULL;
}

static bool in_cache(const struct scanner *s) { return s->inner != NULL && s->section >= 0; }
static bool in_consul(const struct scanner *s) { return s->inner != NULL && s->section < 0; }

// Where the line of the inner section `name` is kept.
static unsigned *line_of_inner(struct scanner *s)
{
    return s->section == CONFIG_TOP ? &s->scan->consul_line
                                    : &s->scan->sections[s->section].cache_line;
}

// Takes a token out of what libconfuse sees.
static void hide(struct scanner *s, const struct token *token)
{
    memset(s->scan->clean + (token->text.data - s->text.data), ' ', token->text.size);
}

static void on_close(struct scanner *s, const struct token *token)
{
    if (s->inner != NULL) {
        hide(s, token);
        s->inner = NULL;
        return;
    }
    if (s->section == CONFIG_TOP) {
        FAIL(s, token->line, "this '}' closes nothing");
    }
    s->section = CONFIG_TOP;
}

static void on_name(struct scanner *s, const struct token *token)
{
    if (is_sign(token, '}')) {
        on_close(s, token);
        return;
    }
    if (token->kind != TOKEN_WORD) {
        FAIL(s, token->line, "the name of an option must stand here, not %.*s", SHOW(token->text));
        return;
    }
    s->name = *token;
    s->expecting = EXPECT_EQUALS;
}

static struct option_scope scope_here(const struct scanner *s)
{
    return in_consul(s)               ? option_scope_consul()
           : s->section == CONFIG_TOP ? option_scope_node()
           : in_cache(s)              ? option_scope_cache()
                                      : option_scope_instance();
}

static void unknown_option(struct scanner *s)
{
    struct bytes name = s->name.text;
    const char *elsewhere = NULL;
    if (option_find(option_scope_node(), name) != NULL) {
        elsewhere = in_consul(s) ? "outside of consul { ... }" : "outside of instance { ... }";
    } else if (option_find(option_scope_instance(), name) != NULL) {
        elsewhere = in_cache(s) ? "outside of cache { ... }" : "inside an instance { ... }";
    } else if (option_find(option_scope_cache(), name) != NULL) {
        elsewhere = "inside the cache { ... } of an instance { ... }";
    } else if (option_find(option_scope_consul(), name) != NULL) {
        elsewhere = "inside consul { ... }";
    }
    if (elsewhere != NULL) {
        FAIL(s, s->name.line, "option '%.*s' belongs %s", SHOW(name), elsewhere);
        return;
    }
    const char *nearest = option_nearest(scope_here(s), name);
    if (nearest != NULL) {
        FAIL(s, s->name.line, "unknown option '%.*s', did you mean '%s'?", SHOW(name), nearest);
    } else {
        FAIL(s, s->name.line, "unknown option '%.*s' (qsd --help lists all)", SHOW(name));
    }
}

static void on_option(struct scanner *s, bool append)
{
    s->row = option_find(scope_here(s), s->name.text);
    if (s->row == NULL) {
        unknown_option(s);
        return;
    }
    unsigned before = config_scan_line(s->scan, s->section, s->row);
    if (append && !option_is_list(s->row)) {
        FAIL(s, s->name.line, "option '%s' takes one value, '+=' is for lists", s->row->name);
    } else if (before != 0 && !append) {
        FAIL(s, s->name.line, "option '%s' is given twice, first on line %u", s->row->name, before);
    }
    struct config_scan *scan = s->scan;
    scan->places = mem_realloc(scan->places, (scan->place_count + 1) * sizeof *scan->places);
    scan->places[scan->place_count++] =
        (struct config_place){.instance = s->section, .row = s->row, .line = s->name.line};
    s->expecting = EXPECT_VALUE;
}

static bool instance_name_fits(struct bytes name)
{
    for (size_t i = 0; i < name.size; i++) {
        int byte = name.data[i];
        if (!((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-')) {
            return false;
        }
    }
    return name.size >= 1 && name.size <= INSTANCE_NAME_MAX;
}

static void on_instance(struct scanner *s, const struct token *token)
{
    struct config_scan *scan = s->scan;
    if (in_consul(s)) {
        FAIL(s, s->name.line, "an instance inside consul { ... }: the '{' of line %u is not closed",
             scan->consul_line);
        return;
    }
    if (s->section != CONFIG_TOP) {
        FAIL(s, s->name.line, "an instance inside an instance: the '{' of line %u is not closed",
             scan->sections[s->section].line);
        return;
    }
    struct bytes name = token->text;
    if (token->kind == TOKEN_STRING) {
        name = bytes_of(name.data + 1, name.size - 2);
    }
    if (!instance_name_fits(name)) {
        FAIL(s, token->line, "instance name '%.*s' must be 1 to %d of a-z, 0-9 and '-'", SHOW(name),
             INSTANCE_NAME_MAX);
        return;
    }
    for (size_t i = 0; i < scan->section_count; i++) {
        if (bytes_equal_text(name, scan->sections[i].name)) {
            FAIL(s, token->line, "instance '%s' is there twice, first on line %u",
                 scan->sections[i].name, scan->sections[i].line);
            return;
        }
    }
    scan->sections =
        mem_realloc(scan->sections, (scan->section_count + 1) * sizeof *scan->sections);
    struct config_section *section = &scan->sections[scan->section_count++];
    *section = (struct config_section){.line = s->name.line};
    memcpy(section->name, name.data, name.size);
    s->expecting = EXPECT_OPEN;
}

// A '{' after a name.
static void on_section(struct scanner *s, const struct token *token)
{
    const char *inner = inner_of(&s->name);
    if (inner == NULL) {
        FAIL(s, s->name.line, "unknown section '%.*s', there are only consul { ... }, instance "
                              "NAME { ... } and, in it, cache { ... }",
             SHOW(s->name.text));
        return;
    }
    bool at_top = strcmp(inner, "consul") == 0;
    if (s->inner != NULL || (s->section == CONFIG_TOP) != at_top) {
        FAIL(s, s->name.line, at_top ? "section 'consul' belongs outside of all others"
                                     : "section 'cache' belongs directly inside an instance "
                                       "{ ... }");
        return;
    }
    unsigned *line = line_of_inner(s);
    if (*line != 0) {
        FAIL(s, s->name.line, "section '%s' is there twice, first on line %u", inner, *line);
        return;
    }
    *line = s->name.line;
    hide(s, &s->name);
    hide(s, token);
    s->inner = inner;
    s->expecting = EXPECT_NAME;
}

static void on_equals(struct scanner *s, const struct token *token)
{
    if (is_sign(token, '=') || is_sign(token, '+')) {
        if (is_instance(&s->name) || inner_of(&s->name) != NULL) {
            FAIL(s, s->name.line, "%.*s is a section: %.*s%s { ... }", SHOW(s->name.text),
                 SHOW(s->name.text), is_instance(&s->name) ? " NAME" : "");
            return;
        }
        on_option(s, token->sign == '+');
    } else if (is_instance(&s->name) && is_value(token)) {
        on_instance(s, token);
    } else if (is_instance(&s->name)) {
        FAIL(s, s->name.line, "an instance needs a name: instance NAME { ... }");
    } else if (is_sign(token, '{')) {
        on_section(s, token);
    } else if (is_value(token) && token->line == s->name.line && s->section == CONFIG_TOP &&
               option_find(option_scope_node(), s->name.text) == NULL) {
        FAIL(s, s->name.line, "'%.*s' is neither an option nor the word instance",
             SHOW(s->name.text));
    } else {
        FAIL(s, s->name.line, "'=' is missing after '%.*s'", SHOW(s->name.text));
    }
}

static void on_open(struct scanner *s, const struct token *token)
{
    if (!is_sign(token, '{')) {
        FAIL(s, s->name.line, "'{' is missing after the name of the instance");
        return;
    }
    s->section = (int)s->scan->section_count - 1;
    s->expecting = EXPECT_NAME;
}

static void on_value(struct scanner *s, const struct token *token)
{
    bool opens = is_sign(token, '{');
    if (token->line != s->name.line || !(opens || is_value(token))) {
        FAIL(s, s->name.line, "the value of '%s' is missing, it must begin on this line",
             s->row->name);
    } else if (opens && !option_is_list(s->row)) {
        FAIL(s, token->line, "option '%s' takes one value, not a list", s->row->name);
    }
    s->list_line = token->line;
    s->expecting = opens ? EXPECT_ITEM : EXPECT_NAME;
}

static void on_list(struct scanner *s, const struct token *token)
{
    if (is_sign(token, '}')) {
        s->expecting = EXPECT_NAME;
    } else if (s->expecting == EXPECT_ITEM && is_value(token)) {
        s->expecting = EXPECT_SEPARATOR;
    } else if (s->expecting == EXPECT_SEPARATOR && is_sign(token, ',')) {
        s->expecting = EXPECT_ITEM;
    } else if (token->line != s->list_line) {
        FAIL(s, s->list_line, "the list that opens here is not closed before line %u", token->line);
    } else {
        FAIL(s, token->line,
             "in a list, ',' must stand between values and '}' at the end, not %.*s",
             SHOW(token->text));
    }
}

static void on_end(struct scanner *s)
{
    if (s->expecting == EXPECT_ITEM || s->expecting == EXPECT_SEPARATOR) {
        FAIL(s, s->list_line, "the list that opens here is not closed");
    } else if (s->expecting != EXPECT_NAME) {
        FAIL(s, s->name.line, "the file ends after '%.*s'", SHOW(s->name.text));
    } else if (s->inner != NULL) {
        FAIL(s, *line_of_inner(s), "the section that opens here is not closed: its '}' is missing");
    } else if (s->section != CONFIG_TOP) {
        FAIL(s, s->scan->sections[s->section].line, "the instance that opens here is not closed: "
                                                    "its '}' is missing");
    }
}

static void on_token(struct scanner *s, const struct token *token)
{
    switch (s->expecting) {
    case EXPECT_NAME:
        on_name(s, token);
        break;
    case EXPECT_EQUALS:
        on_equals(s, token);
        break;
    case EXPECT_OPEN:
        on_open(s, token);
        break;
    case EXPECT_VALUE:
        on_value(s, token);
        break;
    case EXPECT_ITEM:
    case EXPECT_SEPARATOR:
        on_list(s, token);
        break;
    }
}

// A zero byte would end the text early, wherever it stands.
static void refuse_zero(struct bytes text, struct config_fault *fault)
{
    unsigned line = 1;
    for (size_t i = 0; i < text.size && fault->text == NULL; i++) {
        line += text.data[i] == '\n';
        if (text.data[i] == 0) {
            config_fail(fault, line, "a zero byte; is this a text file?");
        }
    }
}

bool config_scan(struct config_scan *scan, struct bytes text, struct config_fault *fault)
{
    *scan = (struct config_scan){.clean = mem_alloc(text.size + 1)};
    if (text.size > 0) {
        memcpy(scan->clean, text.data, text.size);
    }
    scan->clean[text.size] = '\0';
    struct scanner scanner = {
        .scan = scan, .fault = fault, .text = text, .line = 1, .section = CONFIG_TOP};
    refuse_zero(text, fault);
    struct token token;
    bool more = fault->text == NULL;
    while (more && take_token(&scanner, &token) && token.kind != TOKEN_END) {
        on_token(&scanner, &token);
        more = fault->text == NULL;
    }
    if (fault->text == NULL) {
        on_end(&scanner);
    }
    return fault->text == NULL;
}

void config_scan_free(struct config_scan *scan)
{
    mem_free(scan->clean);
    mem_free(scan->sections);
    mem_free(scan->places);
    *scan = (struct config_scan){0};
}

unsigned config_scan_line(const struct config_scan *scan, int instance,
                          const struct option_row *row)
{
    for (size_t i = 0; i < scan->place_count; i++) {
        if (scan->places[i].instance == instance && scan->places[i].row == row) {
            return scan->places[i].line;
        }
    }
    return 0;
}
