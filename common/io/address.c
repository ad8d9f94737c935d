// SPDX-License-Identifier: Apache-2.0
// Addresses: from text and to text, listening, connecting.
//
// Nothing here blocks or asks a name server: a host is a number, or "localhost". All sockets are
// non-blocking and close-on-exec; those of TCP send without delay (writes are coalesced above)
// and probe an idle other side; accepted ones inherit both from their listener. Any thread.
#include "common/io/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/bytes.h"

#define UNIX_PREFIX "unix:"
#define HOST_BYTES 64
#define PORT_LIMIT 65535u

static int refuse(const char **ret_reason, const char *reason)
{
    *ret_reason = reason;
    return ERR_CONFIG;
}

static int parse_unix(struct address *ret_address, const char *path, const char **ret_reason)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (path[0] != '/') {
        return refuse(ret_reason, "the path of a unix socket must begin with /");
    }
    if (length >= sizeof name.sun_path) {
        return refuse(ret_reason, "the path of a unix socket is longer than 107 bytes");
    }
    memcpy(name.sun_path, path, length + 1);
    *ret_address = (struct address){0};
    memcpy(&ret_address->storage, &name, sizeof name);
    ret_address->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    return OK;
}

static int parse_port(const char *text, in_port_t *ret_port, const char **ret_reason)
{
    unsigned port = 0;
    size_t digits = 0;
    for (; text[digits] >= '0' && text[digits] <= '9' && port <= PORT_LIMIT; digits++) {
        port = port * 10 + (unsigned)(text[digits] - '0');
    }
    if (digits == 0 || text[digits] != '\0' || port > PORT_LIMIT) {
        return refuse(ret_reason, "the port must be a number from 0 to 65535");
    }
    *ret_port = htons((uint16_t)port);
    return OK;
}

static int parse_host(struct address *address, const char *host, bool bracketed, in_port_t port,
                      const char **ret_reason)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = port};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = port};
    if (!bracketed && strcmp(host, "localhost") == 0) {
        host = "127.0.0.1";
    }
    if (bracketed && inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
        memcpy(&address->storage, &v6, sizeof v6);
        address->length = sizeof v6;
    } else if (!bracketed && inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(&address->storage, &v4, sizeof v4);
        address->length = sizeof v4;
    } else if (bracketed) {
        return refuse(ret_reason, "what stands in [ ] is no IPv6 address");
    } else {
        return refuse(ret_reason, "the host must be an IPv4 address, an IPv6 address in [ ], or "
                                  "localhost");
    }
    return OK;
}

int address_parse(struct address *ret_address, const char *text, const char **ret_reason)
{
    size_t prefix = sizeof UNIX_PREFIX - 1;
    if (strncmp(text, UNIX_PREFIX, prefix) == 0) {
        return parse_unix(ret_address, text + prefix, ret_reason);
    }
    bool bracketed = text[0] == '[';
    const char *host = bracketed ? text + 1 : text;
    const char *end = strchr(host, bracketed ? ']' : ':');
    const char *colon = end == NULL ? NULL : bracketed ? end + 1 : end;
    if (colon == NULL || *colon != ':') {
        return refuse(ret_reason, "an address is host:port, [IPv6]:port or unix:/path");
    }
    char name[HOST_BYTES];
    size_t length = (size_t)(end - host);
    if (length == 0 || length >= sizeof name) {
        return refuse(ret_reason, "the host is empty or too long");
    }
    memcpy(name, host, length);
    name[length] = '\0';
    if (!bracketed && strchr(colon + 1, ':') != NULL) {
        return refuse(ret_reason, "an IPv6 address must stand in [ ]");
    }
    in_port_t port;
    int error = parse_port(colon + 1, &port, ret_reason);
    if (error != OK) {
        return error;
    }
    struct address address = {0};
    error = parse_host(&address, name, bracketed, port, ret_reason);
    if (error == OK) {
        *ret_address = address;
    }
    return error;
}

static const struct sockaddr *name_of(const struct address *address)
{
    return (const struct sockaddr *)&address->storage;
}

static void set_option(int fd, int level, int option)
{
    // Not every kind of socket has every option; none of them is needed for correctness.
    int one = 1;
    if (setsockopt(fd, level, option, &one, sizeof one) != 0) {
        return;
    }
}

static int open_socket(const struct address *address)
{
    int family = address->storage.ss_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && family != AF_UNIX) {
        set_option(fd, IPPROTO_TCP, TCP_NODELAY);
        set_option(fd, SOL_SOCKET, SO_KEEPALIVE);
    }
    return fd;
}

