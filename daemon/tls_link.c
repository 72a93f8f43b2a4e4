#include "daemon/tls_link.h"

static int make(const struct tls *t, nng_tls_mode mode, const char *peer, nng_tls_config **out)
{
    char identity[TLS_IDENTITY_BYTES];
    nng_tls_config *c;
    int rv = nng_tls_config_alloc(&c, mode);

    if (rv != 0)
        return rv;
    rv = nng_tls_config_ca_chain(c, t->ca, NULL);
    if (rv == 0)
        rv = nng_tls_config_own_cert(c, t->certificate, t->key, NULL);
    if (rv == 0)
        rv = nng_tls_config_auth_mode(c, NNG_TLS_AUTH_MODE_REQUIRED);
    if (rv == 0 && peer) {
        tls_identity(peer, identity);
        rv = nng_tls_config_server_name(c, identity);
    }
    if (rv != 0)
        nng_tls_config_free(c);
    else
        *out = c;
    return rv;
}

int tls_link_dialler(const struct tls *t, const char *peer, nng_tls_config **config)
{
    return make(t, NNG_TLS_MODE_CLIENT, peer, config);
}

int tls_link_listener(const struct tls *t, nng_tls_config **config)
{
    return make(t, NNG_TLS_MODE_SERVER, NULL, config);
}
