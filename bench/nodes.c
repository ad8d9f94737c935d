// SPDX-License-Identifier: Apache-2.0
#define _XOPEN_SOURCE 700
#include "bench/nodes.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/conn.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define START_LIMIT_NS (600 * NS_PER_S) // an empty one builds its store first
#define STOP_LIMIT_NS (120 * NS_PER_S)
#define SETTLE_LIMIT_MS "600000"
#define SETTLE_LIMIT_NS (610 * NS_PER_S)
#define POLL_NS NS_PER_MS
#define LOOK_NS (250 * NS_PER_MS)
#define STILL_LIMIT_NS (120 * NS_PER_S)
// Below the range from which the kernel takes ports for outgoing links.
#define PORT_FIRST 10000
#define PORT_COUNT 20000
#define OPEN_FILES 16

static const struct {
    const char *name, *role;
    int parent; // itself: none
} kinds[NODE_COUNT] = {
    [NODE_ROOT] = {"root", "root", NODE_ROOT},
    [NODE_REPLICA] = {"replica", "replica", NODE_ROOT},
    [NODE_PROXY] = {"proxy", "proxy", NODE_ROOT},
    [NODE_MIDDLE] = {"middle", "replica", NODE_REPLICA},
    [NODE_LEAF] = {"leaf", "replica", NODE_MIDDLE},
};

// ---- configuration ------------------------------------------------------------------------------

static void append_role(struct buf *to, const struct nodes *nodes, int which, bool keys_only)
{
    int parent = kinds[which].parent;
    buf_format(to, "    role = %s\n", kinds[which].role);
    if (parent != which) {
        buf_format(to, "    parents = {\"127.0.0.1:%u\"}\n", nodes->node[parent].peer_port);
    }
    if (which == NODE_PROXY) {
        unsigned source = nodes->node[nodes->source].peer_port;
        buf_format(to, "    replicas = {\"127.0.0.1:%u\"}\n", source);
        if (keys_only) {
            buf_append_text(to, "    keep_bytes = 0\n    window = 0\n    window_bytes = 0\n");
        }
        // How full the disk is, maybe of something else, is none of what is measured.
        buf_append_text(to, "    cache {\n        soft_limit = 0\n        hard_limit = 0\n");
        if (nodes->cache != NULL) {
            buf_format(to, "        max_bytes = %s\n", nodes->cache);
        }
        buf_append_text(to, "    }\n");
    }
}

static bool node_config(const struct nodes *nodes, int which, bool keys_only, const char *path)
{
    const struct node *node = &nodes->node[which];
    struct buf text = {0};
    buf_format(&text,
               "node = \"%s\"\ndata_dir = \"%s/data\"\nclient = {\"unix:%s\"}\n"
               "peer = \"127.0.0.1:%u\"\nadmin = \"127.0.0.1:%u\"\nio = %s\nlog_level = warn\n"
               "%sinstance main {\n    number = 0\n",
               node->name, node->directory, node->socket, node->peer_port, node->admin_port,
               nodes->io, nodes->more != NULL ? nodes->more : "");
    append_role(&text, nodes, which, keys_only);
    buf_append_text(&text, nodes->own[which] != NULL ? nodes->own[which] : "");
    buf_append_text(&text, "}\n");
    FILE *file = fopen(path, "we");
    bool written = file != NULL && fwrite(text.data, 1, text.size, file) == text.size;
    written = file != NULL && fclose(file) == 0 && written;
    buf_free(&text);
    return written;
}

// ---- processes ----------------------------------------------------------------------------------

