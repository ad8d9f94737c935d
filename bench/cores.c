// SPDX-License-Identifier: Apache-2.0
#include "bench/cores.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/mem.h"

#define STAT_BYTES 1024

void cores_open(struct cores *cores)
{
    *cores = (struct cores){.count = 0};
    CHECK(sched_getaffinity(0, sizeof cores->all, &cores->all) == 0);
    for (unsigned core = 0; core < CPU_SETSIZE; core++) {
        if (CPU_ISSET(core, &cores->all)) {
            cores->first = cores->count++ == 0 ? core : cores->first;
            cores->last = core;
        }
    }
    CHECK(cores->count > 0);
}

static cpu_set_t only(unsigned core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    return set;
}

bool cores_pin(pid_t process, unsigned core)
{
    cpu_set_t set = only(core);
    char *path = mem_format("/proc/%d/task", (int)process);
    DIR *threads = opendir(path);
    mem_free(path);
    bool pinned = threads != NULL;
    for (const struct dirent *entry; pinned && (entry = readdir(threads)) != NULL;) {
        pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);
        // One that has ended meanwhile needs no core.
        pinned = thread == 0 || sched_setaffinity(thread, sizeof set, &set) == 0 ||
                 thread != process;
    }
    if (threads != NULL) {
        closedir(threads);
    }
    return pinned;
}

void cores_pin_self(unsigned core)
{
    cpu_set_t set = only(core);
    CHECK(sched_setaffinity(0, sizeof set, &set) == 0);
}

void cores_free_self(const struct cores *cores)
{
    CHECK(sched_setaffinity(0, sizeof cores->all, &cores->all) == 0);
}

uint64_t cores_used_ns(pid_t process)
{
    char *path = mem_format("/proc/%d/stat", (int)process);
    FILE *file = fopen(path, "re");
    mem_free(path);
    char text[STAT_BYTES + 1] = "";
    size_t size = file != NULL ? fread(text, 1, STAT_BYTES, file) : 0;
    text[size] = '\0';
    if (file != NULL) {
        fclose(file);
    }
    const char *name_end = strrchr(text, ')'); // the name may hold anything
    unsigned long long user = 0, kernel = 0;
    if (name_end == NULL ||
        sscanf(name_end + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &kernel) != 2) {
        return 0;
    }
    return (user + kernel) * (NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
}
