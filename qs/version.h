// SPDX-License-Identifier: Apache-2.0
// The versions that qs shows: its own in HELLO, INFO, status and `qsd --version`, and in INFO the
// Redis whose commands and error words it keeps.
#ifndef QS_QS_VERSION_H
#define QS_QS_VERSION_H

#define QS_VERSION "0.1.0"
#define REDIS_COMPATIBLE "7.0.15"

#endif
