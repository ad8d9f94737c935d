// SPDX-License-Identifier: Apache-2.0
#include "bench/rivals.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/conn.h"
#include "bench/etcd.h"
#include "bench/nodes.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define START_LIMIT_NS (30 * NS_PER_S)
#define POLL_NS NS_PER_MS
#define WORDS_MAX 32
// Of memcached: what an item needs besides key and value, slabs that do not fit it included, and
// what is there anyway.
#define ITEM_BYTES 160
#define LEAST_BYTES (256 * MIB)

// ---- processes ----------------------------------------------------------------------------------

// In the child; never returns. A process group of its own: Ctrl-C ends the experiment first.
static void become(char *const *words, const char *log, pid_t parent)
{
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 ||
        getppid() != parent || setpgid(0, 0) != 0) {
        _exit(1);
    }
    execvp(words[0], words);
    perror(words[0]);
    _exit(1);
}

// The program's words are separated by blanks; '' is an empty one.
static bool start(struct rival *rival, const char *directory, const char *program, char *arguments)
{
    char *words[WORDS_MAX + 1] = {mem_text(program)};
    size_t count = 1;
    for (char *at = arguments; *at != '\0' && count < WORDS_MAX; count++) {
        words[count] = at;
        at += strcspn(at, " ");
        if (*at != '\0') {
            *at++ = '\0';
        }
        if (strcmp(words[count], "''") == 0) {
            words[count][0] = '\0';
        }
    }
    words[count] = NULL;
    char *log = mem_format("%s/%s.log", directory, rival->name);
    pid_t self = getpid(), process = fork();
    if (process == 0) {
        become(words, log, self);
    }
    mem_free(log);
    mem_free(words[0]);
    rival->process = process > 0 ? process : 0;
    return process > 0;
}

static bool listens(const struct rival *rival)
{
    struct conn conn = {0};
    bool opened = conn_open(&conn, rival->socket);
    conn_close(&conn);
    return opened;
}

static bool says(const struct rival *rival, const char *words, const char *text)
{
    redisReply *reply = conn_ask(rival->socket, NS_PER_S, words);
    bool said = reply != NULL && reply->type == REDIS_REPLY_STRING &&
                strstr(reply->str, text) != NULL;
    freeReplyObject(reply);
    return said;
}

static bool follows(const struct rival *rival)
{
    return says(rival, "INFO replication", "master_link_status:up");
}

static bool reads(const struct rival *rival)
{
    struct etcd *etcd = etcd_open(rival->port, NULL, NULL);
    bool read = etcd_range(etcd, bytes_text("a"), bytes_text("b"));
    etcd_close(etcd);
    return read;
}

static bool wait_until(struct rival *rival, bool (*ready)(const struct rival *rival))
{
    uint64_t end = clock_mono_ns() + START_LIMIT_NS;
    while (waitpid(rival->process, NULL, WNOHANG) == 0) {
        if (ready(rival)) {
            return true;
        }
        if (clock_mono_ns() >= end) {
            fprintf(stderr, "qs-bench: %s does not serve\n", rival->name);
            return false;
        }
        clock_sleep_ns(POLL_NS);
    }
    rival->process = 0;
    fprintf(stderr, "qs-bench: %s does not start; is it there (make deps)?\n", rival->name);
    return false;
}

// What a program says of its version, behind `before`.
static void ask_version(struct rival *rival, const char *program, const char *option,
                        const char *before)
{
    char line[256] = "";
    char *command = mem_format("'%s' %s", program, option);
    FILE *from = popen(command, "re");
    const char *found = from != NULL && fgets(line, sizeof line, from) != NULL
                            ? strstr(line, before)
                            : NULL;
    if (found != NULL) {
        found += strlen(before);
        snprintf(rival->version, sizeof rival->version, "%.*s", (int)strcspn(found, " \n"), found);
    }
    if (from != NULL) {
        pclose(from);
    }
    mem_free(command);
}

void rival_stop(struct rival *rival)
{
    if (rival->process > 0) {
        kill(rival->process, SIGKILL); // it has nothing to keep
        waitpid(rival->process, NULL, 0);
        rival->process = 0;
    }
    mem_free(rival->socket);
    rival->socket = NULL;
}

// ---- each of them -------------------------------------------------------------------------------

// Redis or what has grown out of it: the same options, the same answers.
static bool start_redis(struct rival *rival, const char *name, const char *program,
                        const char *directory, const struct rival *source)
{
    *rival = (struct rival){
        .name = name,
        .dialect = DIALECT_RESP,
        .socket = mem_format("%s/%s.sock", directory, name),
        .port = nodes_free_port(),
    };
    ask_version(rival, program, "--version", "v=");
    char *follow = source != NULL ? mem_format(" --replicaof 127.0.0.1 %u", source->port)
                                  : mem_text("");
    // A new replica gets its source's data at once and through the socket alone.
    char *arguments = mem_format("--bind 127.0.0.1 --port %u --unixsocket %s --dir %s --save '' "
                                 "--appendonly no --databases 1 --maxclients 1000 --io-threads 1 "
                                 "--repl-diskless-sync yes --repl-diskless-sync-delay 0%s",
                                 rival->port, rival->socket, directory, follow);
    bool fine = start(rival, directory, program, arguments) && wait_until(rival, listens) &&
                (source == NULL || wait_until(rival, follows));
    mem_free(arguments);
    mem_free(follow);
    return fine;
}

bool rival_redis(struct rival *rival, const char *name, const char *directory,
                 const struct rival *source)
{
    return start_redis(rival, name, "redis-server", directory, source);
}

bool rival_valkey(struct rival *rival, const char *program, const char *directory)
{
    return start_redis(rival, "valkey", program, directory, NULL);
}

bool rival_memcached(struct rival *rival, const char *directory, const struct pairs *pairs)
{
    *rival = (struct rival){
        .name = "memcached",
        .dialect = DIALECT_MEMCACHED,
        .socket = mem_format("%s/memcached.sock", directory),
    };
    ask_version(rival, "memcached", "-V", "memcached ");
    uint64_t bytes = pairs->key_bytes + pairs->value_bytes + ITEM_BYTES * pairs->count;
    uint64_t megabytes = (LEAST_BYTES + bytes + bytes / 8) / MIB;
    // Full memory is an error (-M), so nothing is evicted unseen.
    char *arguments = mem_format("-s %s -t 1 -M -m %llu -c 1000%s", rival->socket,
                                 (unsigned long long)megabytes, geteuid() == 0 ? " -u root" : "");
    bool fine = start(rival, directory, "memcached", arguments) && wait_until(rival, listens);
    mem_free(arguments);
    return fine;
}

bool rival_etcd(struct rival *rival, const char *directory)
{
    *rival = (struct rival){.name = "etcd", .port = nodes_free_port()};
    ask_version(rival, "etcd", "--version", "etcd Version: ");
    char *peers = mem_format("http://127.0.0.1:%u", nodes_free_port()); // there are none
    char *arguments =
        mem_format("--name one --data-dir %s/etcd --logger zap --log-level error "
                   "--log-outputs stdout --listen-client-urls http://127.0.0.1:%u "
                   "--advertise-client-urls http://127.0.0.1:%u --listen-peer-urls %s "
                   "--initial-advertise-peer-urls %s --initial-cluster one=%s",
                   directory, rival->port, rival->port, peers, peers, peers);
    bool fine = start(rival, directory, "etcd", arguments) && wait_until(rival, reads);
    mem_free(arguments);
    mem_free(peers);
    return fine;
}