// True when the file at a unix address is a socket that nobody listens on.
static bool is_stale(const struct address *address)
{
    struct sockaddr_un name;
    memcpy(&name, &address->storage, sizeof name);
    struct stat status;
    if (lstat(name.sun_path, &status) != 0 || !S_ISSOCK(status.st_mode)) {
        return false;
    }
    int fd = open_socket(address);
    if (fd < 0) {
        return false;
    }
    // A full queue (EAGAIN) is a sign of life too.
    bool refused = connect(fd, name_of(address), address->length) != 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

static int bind_socket(int fd, const struct address *address)
{
    int code = bind(fd, name_of(address), address->length);
    if (code != 0 && errno == EADDRINUSE && address->storage.ss_family == AF_UNIX) {
        bool stale = is_stale(address);
        errno = EADDRINUSE;
        if (stale) {
            struct sockaddr_un name;
            memcpy(&name, &address->storage, sizeof name);
            unlink(name.sun_path);
            code = bind(fd, name_of(address), address->length);
        }
    }
    return code;
}

int address_listen(const struct address *address, int *ret_fd, const char **ret_reason)
{
    int fd = open_socket(address);
    if (fd >= 0 && address->storage.ss_family != AF_UNIX) {
        set_option(fd, SOL_SOCKET, SO_REUSEADDR);
    }
    // Without it [::] would take the port of 0.0.0.0 too, and both could not be configured.
    if (fd >= 0 && address->storage.ss_family == AF_INET6) {
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    }
    if (fd < 0 || bind_socket(fd, address) != 0 || listen(fd, SOMAXCONN) != 0) {
        int code = errno;
        if (fd >= 0) {
            close(fd);
        }
        *ret_reason = strerrordesc_np(code);
        return ERR_IO;
    }
    *ret_fd = fd;
    return OK;
}

int address_connect(const struct address *address, int *ret_fd)
{
    int fd = open_socket(address);
    if (fd < 0) {
        return address_error(errno);
    }
    if (connect(fd, name_of(address), address->length) != 0 && errno != EINPROGRESS) {
        int code = errno;
        close(fd);
        // Nothing is under way then: a unix socket does not wait for room in the queue.
        return code == EAGAIN ? ERR_BUSY : address_error(code);
    }
    *ret_fd = fd;
    return OK;
}

int address_connected(int fd)
{
    int code = 0;
    socklen_t length = sizeof code;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) != 0) {
        code = errno;
    }
    return code == 0 ? OK : address_error(code);
}

int address_error(int code)
{
    switch (code) {
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
        return ERR_CLOSED;
    case ECONNREFUSED:
    case ENOENT: // no such unix socket
        return ERR_REFUSED;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    default:
        return error_from_errno(code);
    }
}

static void unix_text(const struct address *address, char *to)
{
    struct sockaddr_un name;
    memcpy(&name, &address->storage, sizeof name);
    size_t head = offsetof(struct sockaddr_un, sun_path);
    size_t length = address->length > head ? address->length - head : 0;
    // A name outside the file system begins with a zero byte and is shown with @.
    const char *at = length > 0 && name.sun_path[0] == '\0' ? "@" : "";
    size_t skip = *at == '@' ? 1 : 0;
    int shown = (int)strnlen(name.sun_path + skip, length - skip);
    snprintf(to, ADDRESS_TEXT_BYTES, UNIX_PREFIX "%s%.*s", at, shown, name.sun_path + skip);
}

void address_at_host(struct address *address, const struct address *at)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address->storage;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address->storage;
    bool any4 = v4->sin_family == AF_INET && v4->sin_addr.s_addr == htonl(INADDR_ANY);
    bool any6 = v6->sin6_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr);
    in_port_t port = any4 ? v4->sin_port : v6->sin6_port;
    if (!any4 && !any6) {
        return;
    }
    *address = *at;
    if (at->storage.ss_family == AF_INET) {
        ((struct sockaddr_in *)&address->storage)->sin_port = port;
    } else if (at->storage.ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)&address->storage)->sin6_port = port;
    }
}

void address_text(const struct address *address, char *to)
{
    char host[INET6_ADDRSTRLEN] = "";
    if (address->storage.ss_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, &address->storage, sizeof v4);
        inet_ntop(AF_INET, &v4.sin_addr, host, sizeof host);
        snprintf(to, ADDRESS_TEXT_BYTES, "%s:%u", host, ntohs(v4.sin_port));
    } else if (address->storage.ss_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, &address->storage, sizeof v6);
        inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof host);
        snprintf(to, ADDRESS_TEXT_BYTES, "[%s]:%u", host, ntohs(v6.sin6_port));
    } else {
        unix_text(address, to);
    }
}

int address_of_socket(int fd, struct address *ret_address)
{
    struct address address = {.length = sizeof address.storage};
    if (getsockname(fd, (struct sockaddr *)&address.storage, &address.length) != 0) {
        return address_error(errno);
    }
    *ret_address = address;
    return OK;
}

int address_of_peer(int fd, struct address *ret_address)
{
    struct address address = {.length = sizeof address.storage};
    if (getpeername(fd, (struct sockaddr *)&address.storage, &address.length) != 0) {
        return address_error(errno);
    }
    *ret_address = address;
    return OK;
}
