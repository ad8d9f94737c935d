// SPDX-License-Identifier: Apache-2.0
// Redis's glob patterns with bounded work: every element but `*` matches exactly one byte, so it is
// enough to come back to the last `*` (an earlier one could gain nothing): at most pattern x text
// steps, where a matcher that tries all stars needs exponentially many.
#include "common/wire/resp.h"

// Does the class at pattern[at], which begins behind its '[', hold `byte`? *ret_next is the place
// behind the class. An unclosed class ends with the pattern, as in Redis.
static bool class_match(struct bytes pattern, size_t at, uint8_t byte, size_t *ret_next)
{
    const uint8_t *p = pattern.data;
    bool inverted = at < pattern.size && p[at] == '^';
    at += inverted ? 1 : 0;
    bool found = false;
    while (at < pattern.size && p[at] != ']') {
        size_t left = pattern.size - at;
        if (p[at] == '\\' && left >= 2) {
            found = found || p[at + 1] == byte;
            at += 2;
        } else if (left >= 3 && p[at + 1] == '-') {
            uint8_t low = p[at] < p[at + 2] ? p[at] : p[at + 2];
            uint8_t high = p[at] < p[at + 2] ? p[at + 2] : p[at];
            found = found || (byte >= low && byte <= high);
            at += 3;
        } else {
            found = found || p[at] == byte;
            at++;
        }
    }
    *ret_next = at < pattern.size ? at + 1 : at;
    return found != inverted;
}

// Does the element at pattern[at] match `byte`? *ret_next is the place behind the element.
static bool element_match(struct bytes pattern, size_t at, uint8_t byte, size_t *ret_next)
{
    uint8_t first = pattern.data[at];
    if (first == '[') {
        return class_match(pattern, at + 1, byte, ret_next);
    }
    if (first == '\\' && at + 1 < pattern.size) {
        *ret_next = at + 2;
        return pattern.data[at + 1] == byte;
    }
    *ret_next = at + 1;
    return first == '?' || first == byte;
}

bool glob_match(struct bytes pattern, struct bytes text)
{
    size_t p = 0;
    size_t t = 0;
    bool starred = false;
    size_t star_p = 0; // behind the last star
    size_t star_t = 0; // where its match ends so far
    while (t < text.size) {
        size_t next = p;
        if (p < pattern.size && pattern.data[p] == '*') {
            starred = true;
            star_p = ++p;
            star_t = t;
        } else if (p < pattern.size && element_match(pattern, p, text.data[t], &next)) {
            p = next;
            t++;
        } else if (starred) {
            p = star_p;
            t = ++star_t;
        } else {
            return false;
        }
    }
    while (p < pattern.size && pattern.data[p] == '*') {
        p++;
    }
    return p == pattern.size;
}
