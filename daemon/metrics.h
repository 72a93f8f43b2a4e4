/* daemon/metrics.h - the figures of /splitd/status as Prometheus reads them: text format 0.0.4.
 *
 * Names begin with splitd_, units are seconds, bytes and degrees Celsius, counters end in _total
 * and start at 0 with the process.  Loop thread. */
#ifndef DAEMON_METRICS_H
#define DAEMON_METRICS_H

#include <stddef.h>

#include "daemon/coordinator.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* All of the page; free() it.  NULL when memory is short. */
char *metrics_text(const struct coordinator *c, const struct config *config, size_t *len);

#endif
