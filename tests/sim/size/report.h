// SPDX-License-Identifier: Apache-2.0
// What a run of a large tree has shown: a table in Markdown, and a file of points for the picture.
#ifndef QS_TESTS_SIM_SIZE_REPORT_H
#define QS_TESTS_SIM_SIZE_REPORT_H

#include "tests/sim/size/trial.h"

void report_print(const struct trial_setup *setup, const struct trial *trial); // to stdout
// Lines of words: `delay us permille`, `node depth slowest_us p99_us`, `heal number ms lone late`.
// False: it could not be written, said on standard error.
bool report_points(const char *path, const struct trial *trial) MUST_CHECK;

#endif
