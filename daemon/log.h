/* daemon/log.h - one line per event on stderr: level, stable event word, key=value.
 *
 *     warn node-lost node=pi3 silent_ms=512 action=replan
 *
 * Where stderr is the journal ($JOURNAL_STREAM) each line starts with its priority <N>.  Lines of
 * one event word are limited to 20 a second; what was left out is counted in the next line. Any
 * thread. */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_init(enum log_level least); /* once, before any thread */

/* `event`: a constant word with hyphens.  `fmt`: the key=value rest, "" for none.  Values from
 * outside go through %s only; control characters are replaced by '?'. */
__attribute__((format(printf, 3, 4))) void log_event(enum log_level level, const char *event,
                                                     const char *fmt, ...);

/* Why the process ends: "splitd: <sentence>". */
void log_failure(const char *sentence);

#endif
