// SPDX-License-Identifier: Apache-2.0
// Reading, starting and answering on one connection; session.h has the order that is kept. A
// session is freed when its stream is closed and nothing is under way for it; until then its
// requests complete into nowhere. All on the session's loop, but what stands under clients->lock.
#include "qs/session.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "common/base/clock.h"
#include "qs/dispatch.h"
#include "qs/quick.h"

// The stream lets an incomplete request grow to this beyond request_bytes before it gives up; the
// parser refuses it earlier, with an answer.
#define IN_SLACK MIB
#define WORDS_MAX 1048576
#define INLINE_MAX 65536
// While a barrier holds the next command, receiving goes on up to here, so that the other side's
// end is noticed: a wait may be long.
#define BARRIER_BYTES (64 * KIB)
#define WORDS_KEPT 4096

// ---- starting ----------------------------------------------------------------------------------

bool session_ready(const struct session *session, bool quiet)
{
    return !session->full && session->barriers == 0 && session->cost < SESSION_COST_MAX &&
           (!quiet || session->writes == 0);
}

static size_t output_size(const struct session *session)
{
    return stream_pending(&session->stream) + session->held_bytes;
}

// Reading pauses at a limit and goes on at half of it.
static void look_full(struct session *session)
{
    const struct node_options *options = &session->daemon->config->node;
    size_t output = output_size(session);
    if (session->full) {
        session->full = session->request_count > options->pipeline_max / 2 ||
                        output > options->output_bytes / 2;
        return;
    }
    session->full =
        session->request_count >= options->pipeline_max || output >= options->output_bytes;
    if (session->full) {
        METRIC_ADD(&session->daemon->metrics, node, client_pauses, 1);
        stream_want_drained(&session->stream);
    }
}

static void run_words(struct session *session, const struct command *command, struct bytes data)
{
    struct client_loop *home = session->home;
    size_t count = resp_word_count(&session->parser);
    if (count > home->word_capacity) {
        home->words = mem_realloc(home->words, count * sizeof *home->words);
        home->word_capacity = count;
    }
    for (size_t i = 0; i < count; i++) {
        home->words[i] = resp_word(&session->parser, data, i);
    }
    dispatch(session, command, home->words, (unsigned)count);
    if (home->word_capacity > WORDS_KEPT) {
        mem_free(home->words);
        home->words = NULL;
        home->word_capacity = 0;
    }
}

// Answers what cannot be parsed, behind everything before it, and ends the connection.
static void run_malformed(struct session *session, int error)
{
    struct request *request = request_new(session);
    struct buf *to = request_out(request);
    if (error == ERR_PROTOCOL) {
        reply_error(to, "ERR %s", session->parser.error);
    } else {
        reply_error_code(to, error);
    }
    METRIC_ADD(&session->daemon->metrics, node, client_protocol_errors, 1);
    request->closes = true;
    session->ended = true;
    request_finish(request);
}

// Holds the next command back. A pause, too, but where it may be long.
static void block(struct session *session, bool quiet, size_t waiting_bytes)
{
    session->blocked = true;
    session->blocked_quiet = quiet;
    if (session->barriers == 0 || waiting_bytes >= BARRIER_BYTES) {
        stream_pause(&session->stream);
    }
}

// A command that comes while a stream has the connection: QUIT and RESET end the stream and run.
// False: it was refused.
static bool end_stream(struct session *session, const struct command *command)
{
    bool ends = command != NULL &&
                (strcmp(command->word, "QUIT") == 0 || strcmp(command->word, "RESET") == 0);
    if (ends) {
        session->streaming->cancel(session->streaming);
    } else {
        reply_error(stream_out(&session->stream), "ERR only QUIT and RESET are allowed here: this "
                                                  "connection is in a QS.WATCH");
        stream_wrote(&session->stream);
        METRIC_ADD(&session->daemon->metrics, node, commands, 1);
        METRIC_ADD(&session->daemon->metrics, node, command_errors, 1);
    }
    return ends;
}

