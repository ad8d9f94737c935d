// SPDX-License-Identifier: Apache-2.0
// The wide-area network of a test, in one process:  links SITE=NAMESPACE...
// Each site is a network namespace that gets a TUN device `wan`, and is network 10.77.K.0/24, K = 1
// for the first one: the third byte of a destination says where a packet goes. From each site to
// each other leads a link of its own, which delays, loses or cuts what it carries, so that one
// direction may be dead and the other not. Jitter never lets a packet overtake another.
//
// Told over standard input, a unix socket of packets with one command and one answer each:
//   link FROM TO delay_us jitter_us loss_ppm bytes_per_s cut   ok    (bytes_per_s 0 = any)
//   count FROM TO                                              packets, bytes, lost, no room
// Ends when that socket does, and the devices with it. One thread.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"

#define SITES_MAX 16u
#define PACKET_BYTES 2048u         // more than a device's MTU
#define LINK_BYTES (8 * MIB)       // under way on one link; more is lost
#define BUFFER_NS (NS_PER_S / 2)   // ... for its turn on a link of limited rate, as in a router
#define BURST 64u                  // packets taken from one device in a turn
#define PPM 1000000u
#define DESTINATION_SITE (16u + 2) // of an IPv4 header

struct packet {
    struct list node;
    uint64_t due_ns;
    size_t size;
    uint8_t data[];
};

struct link {
    struct list packets; // in the order in which they came, and go
    size_t bytes;        // in them
    uint64_t free_ns;    // when a link of limited rate has taken in what it was given
    unsigned delay_us, jitter_us, loss_ppm;
    uint64_t bytes_per_s;
    int cut;
    uint64_t carried, carried_bytes, lost, no_room;
};

struct site {
    char name[32];
    int device;
};

struct field {
    size_t count;
    struct site site[SITES_MAX];
    struct link link[SITES_MAX][SITES_MAX]; // [from][to]
};

// A TUN device in that namespace, in which this process then stands; -1 with errno.
static int open_device(const char *namespace)
{
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", namespace);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    int entered = setns(fd, CLONE_NEWNET);
    close(fd);
    int device = entered < 0 ? -1 : open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq request = {.ifr_name = "wan", .ifr_flags = IFF_TUN | IFF_NO_PI};
    if (device >= 0 && ioctl(device, TUNSETIFF, &request) < 0) {
        close(device);
        return -1;
    }
    return device;
}

static int open_sites(struct field *field, int count, char **words)
{
    if (count < 1 || count > (int)SITES_MAX) {
        fprintf(stderr, "links: SITE=NAMESPACE, %u times at most\n", SITES_MAX);
        return -1;
    }
    for (; field->count < (size_t)count; field->count++) {
        struct site *site = &field->site[field->count];
        char namespace[128];
        if (sscanf(words[field->count], "%31[^=]=%127s", site->name, namespace) != 2) {
            fprintf(stderr, "links: %s is not SITE=NAMESPACE\n", words[field->count]);
            return -1;
        }
        site->device = open_device(namespace);
        if (site->device < 0) {
            fprintf(stderr, "links: a device in namespace %s: %s\n", namespace, strerror(errno));
            return -1;
        }
        for (size_t other = 0; other < SITES_MAX; other++) {
            list_init(&field->link[field->count][other].packets);
        }
    }
    return 0;
}

static bool lose(const struct link *link)
{
    return link->cut || (link->loss_ppm > 0 && random_u64() % PPM < link->loss_ppm);
}

static void send_on(struct link *link, const uint8_t *data, size_t size, uint64_t now_ns)
{
    if (lose(link)) {
        link->lost++;
        return;
    }
    uint64_t taken_ns = now_ns;
    if (link->bytes_per_s > 0) {
        taken_ns = u64_max(now_ns, link->free_ns) + size * NS_PER_S / link->bytes_per_s;
    }
    if (link->bytes + size > LINK_BYTES || taken_ns - now_ns > BUFFER_NS) {
        link->no_room++;
        return;
    }
    link->free_ns = taken_ns;
    uint64_t jitter_us = link->jitter_us > 0 ? random_u64() % link->jitter_us : 0;
    struct packet *packet = mem_alloc(sizeof *packet + size);
    packet->due_ns = taken_ns + (link->delay_us + jitter_us) * NS_PER_US;
    packet->size = size;
    memcpy(packet->data, data, size);
    list_append(&link->packets, &packet->node);
    link->bytes += size;
}

// What a site's device has for other sites goes on its way; anything else is nobody's.
static void take_in(struct field *field, size_t from)
{
    uint8_t data[PACKET_BYTES];
    uint64_t now_ns = clock_mono_ns();
    for (unsigned i = 0; i < BURST; i++) {
        ssize_t size = read(field->site[from].device, data, sizeof data);
        if (size < 0) {
            return;
        }
        bool is_ip4 = size > (ssize_t)DESTINATION_SITE && data[0] >> 4 == 4;
        size_t to = is_ip4 ? data[DESTINATION_SITE] - (size_t)1 : SIZE_MAX;
        if (to < field->count && to != from) {
            send_on(&field->link[from][to], data, (size_t)size, now_ns);
        }
    }
}

