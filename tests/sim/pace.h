// SPDX-License-Identifier: Apache-2.0
// How large a simulated world may be and how it treats its nodes. A campaign wants small trees and
// a hostile machine: threads that wake late, receives and sends cut short. A run at size (SIM_SIZE;
// tests/sim/size) wants many nodes on a machine as one is.
#ifndef QS_TESTS_SIM_PACE_H
#define QS_TESTS_SIM_PACE_H

#ifdef SIM_SIZE
#define NODES_MAX 5000
#define HOSTS_MAX NODES_MAX
#define PLACES_MAX 300
#define FD_MAX 131072
#define QUEUE_MAX 262144
#define WATCHES_MAX 512
#define CHUNKS_MAX 128
#define TOUCH_NS 0 // the clock is everybody's
#define TURN_MAX_NS (NS_PER_MS / 5)
#define WAKE_MAX_NS (NS_PER_MS / 5)
#define COMPRESS_PERMILLE 1000
#define SHORT_SEND_PERMILLE 0
#define SHORT_RECEIVE_PERMILLE 0
#else
#define NODES_MAX 16
#define HOSTS_MAX 16
#define PLACES_MAX HOSTS_MAX // where latencies and blocks are between
#define FD_MAX 8192
#define QUEUE_MAX 4096       // actors that wait for their time
#define WATCHES_MAX 128      // of one loop
#define CHUNKS_MAX 64        // under way in one direction of a connection
#define TOUCH_NS 500         // what a touch of the disk takes
#define TURN_MAX_NS (4 * NS_PER_MS) // until a loop runs that has something to do
#define WAKE_MAX_NS (4 * NS_PER_MS) // ... a worker
#define COMPRESS_PERMILLE 150       // a large part of what a small block costs: now and then
#define SHORT_SEND_PERMILLE 200
#define SHORT_RECEIVE_PERMILLE 300
#endif

#endif
