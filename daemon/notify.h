/* daemon/notify.h - what systemd wants to hear of a service: sd_notify(3) without libsystemd.
 *
 * One datagram to $NOTIFY_SOCKET; without that variable nothing happens.  Any thread. */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

#include <stdint.h>

/* Sends lines such as "READY=1\nSTATUS=...".  systemd does not answer, and there is nobody to
 * tell when it is not there: no result. */
__attribute__((format(printf, 1, 2))) void notify(const char *fmt, ...);

/* "RELOADING=1" with the time that systemd wants to see beside it. */
void notify_reloading(void);

/* After how many ms without "WATCHDOG=1" systemd kills this process ($WATCHDOG_USEC and
 * $WATCHDOG_PID); 0: never. */
int64_t notify_watchdog_ms(void);

#endif
