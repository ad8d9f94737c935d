// SPDX-License-Identifier: Apache-2.0
// A library to be preloaded into qsd by tests of its start: every listen() takes its time, so that
// the order in which the doors open can be seen from outside. Any thread.
#include <dlfcn.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

int listen(int fd, int backlog)
{
    int (*real)(int, int) = (int (*)(int, int))(intptr_t)dlsym(RTLD_NEXT, "listen");
    nanosleep(&(struct timespec){.tv_nsec = 300 * 1000 * 1000}, NULL);
    return real(fd, backlog);
}
