/* cli/trace_summary.h - a trace in a few lines: where the time of every node went, and what it
 * waited for the longest. */
#ifndef CLI_TRACE_SUMMARY_H
#define CLI_TRACE_SUMMARY_H

#include <cjson/cJSON.h>
#include <stdio.h>

#include "libsplit/diag.h"

/* `trace` is JSON of libsplit/trace_write.h, perhaps from a server: what in it makes no sense is
 * left out.  Returns 0, -EREMOTEIO (it is no trace) or -ENOMEM, with `*why`. */
int trace_summary(const cJSON *trace, FILE *to, struct diag *why);

#endif
