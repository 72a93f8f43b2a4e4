/* This machine: power, heat, clock rate, memory. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/doctor.h"
#include "cli/need.h"
#include "libsplit/board.h"
#include "libsplit/sidecar.h"

static const double mega = 1e6;

/* ---- power and heat */

/* What the firmware says where the kernel has no file for it. */
static bool ask_firmware(uint32_t *bits)
{
    char line[64] = "";
    FILE *f = access("/usr/bin/vcgencmd", X_OK) == 0
                  ? popen("/usr/bin/vcgencmd get_throttled 2>/dev/null", "re")
                  : NULL;
    if (!f)
        return false;
    const bool said = fgets(line, sizeof line, f) && sscanf(line, "throttled=%x", bits) == 1;
    return pclose(f) == 0 && said;
}

static bool read_throttled(const struct doctor *d, uint32_t *bits)
{
    return board_throttled(d->root, bits) || (d->root[0] == '\0' && ask_firmware(bits));
}

void doctor_power(struct doctor *d)
{
    uint32_t bits;

    if (!read_throttled(d, &bits))
        return;
    if (bits & BOARD_UNDER_VOLTAGE)
        doctor_say(d, DOCTOR_ERROR,
                   "the supply gives too little voltage right now: the board slows down and may "
                   "crash; use the board's own supply (Pi 4: 3 A, Pi 5: 5 A) and a short cable");
    else if (bits & BOARD_UNDER_VOLTAGE << BOARD_SINCE_BOOT)
        doctor_say(d, DOCTOR_WARNING,
                   "the supply gave too little voltage at some time since the start: use the "
                   "board's own supply (Pi 4: 3 A, Pi 5: 5 A) and a short cable");
    else
        doctor_say(d, DOCTOR_FINE, "the supply has been good since the start");
}

enum { HOT_MC = 80000 }; /* where Raspberry Pis begin to slow down */

void doctor_heat(struct doctor *d)
{
    const uint32_t slow = BOARD_CAPPED | BOARD_THROTTLED | BOARD_HOT;
    const bool known = board_temperature(d->root, &(int32_t){ 0 });
    uint32_t bits = 0;
    int32_t mc = 0;

    if (known)
        (void)board_temperature(d->root, &mc);
    (void)read_throttled(d, &bits);
    if (bits & slow)
        doctor_say(d, DOCTOR_WARNING,
                   "the board slows itself down at %.1f C: it needs a fan or a "
                   "heat sink",
                   mc / 1e3);
    else if (mc >= HOT_MC)
        doctor_say(d, DOCTOR_WARNING, "the processor has %.1f C: it needs a fan or a heat sink",
                   mc / 1e3);
    else if (bits & slow << BOARD_SINCE_BOOT)
        doctor_say(d, DOCTOR_NOTE,
                   "the board slowed itself down at some time since the start; now it has %.1f C",
                   mc / 1e3);
    else if (known)
        doctor_say(d, DOCTOR_FINE, "the processor has %.1f C", mc / 1e3);
}

/* ---- clock rate */

static bool read_frequency(const struct doctor *d, const char *what, char *text, size_t cap)
{
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cpufreq/%s", what);
    return board_read(d->root, path, text, cap);
}

void doctor_governor(struct doctor *d)
{
    char governor[64], limit[32], most[32];

    if (!read_frequency(d, "scaling_governor", governor, sizeof governor))
        return;
    if (strcmp(governor, "performance") == 0)
        doctor_say(d, DOCTOR_FINE, "the processor runs at full speed (governor performance)");
    else
        doctor_say(d, strcmp(governor, "powersave") == 0 ? DOCTOR_WARNING : DOCTOR_NOTE,
                   "the governor %s lowers the clock while a node waits for others: echo "
                   "performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
                   governor);
    if (read_frequency(d, "scaling_max_freq", limit, sizeof limit) &&
        read_frequency(d, "cpuinfo_max_freq", most, sizeof most) && atol(limit) < atol(most))
        doctor_say(d, DOCTOR_WARNING, "the clock is limited to %ld of %ld MHz", atol(limit) / 1000,
                   atol(most) / 1000);
}

/* ---- models: the coordinator has the files */

static bool is_coordinator(const struct doctor *d)
{
    return d->config && d->self >= 0 && d->self == d->config->coordinator;
}

static bool path_of(const struct doctor *d, const char *file, char path[PATH_MAX])
{
    const int n = snprintf(path, PATH_MAX, "%s%s", d->root, file);
    return n > 0 && n < PATH_MAX;
}

