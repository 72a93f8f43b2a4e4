/* daemon/tls_link.h - daemon/tls.h for NNG's streams. */
#ifndef DAEMON_TLS_LINK_H
#define DAEMON_TLS_LINK_H

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>

#include "daemon/tls.h"

/* For a dialler of node `peer`; nng_tls_config_free() it.  Returns 0 or an error of NNG. */
int tls_link_dialler(const struct tls *t, const char *peer, nng_tls_config **config);
/* For a listener: no certificate, or one of another authority, and there is no connection. */
int tls_link_listener(const struct tls *t, nng_tls_config **config);

#endif
