/* cli/doctor.h - what may be wrong with a cluster, seen from one of its machines.
 *
 * A check is a row of a table and a function that adds findings.  All that it looks at is in
 * struct doctor: the configuration, what the nodes answered, and the files of the machine, which
 * lie below `root` so that tests bring their own. */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/greet.h"
#include "daemon/config.h"
#include "libsplit/diag.h"

enum severity {
    DOCTOR_FINE,
    DOCTOR_NOTE,    /* worth knowing */
    DOCTOR_WARNING, /* it works, but slower or less surely than it could */
    DOCTOR_ERROR,   /* something does not work */
};

struct finding {
    const char *check;
    enum severity severity;
    char text[512];
};

enum { DOCTOR_FINDINGS = 256, DOCTOR_LINKS = 4, DOCTOR_LINK_NAME = 16 };

struct doctor {
    const char *root; /* "" for this machine's files */
    const char *config_file;
    const struct config *config; /* NULL: config_why says why not */
    struct diag config_why;
    int32_t self; /* -1: config_why says why it is not known */
    /* What this machine shows other nodes, where there is TLS; NULL: tls_error and tls_why say why
     * it has nothing to show. */
    struct tls *tls;
    int tls_error;
    struct diag tls_why;
    struct greeting greeting[CONFIG_MAX_NODES];
    cJSON *status; /* of the coordinator; NULL: it was not asked, or status_why says why */
    struct diag status_why;
    const char *blas_core; /* gemm_core() */
    /* Interfaces by which the other nodes are reached; none if all are on this machine. */
    int nlinks;
    char link[DOCTOR_LINKS][DOCTOR_LINK_NAME];

    const char *check; /* that runs */
    int32_t n;
    struct finding finding[DOCTOR_FINDINGS];
};

struct doctor_check {
    const char *name;
    void (*run)(struct doctor *d);
};
/* In the order in which they should be read; ends with a row of NULLs. */
extern const struct doctor_check doctor_checks[];

/* Finds the interfaces of `config`'s other nodes.  Before the checks. */
void doctor_find_links(struct doctor *d);
void doctor_run(struct doctor *d);
enum severity doctor_worst(const struct doctor *d);

/* For checks.  What does not fit is left out: there is room for more than the checks find. */
__attribute__((format(printf, 3, 4))) void doctor_say(struct doctor *d, enum severity severity,
                                                      const char *fmt, ...);

/* Checks of cli/doctor_nodes.c: who answers, and whether all agree. */
void doctor_config(struct doctor *d);
void doctor_nodes(struct doctor *d);
void doctor_versions(struct doctor *d);
void doctor_same_config(struct doctor *d);
void doctor_clocks(struct doctor *d);
void doctor_certificates(struct doctor *d);
void doctor_coordinator(struct doctor *d);
/* Of cli/doctor_links.c: the way between them. */
void doctor_speed(struct doctor *d);
void doctor_wireless(struct doctor *d);
void doctor_mtu(struct doctor *d);
/* Of cli/doctor_machine.c: this machine. */
void doctor_power(struct doctor *d);
void doctor_heat(struct doctor *d);
void doctor_governor(struct doctor *d);
void doctor_models(struct doctor *d);
void doctor_memory(struct doctor *d);
void doctor_openblas(struct doctor *d);

#endif