unsigned nodes_free_port(void)
{
    unsigned first = (unsigned)(random_u64() % PORT_COUNT);
    for (unsigned i = 0; i < PORT_COUNT; i++) {
        unsigned port = PORT_FIRST + (first + i) % PORT_COUNT;
        struct sockaddr_in address = {
            .sin_family = AF_INET,
            .sin_port = htons((uint16_t)port),
            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool taken = bind(fd, (const struct sockaddr *)&address, sizeof address) == 0;
        close(fd);
        if (taken) {
            return port;
        }
    }
    return 0;
}

static bool make_directory(const char *path)
{
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

bool nodes_open(struct nodes *nodes, const char *directory, const char *io, const char *cache)
{
    *nodes = (struct nodes){.io = io, .cache = cache, .source = NODE_REPLICA};
    const char *base = getenv("TMPDIR");
    nodes->directory = directory != NULL
                           ? mem_format("%s", directory)
                           : mem_format("%s/qs-bench-XXXXXX", base != NULL ? base : "/tmp");
    bool there = directory != NULL ? make_directory(directory) : mkdtemp(nodes->directory) != NULL;
    char whole[PATH_MAX]; // the daemons' sockets must have it
    if (!there || realpath(nodes->directory, whole) == NULL) {
        fprintf(stderr, "qs-bench: %s: %s\n", nodes->directory, strerror(errno));
        return false;
    }
    mem_free(nodes->directory);
    nodes->directory = mem_format("%s", whole);
    for (int i = 0; i < NODE_COUNT; i++) {
        struct node *node = &nodes->node[i];
        node->name = kinds[i].name;
        node->directory = mem_format("%s/%s", nodes->directory, kinds[i].name);
        node->socket = mem_format("%s/%s.sock", nodes->directory, kinds[i].name);
        node->peer_port = nodes_free_port();
        node->admin_port = nodes_free_port();
        char *data = mem_format("%s/data", node->directory);
        bool made = make_directory(node->directory) && make_directory(data);
        mem_free(data);
        if (!made) {
            fprintf(stderr, "qs-bench: %s: %s\n", node->directory, strerror(errno));
            return false;
        }
    }
    return true;
}

// In the child; never returns. A process group of its own: Ctrl-C ends the experiment first.
static void become_daemon(const char *config, const char *log, pid_t parent)
{
    char self[4096];
    ssize_t size = readlink("/proc/self/exe", self, sizeof self - 8);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    char *slash = size > 0 ? memrchr(self, '/', (size_t)size) : NULL;
    if (slash == NULL || fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0 ||
        prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent || setpgid(0, 0) != 0) {
        _exit(1);
    }
    memcpy(slash + 1, "qsd", 4); // it stands beside this program
    execl(self, self, "--config", config, (char *)NULL);
    perror(self);
    _exit(1);
}

static void show_log(const char *path)
{
    FILE *file = fopen(path, "re");
    char line[512];
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        fprintf(stderr, "  %s", line);
    }
    if (file != NULL) {
        fclose(file);
    }
}

// Whether it has ended; then *ret_fine says whether it did so in order, exit code 0.
static bool ended(struct node *node, bool *ret_fine)
{
    int status = 0;
    if (waitpid(node->process, &status, WNOHANG) == 0) {
        return false;
    }
    *ret_fine = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    node->process = 0;
    return true;
}

static bool wait_serving(struct node *node, const char *log)
{
    uint64_t begun = clock_mono_ns(), end = begun + START_LIMIT_NS;
    bool fine;
    while (!ended(node, &fine) && clock_mono_ns() < end) {
        redisReply *reply = conn_ask(node->socket, NS_PER_S, "QS.INDEX");
        bool serves = reply != NULL && reply->type == REDIS_REPLY_INTEGER;
        freeReplyObject(reply);
        if (serves) {
            node->start_ns = clock_mono_ns() - begun;
            return true;
        }
        clock_sleep_ns(POLL_NS);
    }
    fprintf(stderr, "qs-bench: node %s does not serve:\n", node->name);
    show_log(log);
    return false;
}

bool node_start(struct nodes *nodes, int which, bool keys_only)
{
    struct node *node = &nodes->node[which];
    CHECK(node->process == 0);
    char *config = mem_format("%s/qs.conf", node->directory);
    char *log = mem_format("%s/log", node->directory);
    bool started = node_config(nodes, which, keys_only, config);
    if (started) {
        pid_t self = getpid();
        pid_t process = fork();
        if (process == 0) {
            become_daemon(config, log, self);
        }
        node->process = process > 0 ? process : 0;
        started = process > 0 && wait_serving(node, log);
    } else {
        fprintf(stderr, "qs-bench: %s: %s\n", config, strerror(errno));
    }
    mem_free(config);
    mem_free(log);
    return started;
}

bool node_stop(struct nodes *nodes, int which)
{
    struct node *node = &nodes->node[which];
    CHECK(node->process != 0);
    kill(node->process, SIGTERM);
    uint64_t end = clock_mono_ns() + STOP_LIMIT_NS;
    bool fine = false;
    while (!ended(node, &fine) && clock_mono_ns() < end) {
        clock_sleep_ns(POLL_NS);
    }
    if (!fine) {
        fprintf(stderr, "qs-bench: node %s does not end in order:\n", node->name);
        char *log = mem_format("%s/log", node->directory);
        show_log(log);
        mem_free(log);
    }
    return fine;
}

void node_kill(struct nodes *nodes, int which)
{
    struct node *node = &nodes->node[which];
    CHECK(node->process != 0);
    kill(node->process, SIGKILL);
    waitpid(node->process, NULL, 0);
    node->process = 0;
}

static int remove_entry(const char *path, const struct stat *about, int kind, struct FTW *place)
{
    (void)about, (void)kind, (void)place;
    return remove(path);
}

bool node_clear(struct nodes *nodes, int which)
{
    struct node *node = &nodes->node[which];
    CHECK(node->process == 0);
    char *data = mem_format("%s/data", node->directory);
    bool cleared = nftw(data, remove_entry, OPEN_FILES, FTW_DEPTH | FTW_PHYS) == 0 &&
                   make_directory(data);
    if (!cleared) {
        fprintf(stderr, "qs-bench: %s: %s\n", data, strerror(errno));
    }
    mem_free(data);
    return cleared;
}

bool nodes_close(struct nodes *nodes, bool keep)
{
    bool fine = true;
    for (int i = NODE_COUNT - 1; i >= 0; i--) {
        struct node *node = &nodes->node[i];
        fine = (node->process == 0 || node_stop(nodes, i)) && fine;
        if (node->process != 0) {
            node_kill(nodes, i);
        }
        mem_free(node->directory);
        mem_free(node->socket);
    }
    if (keep) {
        fprintf(stderr, "qs-bench: kept %s\n", nodes->directory);
    } else {
        nftw(nodes->directory, remove_entry, OPEN_FILES, FTW_DEPTH | FTW_PHYS);
    }
    mem_free(nodes->directory);
    return fine;
}

bool nodes_settle(struct nodes *nodes)
{
    redisReply *index = conn_ask(nodes->node[NODE_ROOT].socket, START_LIMIT_NS, "QS.INDEX TOKEN");
    bool settled = index != NULL && index->type == REDIS_REPLY_STRING;
    for (int i = NODE_REPLICA; settled && i < NODE_COUNT; i++) {
        if (nodes->node[i].process != 0) {
            char *words = mem_format("QS.WAITINDEX %s " SETTLE_LIMIT_MS, index->str);
            redisReply *reply = conn_ask(nodes->node[i].socket, SETTLE_LIMIT_NS, words);
            settled = reply != NULL && reply->type == REDIS_REPLY_INTEGER;
            freeReplyObject(reply);
            mem_free(words);
        }
    }
    freeReplyObject(index);
    if (!settled) {
        fprintf(stderr, "qs-bench: the nodes do not reach the root's index\n");
    }
    return settled;
}

// ---- what they say ------------------------------------------------------------------------------

char *node_metrics(const struct node *node)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)node->admin_port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    static const char request[] = "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct buf text = {0};
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 &&
        send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == (ssize_t)sizeof request - 1) {
        ssize_t size;
        while ((size = recv(fd, buf_reserve(&text, KIB), KIB, 0)) > 0) {
            buf_commit(&text, (size_t)size);
        }
    }
    close(fd);
    char *samples = text.size > 0 ? mem_format("%.*s", (int)text.size, (char *)text.data) : NULL;
    buf_free(&text);
    return samples;
}

