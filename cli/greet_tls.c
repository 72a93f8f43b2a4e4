#include "cli/greet_tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct greet_tls {
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    char identity[TLS_IDENTITY_BYTES]; /* that the node has to show */
};

static gnutls_datum_t datum(char *text)
{
    return (gnutls_datum_t){ (unsigned char *)text, (unsigned)strlen(text) };
}

/* The files were checked when they were read: what fails here is memory. */
int greet_tls_new(struct greet_tls **out, int fd, const struct tls *tls, const char *node)
{
    const gnutls_datum_t ca = datum(tls->ca), certificate = datum(tls->certificate),
                         key = datum(tls->key);
    struct greet_tls *t = calloc(1, sizeof *t);

    if (!t)
        return -ENOMEM;
    tls_identity(node, t->identity);
    if (gnutls_certificate_allocate_credentials(&t->credentials) < 0 ||
        gnutls_certificate_set_x509_trust_mem(t->credentials, &ca, GNUTLS_X509_FMT_PEM) < 1 ||
        gnutls_certificate_set_x509_key_mem(t->credentials, &certificate, &key,
                                            GNUTLS_X509_FMT_PEM) < 0 ||
        gnutls_init(&t->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0 ||
        gnutls_set_default_priority(t->session) < 0 ||
        gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, t->credentials) < 0 ||
        gnutls_server_name_set(t->session, GNUTLS_NAME_DNS, t->identity, strlen(t->identity)) < 0) {
        greet_tls_free(t);
        return -ENOMEM;
    }
    gnutls_transport_set_int(t->session, fd);
    *out = t;
    return 0;
}

void greet_tls_free(struct greet_tls *t)
{
    if (!t)
        return;
    if (t->session)
        gnutls_deinit(t->session);
    if (t->credentials)
        gnutls_certificate_free_credentials(t->credentials);
    free(t);
}

/* ---- what the node shows */

__attribute__((format(printf, 3, 4))) static void say(struct greeting *g, enum greet_result result,
                                                      const char *fmt, ...)
{
    va_list ap;

    g->result = result;
    va_start(ap, fmt);
    vsnprintf(g->problem, sizeof g->problem, fmt, ap);
    va_end(ap);
}

static int64_t peer_until(gnutls_session_t session)
{
    unsigned n = 0;
    const gnutls_datum_t *shown = gnutls_certificate_get_peers(session, &n);
    gnutls_x509_crt_t crt;
    int64_t until = 0;

    if (!shown || n == 0 || gnutls_x509_crt_init(&crt) < 0)
        return 0;
    if (gnutls_x509_crt_import(crt, &shown[0], GNUTLS_X509_FMT_DER) == 0)
        until = gnutls_x509_crt_get_expiration_time(crt);
    gnutls_x509_crt_deinit(crt);
    return until;
}

static void judge(const struct greet_tls *t, struct greeting *g)
{
    const unsigned time_only =
        GNUTLS_CERT_INVALID | GNUTLS_CERT_EXPIRED | GNUTLS_CERT_NOT_ACTIVATED;
    unsigned verdict = GNUTLS_CERT_INVALID;

    g->until = peer_until(t->session);
    if (gnutls_certificate_verify_peers3(t->session, t->identity, &verdict) < 0)
        say(g, GREET_STRANGER, "shows no certificate");
    else if (verdict & GNUTLS_CERT_UNEXPECTED_OWNER)
        say(g, GREET_STRANGER, "shows the certificate of another node (without the name %s)",
            t->identity);
    else if ((verdict & ~time_only) || verdict == GNUTLS_CERT_INVALID)
        say(g, GREET_STRANGER, "shows a certificate that is not of the authority in tls.ca");
}

int greet_tls_shake_hands(struct greet_tls *t, struct greeting *g)
{
    const int rc = gnutls_handshake(t->session);

    if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED)
        return gnutls_record_get_direction(t->session) ? POLLOUT : POLLIN;
    if (rc == GNUTLS_E_WARNING_ALERT_RECEIVED)
        return POLLIN;
    if (rc == GNUTLS_E_FATAL_ALERT_RECEIVED)
        say(g, GREET_NO_TLS, "does not take this machine's certificate (it says: %s)",
            gnutls_alert_get_name(gnutls_alert_get(t->session)));
    else if (rc == GNUTLS_E_PREMATURE_TERMINATION || rc == GNUTLS_E_PULL_ERROR)
        say(g, GREET_NO_TLS, "hangs up when TLS begins");
    else if (rc < 0)
        say(g, GREET_NO_TLS, "does not speak TLS as links do (%s)", gnutls_strerror(rc));
    else
        judge(t, g);
    return rc < 0 ? rc : 0;
}

/* ---- bytes */

static ssize_t result_of(ssize_t n)
{
    if (n >= 0)
        return n;
    errno = n == GNUTLS_E_AGAIN ? EAGAIN : n == GNUTLS_E_INTERRUPTED ? EINTR : EPROTO;
    return -1;
}

ssize_t greet_tls_send(struct greet_tls *t, const void *bytes, size_t len)
{
    return result_of(gnutls_record_send(t->session, bytes, len));
}

ssize_t greet_tls_receive(struct greet_tls *t, void *bytes, size_t len)
{
    return result_of(gnutls_record_recv(t->session, bytes, len));
}
