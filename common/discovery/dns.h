// SPDX-License-Identifier: Apache-2.0
// Questions to one DNS server, over TCP only: over UDP Consul cuts its answers without saying so.
// A call is embedded in whoever asks, and answered once. One thread, which waits for the
// descriptors (consul_wait); nothing here blocks.
#ifndef QS_COMMON_DISCOVERY_DNS_H
#define QS_COMMON_DISCOVERY_DNS_H

#include <poll.h>

#include "common/base/bytes.h"
#include "common/base/error.h"

#define DNS_DESCRIPTORS_MAX 16
#define DNS_TIMEOUT_MS 500 // of a try
#define DNS_TRIES 2

struct dns;

struct dns_call {
    // OK: `message` is the whole answer, alive during the call. ERR_NOT_FOUND: the server knows no
    // such name, or no record of it. ERR_TIMEOUT, ERR_IO: nothing is known. It may ask again.
    void (*answered)(struct dns_call *call, int error, struct bytes message);
    bool busy;        // private, like all that follows
    struct dns *dns;
};

// `server` is host:port. *ret_reason: static memory.
int dns_open(struct dns **ret_dns, const char *server, const char **ret_reason) MUST_CHECK;
void dns_close(struct dns *dns); // calls under way are not answered any more, but must still exist

// Asks for the SRV records of `name`. The answer may come before it returns.
void dns_ask(struct dns *dns, struct dns_call *call, const char *name);

// What to wait for, and for how long at most.
unsigned dns_descriptors(struct dns *dns, struct pollfd to[DNS_DESCRIPTORS_MAX]);
unsigned dns_timeout_ms(struct dns *dns, unsigned most_ms);
// After the wait: gives the answers that have come, and those that will not.
void dns_process(struct dns *dns, const struct pollfd *from, unsigned count);

#endif