double metrics_value(const char *metrics, const char *name)
{
    char *start = mem_format("\nqs_%s", name);
    size_t size = strlen(start);
    double value = 0;
    for (const char *at = strstr(metrics, start); at != NULL; at = strstr(at + 1, start)) {
        if (at[size] == '{' || at[size] == ' ') {
            const char *blank = strchr(at + size, ' ');
            value = blank != NULL ? strtod(blank, NULL) : 0;
            break;
        }
    }
    mem_free(start);
    return value;
}

double node_metric(const struct node *node, const char *name)
{
    char *metrics = node_metrics(node);
    double value = metrics != NULL ? metrics_value(metrics, name) : 0;
    mem_free(metrics);
    return value;
}

void node_wait_still(const struct node *node, const char *metric, unsigned looks)
{
    uint64_t end = clock_mono_ns() + STILL_LIMIT_NS;
    double value = node_metric(node, metric);
    for (unsigned same = 0; same < looks && clock_mono_ns() < end;) {
        clock_sleep_ns(LOOK_NS);
        double now = node_metric(node, metric);
        same = now == value ? same + 1 : 0;
        value = now;
    }
}

uint64_t node_resident_bytes(pid_t process)
{
    char *path = mem_format("/proc/%d/statm", (int)process);
    FILE *file = fopen(path, "re");
    unsigned long long pages = 0;
    if (file != NULL) {
        if (fscanf(file, "%*u %llu", &pages) != 1) {
            pages = 0;
        }
        fclose(file);
    }
    mem_free(path);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

double node_status_bytes(pid_t process, const char *name)
{
    char *path = mem_format("/proc/%d/status", (int)process);
    FILE *file = fopen(path, "re");
    char line[256];
    unsigned long long kilobytes = 0;
    size_t size = strlen(name);
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, size) == 0 && sscanf(line + size, ": %llu", &kilobytes) == 1) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    mem_free(path);
    return 1024 * (double)kilobytes;
}

// nftw hands no argument through; one thread asks for one directory at a time.
static uint64_t disk_sum;

static int add_entry(const char *path, const struct stat *about, int kind, struct FTW *place)
{
    (void)path, (void)place;
    disk_sum += kind == FTW_F ? (uint64_t)about->st_blocks * 512 : 0;
    return 0;
}

uint64_t node_disk_bytes(const struct node *node, const char *part)
{
    char *path = mem_format("%s/data/main/%s", node->directory, part);
    disk_sum = 0;
    nftw(path, add_entry, OPEN_FILES, FTW_PHYS);
    mem_free(path);
    return disk_sum;
}
