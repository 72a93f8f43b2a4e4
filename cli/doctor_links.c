/* The way between nodes, as this machine's end of it looks. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "cli/doctor.h"
#include "libsplit/board.h"

/* ---- which interfaces */

enum { ROUTE_UP = 1 };

/* The interface by which packets to `address` leave: the most special route of /proc/net/route. */
static bool find_route(const char *root, struct in_addr address, char link[DOCTOR_LINK_NAME])
{
    char path[256], line[256], name[DOCTOR_LINK_NAME];
    uint32_t to, flags, mask, best = 0;
    bool found = false;

    snprintf(path, sizeof path, "%s/proc/net/route", root);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%15s %x %*x %x %*d %*d %*d %x", name, &to, &flags, &mask) != 4 ||
            !(flags & ROUTE_UP) || (address.s_addr & mask) != to)
            continue;
        if (found && ntohl(mask) < best)
            continue;
        found = true;
        best = ntohl(mask);
        memcpy(link, name, sizeof name);
    }
    fclose(f);
    return found;
}

/* The IPv4 address of a node; false if it has none. */
static bool address_of(const struct config_node *node, struct in_addr *address)
{
    const struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM };
    char host[CONFIG_ADDRESS_MAX + 1];
    struct addrinfo *found;
    uint16_t port;

    if (!config_host_port(node->address, host, &port) ||
        getaddrinfo(host, NULL, &hints, &found) != 0)
        return false;
    *address = ((const struct sockaddr_in *)(const void *)found->ai_addr)->sin_addr;
    freeaddrinfo(found);
    return true;
}

static void add_link(struct doctor *d, const char *name)
{
    for (int i = 0; i < d->nlinks; i++)
        if (strcmp(d->link[i], name) == 0)
            return;
    if (d->nlinks < DOCTOR_LINKS && strcmp(name, "lo") != 0)
        snprintf(d->link[d->nlinks++], DOCTOR_LINK_NAME, "%s", name);
}

void doctor_find_links(struct doctor *d)
{
    char name[DOCTOR_LINK_NAME];
    struct in_addr address;

    d->nlinks = 0;
    for (int32_t i = 0; d->config && i < d->config->nnodes; i++)
        if (i != d->self && address_of(&d->config->node[i], &address) &&
            ntohl(address.s_addr) >> 24 != 127 && find_route(d->root, address, name))
            add_link(d, name);
}

/* ---- what they are */

static bool read_link(const struct doctor *d, int i, const char *what, char *text, size_t cap)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/class/net/%s/%s", d->link[i], what);
    return board_read(d->root, path, text, cap);
}

static bool is_wireless(const struct doctor *d, int i)
{
    char text[16];
    return read_link(d, i, "wireless/status", text, sizeof text) ||
           read_link(d, i, "phy80211/index", text, sizeof text);
}

/* Raspberry Pis whose socket does 100 Mbit/s at best. */
static bool has_fast_ethernet(const struct doctor *d)
{
    static const char *const boards[] = {
        "Raspberry Pi 3 Model A", "Raspberry Pi 3 Model B Rev", "Raspberry Pi 2",
        "Raspberry Pi Model",     "Raspberry Pi Zero",          "Raspberry Pi Compute Module 3"
    };
    char model[128];

    if (!board_read(d->root, "/proc/device-tree/model", model, sizeof model))
        return false;
    for (size_t i = 0; i < sizeof boards / sizeof boards[0]; i++)
        if (strncmp(model, boards[i], strlen(boards[i])) == 0)
            return true;
    return false;
}

static void say_speed(struct doctor *d, int i, long mbit)
{
    char duplex[16];

    if (read_link(d, i, "duplex", duplex, sizeof duplex) && strcmp(duplex, "half") == 0)
        doctor_say(d, DOCTOR_WARNING,
                   "%s is half duplex: cable or switch are faulty, or one side is set by hand",
                   d->link[i]);
    if (mbit >= 1000)
        doctor_say(d, DOCTOR_FINE, "%s does %ld Mbit/s", d->link[i], mbit);
    else if (has_fast_ethernet(d))
        doctor_say(d, DOCTOR_NOTE,
                   "%s does %ld Mbit/s, which is all that this board can; \"halo\": \"f16\" or q8 "
                   "helps on slow links",
                   d->link[i], mbit);
    else
        doctor_say(
            d, DOCTOR_WARNING,
            "%s does %ld Mbit/s where gigabit is usual: a cable with eight wires (Cat 5e), a "
            "gigabit switch",
            d->link[i], mbit);
}

void doctor_speed(struct doctor *d)
{
    for (int i = 0; i < d->nlinks; i++) {
        char text[16];
        /* An interface without a cable, or of another kind, says -1 or nothing. */
        if (is_wireless(d, i) || !read_link(d, i, "speed", text, sizeof text))
            continue;
        const long mbit = strtol(text, NULL, 10);
        if (mbit > 0)
            say_speed(d, i, mbit);
    }
}

void doctor_wireless(struct doctor *d)
{
    for (int i = 0; i < d->nlinks; i++)
        if (is_wireless(d, i))
            doctor_say(d, DOCTOR_WARNING,
                       "the other nodes are reached by Wi-Fi (%s), which makes every picture wait: "
                       "use a cable, or set \"lost_ms\" to 1000 or more and expect little speed-up",
                       d->link[i]);
}

/* Loopback's segments are larger, and cut for other reasons. */
enum { USUAL_MTU = 1500, MOST_MSS = 16384 };

static void say_own_mtu(struct doctor *d, int i)
{
    char text[16];

    if (!read_link(d, i, "mtu", text, sizeof text))
        return;
    const long mtu = strtol(text, NULL, 10);
    if (mtu > 0 && mtu < USUAL_MTU)
        doctor_say(d, DOCTOR_NOTE, "%s has an MTU of %ld, less than the usual %d: a VPN?",
                   d->link[i], mtu, USUAL_MTU);
    if (mtu > USUAL_MTU)
        doctor_say(d, DOCTOR_NOTE,
                   "%s has an MTU of %ld: every node and the switch must have as much", d->link[i],
                   mtu);
}

void doctor_mtu(struct doctor *d)
{
    for (int i = 0; i < d->nlinks; i++)
        say_own_mtu(d, i);
    for (int32_t i = 0; d->config && i < d->config->nnodes; i++) {
        const struct greeting *g = &d->greeting[i];
        if (i != d->self && g->result == GREET_OK && g->mss < MOST_MSS && g->their_mss < g->mss)
            doctor_say(
                d, DOCTOR_WARNING,
                "the MTU of %s is smaller than this machine's (segments of %d and %d bytes): "
                "large packets may get lost",
                d->config->node[i].name, g->their_mss, g->mss);
    }
}
