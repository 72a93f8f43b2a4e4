#include "cli/pki.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "daemon/tls.h"
#include "libsplit/file.h"

enum {
    PEM_BYTES = 16 * 1024,
    SERIAL_BYTES = 16, /* random */
    CA_YEARS = 20,
    NODE_YEARS = 10,
};

/* Certificates are valid from here on: a Raspberry Pi has no clock of its own, and must reach the
 * others before it knows what time it is. */
static const time_t valid_from = 1577836800; /* 2020-01-01 */
static const time_t year_s = 365 * 86400 + 21600;

static const char ca_file[] = "ca.pem", ca_key_file[] = "ca.key";

/* ---- files: 0600 in folders of 0700, nothing is ever overwritten */

static int make_dir(const char *dir, struct diag *why)
{
    struct stat st;

    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return diag(why, -errno, "%s: cannot be made: %s", dir, strerror(errno));
    if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
        return diag(why, -ENOTDIR, "%s: is no folder", dir);
    if (chmod(dir, 0700) < 0)
        return diag(why, -errno, "%s: %s", dir, strerror(errno));
    return 0;
}

static int join(char path[PATH_MAX], const char *dir, const char *name, struct diag *why)
{
    const int n = snprintf(path, PATH_MAX, "%s/%s", dir, name);
    return n < PATH_MAX ? 0 : diag(why, -ENAMETOOLONG, "%s: the path is too long", dir);
}

static int write_new(const char *dir, const char *name, const gnutls_datum_t *pem, struct diag *why)
{
    char path[PATH_MAX];
    int rc = join(path, dir, name, why);

    if (rc < 0)
        return rc;
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
        return diag(why, -EEXIST, "%s: is there already", path);
    if (fd < 0)
        return diag(why, -errno, "%s: cannot be written: %s", path, strerror(errno));
    const ssize_t n = write(fd, pem->data, pem->size);
    if (n < 0 || (size_t)n != pem->size || fsync(fd) < 0)
        rc = diag(why, n < 0 ? -errno : -EIO, "%s: cannot be written: %s", path,
                  n < 0 ? strerror(errno) : "the disk is full");
    close(fd);
    if (rc < 0)
        unlink(path);
    return rc;
}

static int read_pem(const char *dir, const char *name, gnutls_datum_t *pem, struct diag *why)
{
    char path[PATH_MAX];
    uint8_t *bytes;
    size_t len;
    int rc = join(path, dir, name, why);

    if (rc == 0)
        rc = file_read(path, PEM_BYTES, &bytes, &len, why);
    if (rc == 0)
        *pem = (gnutls_datum_t){ bytes, (unsigned)len };
    return rc;
}

/* ---- certificates */

struct identity {
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
};

static int tls_error(int rc, const char *what, struct diag *why)
{
    return rc >= 0 ? 0
                   : diag(why, rc == GNUTLS_E_MEMORY_ERROR ? -ENOMEM : -EIO, "%s: %s", what,
                          gnutls_strerror(rc));
}

static int identity_init(struct identity *id, struct diag *why)
{
    *id = (struct identity){ 0 };
    int rc = gnutls_x509_privkey_init(&id->key);
    if (rc == 0)
        rc = gnutls_x509_crt_init(&id->crt);
    return tls_error(rc, "no certificate", why);
}

static void identity_done(struct identity *id)
{
    if (id->key)
        gnutls_x509_privkey_deinit(id->key);
    if (id->crt)
        gnutls_x509_crt_deinit(id->crt);
}

/* What all certificates have; `cn`: whose it is. */
static int begin(struct identity *id, const char *cn, int years)
{
    unsigned char serial[SERIAL_BYTES] = { 0 };
    int rc = gnutls_x509_privkey_generate(id->key, GNUTLS_PK_ECDSA,
                                          GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);

    if (rc == 0)
        rc = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial);
    serial[0] = (serial[0] & 0x7f) | 0x40; /* positive, and as long as it looks */
    if (rc == 0)
        rc = gnutls_x509_crt_set_version(id->crt, 3);
    if (rc == 0)
        rc = gnutls_x509_crt_set_serial(id->crt, serial, sizeof serial);
    if (rc == 0)
        rc = gnutls_x509_crt_set_activation_time(id->crt, valid_from);
    if (rc == 0)
        rc = gnutls_x509_crt_set_expiration_time(id->crt, time(NULL) + years * year_s);
    if (rc == 0)
        rc = gnutls_x509_crt_set_dn_by_oid(id->crt, GNUTLS_OID_X520_COMMON_NAME, 0, cn,
                                           (unsigned)strlen(cn));
    if (rc == 0)
        rc = gnutls_x509_crt_set_key(id->crt, id->key);
    return rc;
}

static int sign(struct identity *id, const struct identity *by)
{
    return gnutls_x509_crt_sign2(id->crt, by->crt, by->key, GNUTLS_DIG_SHA256, 0);
}

static int make_authority(struct identity *ca, const char *cluster)
{
    char cn[128];

    snprintf(cn, sizeof cn, "splitd cluster %s", cluster);
    int rc = begin(ca, cn, CA_YEARS);
    if (rc == 0)
        rc = gnutls_x509_crt_set_basic_constraints(ca->crt, 1, 0);
    if (rc == 0)
        rc = gnutls_x509_crt_set_key_usage(ca->crt, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN);
    return rc == 0 ? sign(ca, ca) : rc;
}

