// SPDX-License-Identifier: Apache-2.0
// QS.MAP: gives the descriptors of the memory that an instance shares. They leave with their answer
// in one message, so nothing may be waiting to be sent before it.
#include "common/core/display.h"
#include "common/io/address.h"
#include "qs/dispatch.h"

static bool is_local(const struct session *session)
{
    struct address address;
    return address_of_socket(session->fd, &address) == OK &&
           address.storage.ss_family == AF_UNIX;
}

static void give(struct request *request, struct buf *to)
{
    struct instance *instance = request->at->instance;
    if (!is_local(request->session)) {
        reply_error(to, "ERR memory is shared over unix sockets only");
        return;
    }
    if (!instance->options->share_memory) {
        reply_error(to, "ERR no memory is shared here: share_memory is not set");
        return;
    }
    int fds[LOOK_FDS];
    unsigned count = display_fds(instance->display, request->view, fds);
    if (count == 0) {
        reply_error(to, "LOADING no memory is shared yet, as there is no data, or no memory");
        return;
    }
    struct buf text = {0};
    reply_integer(&text, count);
    int error = stream_send_fds(&request->session->stream, buf_bytes(&text), fds, count);
    buf_free(&text);
    if (error == OK) {
        METRIC_ADD(instance->metrics, instance, maps, 1);
    } else {
        reply_error_code(to, error);
    }
}

static void start_qs_map(struct request *request, struct call *call)
{
    (void)call;
    struct buf *to = request_out(request);
    if (request_pin(request, to)) {
        give(request, to);
    }
    request_finish(request);
}

const struct command_steps *command_qs_map(void)
{
    static const struct command_steps steps = {.start = start_qs_map, .alone = true};
    return &steps;
}
