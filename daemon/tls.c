#include "daemon/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/secret.h"

enum { NAME_BYTES = 256 };

void tls_identity(const char *node, char identity[TLS_IDENTITY_BYTES])
{
    snprintf(identity, TLS_IDENTITY_BYTES, "%s.splitd", node);
}

static gnutls_datum_t datum(char *text)
{
    return (gnutls_datum_t){ (unsigned char *)text, (unsigned)strlen(text) };
}

/* ---- checking.  Links and HTTPS would find out, too, but in words that help nobody. */

/* What was read, as GnuTLS sees it. */
struct parsed {
    gnutls_x509_crt_t ca, certificate;
    gnutls_x509_privkey_t key;
};

static int parse(const struct tls *t, struct parsed *p, struct diag *why)
{
    const gnutls_datum_t ca = datum(t->ca), certificate = datum(t->certificate),
                         key = datum(t->key);
    int rc = gnutls_x509_crt_import(p->ca, &ca, GNUTLS_X509_FMT_PEM);

    if (rc < 0)
        return diag(why, -EINVAL, "tls.ca: no certificate: %s", gnutls_strerror(rc));
    rc = gnutls_x509_crt_import(p->certificate, &certificate, GNUTLS_X509_FMT_PEM);
    if (rc < 0)
        return diag(why, -EINVAL, "tls.certificate: no certificate: %s", gnutls_strerror(rc));
    rc = gnutls_x509_privkey_import(p->key, &key, GNUTLS_X509_FMT_PEM);
    if (rc < 0)
        return diag(why, -EINVAL, "tls.key: no key, or one with a password: %s",
                    gnutls_strerror(rc));
    return 0;
}

static bool is_key_of(const struct parsed *p)
{
    unsigned char a[64], b[64];
    size_t na = sizeof a, nb = sizeof b;

    return gnutls_x509_privkey_get_key_id(p->key, 0, a, &na) == 0 &&
           gnutls_x509_crt_get_key_id(p->certificate, 0, b, &nb) == 0 && na == nb &&
           memcmp(a, b, na) == 0;
}

static int check_time(const struct parsed *p, struct diag *why)
{
    const time_t now = time(NULL), from = gnutls_x509_crt_get_activation_time(p->certificate),
                 until = gnutls_x509_crt_get_expiration_time(p->certificate);
    char day[32];
    struct tm tm;

    if (now >= from && now <= until)
        return 0;
    const time_t end = now < from ? from : until;
    strftime(day, sizeof day, "%Y-%m-%d", gmtime_r(&end, &tm));
    return diag(why, -EINVAL, "tls.certificate: valid %s %s only; is the clock right?",
                now < from ? "from" : "until", day);
}

static int check(const struct parsed *p, const char *node, struct diag *why)
{
    char identity[TLS_IDENTITY_BYTES], owner[NAME_BYTES] = "?";
    size_t len = sizeof owner;
    unsigned verdict = 0;

    tls_identity(node, identity);
    (void)gnutls_x509_crt_get_dn_by_oid(p->certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, owner,
                                        &len);
    if (!is_key_of(p))
        return diag(why, -EINVAL, "tls.key: is not the key of tls.certificate");
    if (gnutls_x509_crt_check_hostname(p->certificate, identity) == 0)
        return diag(why, -EINVAL,
                    "tls.certificate: is that of \"%s\", not of node \"%s\" (it lacks the name %s)",
                    owner, node, identity);
    int rc = check_time(p, why);
    if (rc < 0)
        return rc;
    rc = gnutls_x509_crt_verify(p->certificate, &p->ca, 1, 0, &verdict);
    if (rc < 0 || verdict != 0)
        return diag(why, -EINVAL, "tls.certificate: is not signed by the authority in tls.ca");
    return 0;
}

static int parse_and_check(struct tls *t, const char *node, struct diag *why)
{
    struct parsed p = { 0 };
    int rc = -ENOMEM;

    if (gnutls_x509_crt_init(&p.ca) < 0 || gnutls_x509_crt_init(&p.certificate) < 0 ||
        gnutls_x509_privkey_init(&p.key) < 0) {
        diag(why, rc, "tls: out of memory");
        goto out;
    }
    rc = parse(t, &p, why);
    if (rc == 0)
        rc = check(&p, node, why);
    t->until = rc == 0 ? gnutls_x509_crt_get_expiration_time(p.certificate) : 0;
out:
    if (p.key)
        gnutls_x509_privkey_deinit(p.key);
    if (p.certificate)
        gnutls_x509_crt_deinit(p.certificate);
    if (p.ca)
        gnutls_x509_crt_deinit(p.ca);
    return rc;
}

/* ---- life */

int tls_open(struct tls **out, const struct config *config, int32_t self, struct diag *why)
{
    const char *node = config->node[self].name;
    struct tls *t = calloc(1, sizeof *t);

    if (!t)
        return diag(why, -ENOMEM, "tls: out of memory");
    int rc = secret_read(config->tls.ca, node, "tls.ca", false, &t->ca, why);
    if (rc == 0)
        rc = secret_read(config->tls.certificate, node, "tls.certificate", false, &t->certificate,
                         why);
    if (rc == 0)
        rc = secret_read(config->tls.key, node, "tls.key", true, &t->key, why);
    if (rc == 0)
        rc = parse_and_check(t, node, why);
    if (rc < 0) {
        tls_free(t);
        return rc;
    }
    *out = t;
    return 0;
}

void tls_free(struct tls *t)
{
    if (!t)
        return;
    free(t->ca);
    free(t->certificate);
    secret_free(t->key);
    free(t);
}