/* The service sees neither home folders nor what only its owner may read. */
static void check_file(struct doctor *d, const struct config_model *m)
{
    static const char *const hidden[] = { "/home/", "/root/", "/tmp/", "/var/tmp/" };
    char path[PATH_MAX];
    struct stat s;

    if (!path_of(d, m->file, path) || stat(path, &s) < 0) {
        /* The service's own folder is for root's eyes only. */
        doctor_say(d, errno == EACCES ? DOCTOR_NOTE : DOCTOR_ERROR, "model %s: %s: %s%s", m->name,
                   m->file, strerror(errno), errno == EACCES ? " (root sees more)" : "");
        return;
    }
    if (!(s.st_mode & S_IROTH))
        doctor_say(d, DOCTOR_WARNING, "model %s: the service may not read %s: sudo chmod a+r",
                   m->name, m->file);
    for (size_t i = 0; i < sizeof hidden / sizeof hidden[0]; i++)
        if (strncmp(m->file, hidden[i], strlen(hidden[i])) == 0)
            doctor_say(d, DOCTOR_WARNING,
                       "model %s: the service does not see %s: put it into "
                       "/var/lib/splitd/models",
                       m->name, hidden[i]);
}

void doctor_models(struct doctor *d)
{
    if (!is_coordinator(d))
        return;
    for (int32_t i = 0; i < d->config->nmodels; i++)
        check_file(d, &d->config->model[i]);
}

/* ---- memory */

/* Bytes, 0 if it is not known. */
static int64_t total_memory(const struct doctor *d)
{
    char path[PATH_MAX];
    long long kb = 0;

    if (!path_of(d, "/proc/meminfo", path))
        return 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    if (fscanf(f, "MemTotal: %lld kB", &kb) != 1)
        kb = 0;
    fclose(f);
    return (int64_t)kb * 1024;
}

static void check_limits(struct doctor *d, const int64_t *need)
{
    for (int32_t i = 0; i < d->config->nnodes; i++) {
        const int64_t most = d->config->node[i].max_memory;
        if (most > 0 && need[i] > most)
            doctor_say(d, DOCTOR_ERROR,
                       "%s: the models take %.1f MB, and its max_memory is %.0f MB: a lower weight "
                       "takes less",
                       d->config->node[i].name, (double)need[i] / mega, (double)most / mega);
    }
}

/* What all models take, on every node, while all nodes are there.  Returns whether any takes some.
 */
static bool add_needs(const struct doctor *d, int64_t need[CONFIG_MAX_NODES])
{
    bool any = false;

    for (int32_t i = 0; i < d->config->nmodels; i++) {
        const struct config_model *m = &d->config->model[i];
        int64_t one[CONFIG_MAX_NODES] = { 0 };
        const bool beside = m->sidecar[0] == '\0';
        char file[PATH_MAX], sidecar[PATH_MAX];
        /* A model that cannot be read, or that takes any size, is another check's business. */
        if (!path_of(d, m->file, file) || (!beside && !path_of(d, m->sidecar, sidecar)) ||
            need_bytes(file, beside ? NULL : sidecar, d->config, one, NULL) < 0)
            continue;
        any = true;
        for (int32_t n = 0; n < d->config->nnodes; n++)
            need[n] += one[n];
    }
    return any;
}

void doctor_memory(struct doctor *d)
{
    int64_t need[CONFIG_MAX_NODES] = { 0 };
    const int64_t total = total_memory(d);

    if (!is_coordinator(d))
        return;
    if (!add_needs(d, need))
        return;
    check_limits(d, need);
    const double mine = (double)need[d->self];
    if (mine == 0)
        doctor_say(d, DOCTOR_FINE,
                   "the models run faster without this node and take none of its memory");
    else if (total == 0)
        return;
    else if (mine > 0.75 * (double)total)
        doctor_say(d, mine > (double)total ? DOCTOR_ERROR : DOCTOR_WARNING,
                   "the models take %.1f MB of this machine's %.0f MB", mine / mega,
                   (double)total / mega);
    else
        doctor_say(d, DOCTOR_FINE, "the models take %.1f MB of this machine's %.0f MB", mine / mega,
                   (double)total / mega);
}

/* ---- OpenBLAS */

enum { CORTEX_A76 = 0xd0b };

/* The "CPU part" of ARM processors, 0 of others. */
static unsigned cpu_part(const struct doctor *d)
{
    char path[PATH_MAX], line[256];
    unsigned part = 0;

    FILE *f = path_of(d, "/proc/cpuinfo", path) ? fopen(path, "re") : NULL;
    if (!f)
        return 0;
    while (part == 0 && fgets(line, sizeof line, f))
        if (sscanf(line, "CPU part : %x", &part) != 1)
            part = 0;
    fclose(f);
    return part;
}

/* OpenBLAS 0.3.21 (Debian 12) does not know the Raspberry Pi 5's processor. */
void doctor_openblas(struct doctor *d)
{
    if (cpu_part(d) == CORTEX_A76 && strcmp(d->blas_core, "ARMV8") == 0)
        doctor_say(d, DOCTOR_NOTE,
                   "OpenBLAS does not know this processor and uses its plainest code for matrix "
                   "products: OPENBLAS_CORETYPE=NEOVERSEN1 in /etc/default/splitd");
}
