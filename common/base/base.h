// SPDX-License-Identifier: Apache-2.0
// What every file may use: compiler attributes, always-on checks, small arithmetic.
//
// A CHECK guards what the code itself promises: when it fails the program has a bug, prints the
// place and aborts, in release builds too. It is never used for what a peer, a client, a disk or
// a file may do: those are errors (common/base/error.h).
#ifndef QS_COMMON_BASE_BASE_H
#define QS_COMMON_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define NORETURN __attribute__((noreturn))
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))
#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

#define KIB ((uint64_t)1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define NS_PER_US ((uint64_t)1000)
#define NS_PER_MS ((uint64_t)1000000)
#define NS_PER_S ((uint64_t)1000000000)

#define CHECK(condition)                                                                           \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, __func__, #condition))

// Prints the place and the condition to standard error and aborts.
NORETURN void check_failed(const char *file, int line, const char *function, const char *condition);

static inline uint64_t u64_min(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t u64_max(uint64_t a, uint64_t b) { return a > b ? a : b; }

#endif
