// SPDX-License-Identifier: Apache-2.0
// Socket addresses as they stand in configuration: host:port, [v6]:port, unix:/path. Numbers and
// names that the system resolves without a network (localhost) only: looking names up blocks.
#ifndef QS_COMMON_IO_ADDRESS_H
#define QS_COMMON_IO_ADDRESS_H

#include <sys/socket.h>

#include "common/base/error.h"

struct address {
    struct sockaddr_storage storage;
    socklen_t length;
};

// *ret_reason (static memory) says what is wrong with the text.
int address_parse(struct address *ret_address, const char *text,
                  const char **ret_reason) MUST_CHECK;

// A listening, non-blocking, close-on-exec socket. A unix socket file that nobody listens on is
// replaced; one in use is refused as a port in use is. *ret_reason: static or strerror memory.
int address_listen(const struct address *address, int *ret_fd, const char **ret_reason) MUST_CHECK;

// Starts a connection; finished or not, the result shows when the socket becomes writable
// (address_connected). ERR_BUSY: a unix listener's queue is full, try again later.
int address_connect(const struct address *address, int *ret_fd) MUST_CHECK;
int address_connected(int fd) MUST_CHECK; // OK, or the connection's error

// The error that stands for the errno of a socket call: ERR_CLOSED, ERR_REFUSED, ERR_TIMEOUT,
// else as error_from_errno.
int address_error(int code);

// An address of every host (0.0.0.0, [::]) becomes that port at the host of `at`.
void address_at_host(struct address *address, const struct address *at);
// "127.0.0.1:7400" or "unix:/path"; with port 0 in the configuration, the port that was chosen.
#define ADDRESS_TEXT_BYTES 128
void address_text(const struct address *address, char *to);
int address_of_socket(int fd, struct address *ret_address) MUST_CHECK;
int address_of_peer(int fd, struct address *ret_address) MUST_CHECK;

#endif
