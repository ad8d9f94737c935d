// SPDX-License-Identifier: Apache-2.0
// The configuration file: read once, checked whole, immutable afterwards.
#ifndef QS_QS_CONFIG_H
#define QS_QS_CONFIG_H

#include "common/base/buf.h"
#include "common/base/options.h"

struct config {
    struct node_options node;
    struct consul_options consul;
    struct instance_options *instances;
    size_t instance_count;
    // Private: what the options point into.
    struct config_memory *memory;
};

// Reads and checks `path`. On failure ERR_CONFIG and *ret_message (from mem_alloc) holds one line
// "FILE:LINE: what is wrong" with the true line.
int config_read(struct config **ret_config, const char *path, char **ret_message) MUST_CHECK;
void config_free(struct config *config);

// All options with type, bounds, default and help: for `qsd --help` and docs/options.md.
void config_help(struct buf *to);
void config_reference(struct buf *to); // Markdown

// "name", "value" pairs for CONFIG GET: node options, and instance options as `instance.option`.
// Calls `each` for every option; the texts live during the call.
void config_each(const struct config *config,
                 void (*each)(void *argument, const char *name, const char *value), void *argument);

#endif