// May the command start? If not it is held back, or refused (then *ret_refused is set).
static bool start_allowed(struct session *session, const struct command *command,
                          size_t waiting_bytes, bool *ret_refused)
{
    *ret_refused = session->streaming != NULL && !end_stream(session, command);
    if (*ret_refused) {
        return false;
    }
    bool quiet = dispatch_quiet(session, command);
    session->blocked_alone = dispatch_alone(session, command);
    if (session_ready(session, quiet) &&
        (!session->blocked_alone || list_empty(&session->requests))) {
        return true;
    }
    block(session, quiet, waiting_bytes);
    return false;
}

// Starts what may be started. Returns how many bytes it used.
static size_t run_data(struct session *session, struct bytes data)
{
    size_t used = 0;
    bool slow = false;
    while (used < data.size && !session->ended) {
        struct bytes rest = bytes_of(data.data + used, data.size - used);
        size_t quick = slow ? 0 : quick_run(session, rest, &slow);
        if (quick > 0) {
            used += quick;
            continue;
        }
        slow = false;
        look_full(session);
        if (session->full) {
            block(session, false, rest.size);
            break;
        }
        ssize_t size = resp_parse(&session->parser, rest);
        if (size == 0) {
            break;
        }
        if (size < 0) {
            run_malformed(session, (int)size);
            break;
        }
        if (resp_word_count(&session->parser) > 0) {
            const struct command *command = command_find(resp_word(&session->parser, rest, 0));
            bool refused;
            if (start_allowed(session, command, rest.size, &refused)) {
                run_words(session, command, rest);
            } else if (!refused) {
                break;
            }
        }
        used += (size_t)size;
    }
    return session->ended ? data.size : used;
}

static ssize_t on_data(struct stream *stream, struct bytes data)
{
    struct session *session = CONTAINER_OF(stream, struct session, stream);
    session->active_ns = loop_now_ns(session->home->loop);
    loop_expect(session->home->loop);
    if (session->blocked) {
        block(session, session->blocked_quiet, data.size);
        return 0;
    }
    return (ssize_t)run_data(session, data);
}

// ---- views -------------------------------------------------------------------------------------

static struct seen *seen_of(const struct session *session, const struct daemon_instance *at)
{
    return &session->seen[at - session->daemon->instances];
}

int session_view(struct session *session, struct daemon_instance *at, struct view **ret_view)
{
    struct view *view = instance_pin(at->instance);
    if (view == NULL) {
        return ERR_LOADING;
    }
    struct seen *seen = seen_of(session, at);
    if (seen->forks != 0 && seen->forks != view->forks + 1) {
        view_release(view);
        return ERR_FORKED;
    }
    seen->forks = view->forks + 1;
    *ret_view = view;
    return OK;
}

static bool shows(const struct view *view, const struct token *newest)
{
    return token_check(newest, view) == OK && view->place.index >= newest->index;
}

int session_pin(struct session *session, struct daemon_instance *at, struct view **ret_view)
{
    struct view *view;
    int code = session_view(session, at, &view);
    if (code == OK && !shows(view, &seen_of(session, at)->newest)) {
        view_release(view);
        return ERR_BEHIND;
    }
    if (code == OK) {
        *ret_view = view;
    }
    return code;
}

void session_wrote(struct session *session, struct daemon_instance *at,
                   const uint8_t history[HISTORY_ID_BYTES], uint64_t index)
{
    struct token *newest = &seen_of(session, at)->newest;
    if (newest->named && memcmp(newest->history, history, HISTORY_ID_BYTES) == 0) {
        newest->index = u64_max(newest->index, index);
        return;
    }
    *newest = (struct token){.index = index, .named = true};
    memcpy(newest->history, history, HISTORY_ID_BYTES);
}

bool session_owes(const struct session *session, const struct daemon_instance *at,
                  struct token *ret_newest)
{
    const struct token *newest = &seen_of(session, at)->newest;
    struct view *view = newest->named ? instance_pin(at->instance) : NULL;
    bool owes = view != NULL && !shows(view, newest);
    view_release(view);
    if (owes) {
        *ret_newest = *newest;
    }
    return owes;
}