/* A name or address for which the certificate stands. */
static int add_name(struct identity *id, const char *host)
{
    unsigned char ip[16];

    if (inet_pton(AF_INET, host, ip) == 1)
        return gnutls_x509_crt_set_subject_alt_name(id->crt, GNUTLS_SAN_IPADDRESS, ip, 4,
                                                    GNUTLS_FSAN_APPEND);
    if (inet_pton(AF_INET6, host, ip) == 1)
        return gnutls_x509_crt_set_subject_alt_name(id->crt, GNUTLS_SAN_IPADDRESS, ip, 16,
                                                    GNUTLS_FSAN_APPEND);
    return gnutls_x509_crt_set_subject_alt_name(id->crt, GNUTLS_SAN_DNSNAME, host,
                                                (unsigned)strlen(host), GNUTLS_FSAN_APPEND);
}

/* "NODE.splitd" is what other nodes look for (daemon/tls.h); the rest is for clients of the API. */
static int make_node(struct identity *id, const struct identity *ca, const char *node,
                     const char *const *host, int nhosts)
{
    static const char *const local[] = { "localhost", "127.0.0.1", "::1" };
    char identity[TLS_IDENTITY_BYTES];

    tls_identity(node, identity);
    int rc = begin(id, node, NODE_YEARS);
    if (rc == 0)
        rc = gnutls_x509_crt_set_basic_constraints(id->crt, 0, -1);
    if (rc == 0)
        rc = gnutls_x509_crt_set_key_usage(id->crt, GNUTLS_KEY_DIGITAL_SIGNATURE);
    if (rc == 0)
        rc = gnutls_x509_crt_set_key_purpose_oid(id->crt, GNUTLS_KP_TLS_WWW_SERVER, 0);
    if (rc == 0)
        rc = gnutls_x509_crt_set_key_purpose_oid(id->crt, GNUTLS_KP_TLS_WWW_CLIENT, 0);
    if (rc == 0)
        rc = add_name(id, identity);
    for (int i = 0; rc == 0 && i < nhosts; i++)
        rc = add_name(id, host[i]);
    for (size_t i = 0; rc == 0 && i < sizeof local / sizeof local[0]; i++)
        rc = add_name(id, local[i]);
    return rc == 0 ? sign(id, ca) : rc;
}

/* ---- from and to files */

static int save_key(const struct identity *id, const char *dir, const char *name, struct diag *why)
{
    gnutls_datum_t pem;
    /* The older of two formats, which every version of mbedTLS reads. */
    int rc = tls_error(gnutls_x509_privkey_export2(id->key, GNUTLS_X509_FMT_PEM, &pem), name, why);

    if (rc < 0)
        return rc;
    rc = write_new(dir, name, &pem, why);
    gnutls_memset(pem.data, 0, pem.size);
    gnutls_free(pem.data);
    return rc;
}

static int save_certificate(const struct identity *id, const char *dir, const char *name,
                            struct diag *why)
{
    gnutls_datum_t pem;
    int rc = tls_error(gnutls_x509_crt_export2(id->crt, GNUTLS_X509_FMT_PEM, &pem), name, why);

    if (rc < 0)
        return rc;
    rc = write_new(dir, name, &pem, why);
    gnutls_free(pem.data);
    return rc;
}

static int load_authority(struct identity *ca, const char *dir, struct diag *why)
{
    gnutls_datum_t crt = { 0 }, key = { 0 };
    int rc = read_pem(dir, ca_file, &crt, why);

    if (rc == 0)
        rc = read_pem(dir, ca_key_file, &key, why);
    if (rc == 0)
        rc = tls_error(gnutls_x509_crt_import(ca->crt, &crt, GNUTLS_X509_FMT_PEM), ca_file, why);
    if (rc == 0)
        rc = tls_error(gnutls_x509_privkey_import(ca->key, &key, GNUTLS_X509_FMT_PEM), ca_key_file,
                       why);
    free(crt.data);
    if (key.data)
        gnutls_memset(key.data, 0, key.size);
    free(key.data);
    return rc;
}

/* ---- actions */

int pki_init(const char *dir, const char *cluster, struct diag *why)
{
    struct identity ca;
    int rc = make_dir(dir, why);

    if (rc < 0)
        return rc;
    rc = identity_init(&ca, why);
    if (rc == 0)
        rc = tls_error(make_authority(&ca, cluster), "the authority", why);
    if (rc == 0)
        rc = save_key(&ca, dir, ca_key_file, why);
    if (rc == 0)
        rc = save_certificate(&ca, dir, ca_file, why);
    identity_done(&ca);
    return rc;
}

static bool is_node_name(const char *name)
{
    return name[0] != '\0' && name[0] != '.' && name[0] != '-' && strlen(name) <= CONFIG_NAME_MAX &&
           name[strspn(
               name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")] == '\0';
}

static int save_node(const struct identity *ca, const struct identity *node, const char *dir,
                     struct diag *why)
{
    int rc = make_dir(dir, why);

    if (rc == 0)
        rc = save_key(node, dir, "node.key", why);
    if (rc == 0)
        rc = save_certificate(node, dir, "node.pem", why);
    if (rc == 0)
        rc = save_certificate(ca, dir, ca_file, why);
    return rc;
}

int pki_add(const char *dir, const char *node, const char *const *host, int nhosts,
            struct diag *why)
{
    struct identity ca, id = { 0 };
    char folder[PATH_MAX];

    if (!is_node_name(node))
        return diag(why, -EINVAL, "\"%s\": expected letters, digits, '.', '_' and '-', at most %d",
                    node, CONFIG_NAME_MAX);
    int rc = identity_init(&ca, why);
    if (rc == 0)
        rc = load_authority(&ca, dir, why);
    if (rc == 0)
        rc = identity_init(&id, why);
    if (rc == 0)
        rc = tls_error(make_node(&id, &ca, node, host, nhosts), "the node's certificate", why);
    if (rc == 0)
        rc = join(folder, dir, node, why);
    if (rc == 0)
        rc = save_node(&ca, &id, folder, why);
    identity_done(&id);
    identity_done(&ca);
    return rc;
}
