// SPDX-License-Identifier: Apache-2.0
// Included before everything else in files whose memory outlives the processes that call them:
// what the store keeps on its disks belongs to the world.
#ifndef QS_TESTS_SIM_WORLD_MEMORY_H
#define QS_TESTS_SIM_WORLD_MEMORY_H

#define mem_alloc world_alloc
#define mem_zalloc world_zalloc
#define mem_realloc world_realloc
#define mem_copy world_copy
#define mem_text world_text

#endif