bool session_forked(const struct session *session, const struct daemon_instance *at)
{
    unsigned seen = seen_of(session, at)->forks;
    return seen != 0 && seen != views_forks(&at->instance->views) + 1;
}

// ---- answers -----------------------------------------------------------------------------------

static void flush_answers(struct session *session)
{
    while (!list_empty(&session->requests)) {
        struct request *request = CONTAINER_OF(session->requests.next, struct request, node);
        if (!request->done) {
            if (request->turn != NULL) {
                request->turn(request);
            }
            return;
        }
        session->held_bytes -= request->reply.size;
        if (request->reply.size > 0 && !session->gone) {
            stream_write(&session->stream, buf_bytes(&request->reply));
        }
        bool closes = request->closes;
        request_free(request);
        if (closes && !session->gone) {
            stream_finish(&session->stream);
        }
    }
    if (session->finishing && !session->gone) {
        stream_finish(&session->stream);
    }
}

// Nothing may wait behind a closed connection: what is done is dropped in any order.
static void drop_answers(struct session *session)
{
    LIST_FOR_EACH(node, &session->requests) {
        struct request *request = CONTAINER_OF(node, struct request, node);
        if (request->done) {
            session->held_bytes -= request->reply.size;
            request_free(request);
        }
    }
}

// May the command that was held back be looked at again? What comes while a stream has the
// connection waits for room only.
static bool may_go_on(const struct session *session)
{
    if (session->streaming != NULL) {
        return !session->full;
    }
    return session_ready(session, session->blocked_quiet) &&
           (!session->blocked_alone || list_empty(&session->requests));
}

static void unblock(struct session *session)
{
    look_full(session);
    if (!session->blocked || !may_go_on(session)) {
        return;
    }
    session->blocked = false;
    // What is kept is handed over only after a pause.
    stream_pause(&session->stream);
    stream_resume(&session->stream);
}

void session_settle(struct session *session)
{
    if (session->gone) {
        if (session->holds > 0) {
            return; // the queue is being walked; it is settled afterwards
        }
        drop_answers(session);
        session_free_if_idle(session);
        return;
    }
    flush_answers(session);
    unblock(session);
}

// A client may end its side and still wait for its answers. Not for a barrier's: that may last, and
// whether anybody still listens cannot be seen.
static bool on_end(struct stream *stream)
{
    struct session *session = CONTAINER_OF(stream, struct session, stream);
    session->finishing = !list_empty(&session->requests) && session->barriers == 0;
    return session->finishing;
}

static void on_drained(struct stream *stream)
{
    session_settle(CONTAINER_OF(stream, struct session, stream));
}

// ---- life --------------------------------------------------------------------------------------

void session_free_if_idle(struct session *session)
{
    if (!session->gone || !list_empty(&session->requests)) {
        return;
    }
    struct clients *clients = session->clients;
    CHECK(session->writes == 0 && session->barriers == 0 && session->cost == 0);
    pthread_mutex_lock(&clients->lock);
    list_remove(&session->all_node);
    pthread_mutex_unlock(&clients->lock);
    list_remove(&session->node);
    resp_close(&session->parser);
    multi_clear(&session->multi);
    session_unwatch(session);
    mem_free(session->seen);
    mem_free(session->address);
    mem_free(session->local_address);
    METRIC_ADD(&session->daemon->metrics, node, clients, -1);
    atomic_fetch_sub(&clients->open, 1);
    mem_free(session);
    clients_drop(clients);
}

static void on_close(struct stream *stream, int error)
{
    struct session *session = CONTAINER_OF(stream, struct session, stream);
    if (error == ERR_REQUEST_SIZE) {
        METRIC_ADD(&session->daemon->metrics, node, client_protocol_errors, 1);
    }
    session->gone = true;
    loop_timer_clear(&session->idle);
    session->holds++;
    LIST_FOR_EACH(node, &session->requests) {
        struct request *request = CONTAINER_OF(node, struct request, node);
        if (!request->done && request->cancel != NULL) {
            request->cancel(request);
        }
    }
    session->holds--;
    session_settle(session);
}

