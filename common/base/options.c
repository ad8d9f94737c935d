// SPDX-License-Identifier: Apache-2.0
// The words of the options' enums that other modules show: pure functions over constants, for
// any thread. Reading the configuration file is qs/config.c's.
#include "common/base/options.h"

const char *role_text(int role)
{
    switch (role) {
    case ROLE_ROOT:
        return "root";
    case ROLE_REPLICA:
        return "replica";
    case ROLE_PROXY:
        return "proxy";
    default:
        return "unknown";
    }
}