// Delivers what is due. A link that was cut meanwhile loses what was under way.
static void deliver(struct link *link, int device, uint64_t now_ns)
{
    LIST_FOR_EACH(node, &link->packets) {
        struct packet *packet = CONTAINER_OF(node, struct packet, node);
        if (packet->due_ns > now_ns) {
            return;
        }
        if (link->cut || write(device, packet->data, packet->size) < 0) {
            link->lost++;
        } else {
            link->carried++;
            link->carried_bytes += packet->size;
        }
        link->bytes -= packet->size;
        list_remove(node);
        mem_free(packet);
    }
}

// Returns when the next packet is due, UINT64_MAX when none is under way.
static uint64_t deliver_all(struct field *field)
{
    uint64_t now_ns = clock_mono_ns(), next_ns = UINT64_MAX;
    for (size_t from = 0; from < field->count; from++) {
        for (size_t to = 0; to < field->count; to++) {
            struct link *link = &field->link[from][to];
            deliver(link, field->site[to].device, now_ns);
            if (!list_empty(&link->packets)) {
                struct list *first = link->packets.next;
                next_ns = u64_min(next_ns, CONTAINER_OF(first, struct packet, node)->due_ns);
            }
        }
    }
    return next_ns;
}

static struct link *find_link(struct field *field, const char *from, const char *to)
{
    size_t at[2] = {SITES_MAX, SITES_MAX};
    for (size_t i = 0; i < field->count; i++) {
        at[0] = strcmp(field->site[i].name, from) == 0 ? i : at[0];
        at[1] = strcmp(field->site[i].name, to) == 0 ? i : at[1];
    }
    return at[0] == SITES_MAX || at[1] == SITES_MAX ? NULL : &field->link[at[0]][at[1]];
}

// What is under way on a link that was changed does not wait for longer than anything new would.
static void hurry(struct link *link)
{
    uint64_t due_ns = clock_mono_ns() + (link->delay_us + link->jitter_us) * NS_PER_US;
    LIST_FOR_EACH(node, &link->packets) {
        struct packet *packet = CONTAINER_OF(node, struct packet, node);
        packet->due_ns = u64_min(packet->due_ns, due_ns);
    }
    link->free_ns = 0;
}

static void answer(struct field *field, const char *command, char *text, size_t room)
{
    char from[32], to[32];
    unsigned delay_us, jitter_us, loss_ppm, cut;
    uint64_t rate;
    int words = sscanf(command, "link %31s %31s %u %u %u %" SCNu64 " %u", from, to, &delay_us,
                       &jitter_us, &loss_ppm, &rate, &cut);
    bool is_count = words < 1 && sscanf(command, "count %31s %31s", from, to) == 2;
    struct link *link = is_count || words == 7 ? find_link(field, from, to) : NULL;
    if (link == NULL) {
        snprintf(text, room, "error: not a command, or no such link: %s", command);
    } else if (is_count) {
        snprintf(text, room, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, link->carried,
                 link->carried_bytes, link->lost, link->no_room);
    } else {
        link->delay_us = delay_us;
        link->jitter_us = jitter_us;
        link->loss_ppm = loss_ppm;
        link->bytes_per_s = rate;
        link->cut = cut != 0;
        hurry(link);
        snprintf(text, room, "ok");
    }
}

// False when whoever gives the commands is gone.
static bool obey(struct field *field)
{
    char command[256], text[512];
    ssize_t size = recv(STDIN_FILENO, command, sizeof command - 1, 0);
    if (size <= 0) {
        return false;
    }
    command[size] = '\0';
    answer(field, command, text, sizeof text);
    return send(STDIN_FILENO, text, strlen(text), MSG_NOSIGNAL) >= 0;
}

static void run(struct field *field)
{
    struct pollfd polls[SITES_MAX + 1];
    for (size_t i = 0; i < field->count; i++) {
        polls[i] = (struct pollfd){.fd = field->site[i].device, .events = POLLIN};
    }
    polls[field->count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    for (;;) {
        uint64_t next_ns = deliver_all(field), now_ns = clock_mono_ns();
        uint64_t wait_ns = next_ns > now_ns ? next_ns - now_ns : 0;
        struct timespec wait = {(time_t)(wait_ns / NS_PER_S), (long)(wait_ns % NS_PER_S)};
        if (ppoll(polls, field->count + 1, next_ns == UINT64_MAX ? NULL : &wait, NULL) < 0) {
            continue;
        }
        for (size_t i = 0; i < field->count; i++) {
            if (polls[i].revents != 0) {
                take_in(field, i);
            }
        }
        if (polls[field->count].revents != 0 && !obey(field)) {
            return;
        }
    }
}

int main(int count, char **words)
{
    static struct field field;
    if (open_sites(&field, count - 1, words + 1) < 0) {
        return 1;
    }
    run(&field);
    return 0;
}
