// SPDX-License-Identifier: Apache-2.0
// Says when an instance's data has grown old: older than `alarm_age`, until it is half as old. Data
// whose age nobody has told counts from the last moment at which it was known. In the log, in
// the metric `age_alarm`, and from there in the status, on /healthz and in the census. Part of
// struct follow, on its loop.
#ifndef QS_COMMON_TREE_AGE_ALARM_H
#define QS_COMMON_TREE_AGE_ALARM_H

#include "common/io/loop.h"

struct follow;

struct age_alarm {
    struct timer timer;
    uint64_t known_ns; // when the age was known last, or this began
    uint64_t raised_ns; // 0: it is not raised
};

// Is the alarm on with data of this age, given that it was on before or not? Pure.
bool age_alarm_holds(bool before, uint64_t age_ns, uint64_t limit_ns);

void age_alarm_open(struct follow *follow);
void age_alarm_close(struct follow *follow);

#endif
