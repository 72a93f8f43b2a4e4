#include "cli/doctor.h"

#include <stdarg.h>
#include <stdio.h>

const struct doctor_check doctor_checks[] = {
    { "config", doctor_config },
    { "nodes", doctor_nodes },
    { "version", doctor_versions },
    { "same-config", doctor_same_config },
    { "certificate", doctor_certificates },
    { "clock", doctor_clocks },
    { "coordinator", doctor_coordinator },
    { "speed", doctor_speed },
    { "wireless", doctor_wireless },
    { "mtu", doctor_mtu },
    { "power", doctor_power },
    { "heat", doctor_heat },
    { "governor", doctor_governor },
    { "models", doctor_models },
    { "memory", doctor_memory },
    { "openblas", doctor_openblas },
    { NULL, NULL },
};

void doctor_say(struct doctor *d, enum severity severity, const char *fmt, ...)
{
    va_list ap;

    if (d->n == DOCTOR_FINDINGS)
        return;
    struct finding *f = &d->finding[d->n++];
    f->check = d->check;
    f->severity = severity;
    va_start(ap, fmt);
    vsnprintf(f->text, sizeof f->text, fmt, ap);
    va_end(ap);
}

void doctor_run(struct doctor *d)
{
    for (const struct doctor_check *c = doctor_checks; c->name; c++) {
        d->check = c->name;
        c->run(d);
    }
}

enum severity doctor_worst(const struct doctor *d)
{
    enum severity worst = DOCTOR_FINE;
    for (int32_t i = 0; i < d->n; i++)
        if (d->finding[i].severity > worst)
            worst = d->finding[i].severity;
    return worst;
}