static void on_idle(struct timer *timer)
{
    struct session *session = CONTAINER_OF(timer, struct session, idle);
    uint64_t limit = session->daemon->config->node.idle * NS_PER_MS;
    uint64_t now = loop_now_ns(session->home->loop);
    uint64_t silent = now - session->active_ns;
    if (silent >= limit && list_empty(&session->requests)) {
        session_close(session);
        return;
    }
    loop_timer_set(session->home->loop, timer, silent >= limit ? limit : limit - silent);
}

static char *address_of(int fd, bool peer)
{
    char text[ADDRESS_TEXT_BYTES] = "?";
    struct address address;
    int code = peer ? address_of_peer(fd, &address) : address_of_socket(fd, &address);
    if (code == OK) {
        address_text(&address, text);
    }
    return mem_text(text);
}

static void session_register(struct session *session)
{
    struct clients *clients = session->clients;
    session->id = atomic_fetch_add(&clients->next_id, 1) + 1;
    pthread_mutex_lock(&clients->lock);
    list_append(&clients->all, &session->all_node);
    pthread_mutex_unlock(&clients->lock);
    METRIC_ADD(&session->daemon->metrics, node, clients, 1);
    METRIC_ADD(&session->daemon->metrics, node, clients_accepted, 1);
}

void session_open(struct client_loop *home, int fd, struct daemon_instance *first)
{
    static const struct stream_ops ops = {
        .on_data = on_data, .on_drained = on_drained, .on_end = on_end, .on_close = on_close};
    struct clients *clients = home->clients;
    const struct node_options *options = &clients->daemon->config->node;
    struct session *session = mem_zalloc(sizeof *session);
    session->home = home;
    session->clients = clients;
    session->daemon = clients->daemon;
    session->first = first;
    session->seen = mem_zalloc(session->daemon->instance_count * sizeof *session->seen);
    session->fd = fd;
    session->active_ns = session->opened_ns = loop_now_ns(home->loop);
    session_set(session, first, 2);
    session->address = address_of(fd, true);
    session->local_address = address_of(fd, false);
    list_init(&session->requests);
    struct resp_limits limits = {
        .request_bytes = options->request_bytes, .words_max = WORDS_MAX, .inline_max = INLINE_MAX};
    resp_open(&session->parser, &limits);
    list_append(&home->sessions, &session->node);
    session_register(session);
    // Answers leave whole at the end of a turn; waiting for more would only delay them. A unix
    // socket refuses the option, rightly.
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    stream_open(&session->stream, home->loop, fd, options->request_bytes + IN_SLACK, &ops);
    timer_init(&session->idle, on_idle);
    if (options->idle > 0) {
        loop_timer_set(home->loop, &session->idle, options->idle * NS_PER_MS);
    }
}

void session_close(struct session *session) { stream_close(&session->stream, OK); }

// ---- CLIENT ------------------------------------------------------------------------------------

void session_set(struct session *session, struct daemon_instance *selected, int protocol)
{
    pthread_mutex_lock(&session->clients->lock);
    session->selected = selected;
    session->protocol = protocol;
    pthread_mutex_unlock(&session->clients->lock);
}

bool session_set_name(struct session *session, struct bytes name)
{
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] < '!' || name.data[i] > '~') {
            return false;
        }
    }
    if (name.size > CLIENT_NAME_MAX) {
        return false;
    }
    pthread_mutex_lock(&session->clients->lock);
    if (name.size > 0) {
        memcpy(session->name, name.data, name.size);
    }
    session->name[name.size] = 0;
    pthread_mutex_unlock(&session->clients->lock);
    return true;
}

void session_describe(const struct session *session, struct buf *to)
{
    uint64_t age = clock_mono_ns() - session->opened_ns;
    const struct daemon_instance *at = session->selected;
    buf_format(to, "id=%llu addr=%s laddr=%s fd=%d name=%s age=%llu db=%lld instance=%s "
                   "user=default resp=%d\n",
               (unsigned long long)session->id, session->address, session->local_address,
               session->fd, session->name, (unsigned long long)(age / NS_PER_S),
               at != NULL ? (long long)at->instance->options->number : -1LL,
               at != NULL ? at->instance->name : "", session->protocol);
}
