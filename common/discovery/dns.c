// SPDX-License-Identifier: Apache-2.0
#include "common/discovery/dns.h"

#include <ares.h>
#include <sys/time.h>

#include "common/base/mem.h"

#define CLASS_IN 1
#define TYPE_SRV 33

struct dns {
    ares_channel channel;
    bool closing;
};

int dns_open(struct dns **ret_dns, const char *server, const char **ret_reason)
{
    static char lookups[] = "b"; // no file of hosts; c-ares copies it
    struct ares_options options = {
        .flags = ARES_FLAG_USEVC | ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_STAYOPEN,
        .timeout = DNS_TIMEOUT_MS,
        .tries = DNS_TRIES,
        .lookups = lookups,
    };
    struct dns *dns = mem_zalloc(sizeof *dns);
    int code = ares_library_init(ARES_LIB_INIT_ALL);
    if (code == ARES_SUCCESS) {
        code = ares_init_options(&dns->channel, &options,
                                 ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
                                     ARES_OPT_LOOKUPS);
    }
    if (code == ARES_SUCCESS) {
        code = ares_set_servers_ports_csv(dns->channel, server);
        if (code != ARES_SUCCESS) {
            ares_destroy(dns->channel);
        }
    }
    if (code != ARES_SUCCESS) {
        *ret_reason = ares_strerror(code);
        mem_free(dns);
        return ERR_IO;
    }
    *ret_dns = dns;
    return OK;
}

void dns_close(struct dns *dns)
{
    dns->closing = true;
    ares_destroy(dns->channel);
    mem_free(dns);
}

static int error_of(int status)
{
    switch (status) {
    case ARES_SUCCESS:
        return OK;
    case ARES_ENODATA:
    case ARES_ENOTFOUND:
        return ERR_NOT_FOUND;
    case ARES_ETIMEOUT:
        return ERR_TIMEOUT;
    default:
        return ERR_IO;
    }
}

static void on_answer(void *argument, int status, int timeouts, unsigned char *message, int size)
{
    (void)timeouts;
    struct dns_call *call = argument;
    call->busy = false;
    if (call->dns->closing) {
        return;
    }
    bool whole = status == ARES_SUCCESS && message != NULL && size > 0;
    int error = status == ARES_SUCCESS && !whole ? ERR_IO : error_of(status);
    call->answered(call, error, whole ? bytes_of(message, (size_t)size) : bytes_of(NULL, 0));
}

void dns_ask(struct dns *dns, struct dns_call *call, const char *name)
{
    CHECK(!call->busy);
    call->busy = true;
    call->dns = dns;
    ares_query(dns->channel, name, CLASS_IN, TYPE_SRV, on_answer, call);
}

unsigned dns_descriptors(struct dns *dns, struct pollfd to[DNS_DESCRIPTORS_MAX])
{
    ares_socket_t sockets[ARES_GETSOCK_MAXNUM];
    unsigned bits = (unsigned)ares_getsock(dns->channel, sockets, ARES_GETSOCK_MAXNUM), count = 0;
    // The macros of c-ares shift the last of its bits into the sign.
    for (unsigned i = 0; i < ARES_GETSOCK_MAXNUM && i < DNS_DESCRIPTORS_MAX; i++) {
        bool reads = bits >> i & 1u, writes = bits >> (i + ARES_GETSOCK_MAXNUM) & 1u;
        if (reads || writes) {
            to[count++] = (struct pollfd){
                .fd = sockets[i],
                .events = (short)((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)),
            };
        }
    }
    return count;
}

unsigned dns_timeout_ms(struct dns *dns, unsigned most_ms)
{
    struct timeval most = {.tv_sec = most_ms / 1000, .tv_usec = most_ms % 1000 * 1000}, room;
    const struct timeval *least = ares_timeout(dns->channel, &most, &room);
    return (unsigned)(least->tv_sec * 1000 + (least->tv_usec + 999) / 1000);
}

void dns_process(struct dns *dns, const struct pollfd *from, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        ares_socket_t none = ARES_SOCKET_BAD, fd = from[i].fd;
        if (from[i].revents != 0) {
            ares_process_fd(dns->channel, from[i].revents & POLLIN ? fd : none,
                            from[i].revents & POLLOUT ? fd : none);
        }
    }
    ares_process_fd(dns->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD); // what is too late
}
