#include <argp.h>
#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/discover.h"
#include "cli/parse.h"
#include "cli/pki.h"
#include "daemon/config.h"
#include "libsplit/file.h"
#include "libsplit/sidecar.h"

/* Where the models of the service are, and its configuration: debian/splitd.service. */
#define MODEL_DIR "/var/lib/splitd/models"
#define CONFIG_DIR "/etc/splitd"
#define TLS_DIR CONFIG_DIR "/tls"
/* Where the certificates are made, as splitctl pki does by itself. */
#define PKI_DIR "pki"

enum {
    KEY_CLUSTER = 300,
    KEY_COORDINATOR,
    KEY_DISCOVER,
    KEY_FORCE,
    KEY_LISTEN,
    KEY_PORT,
    KEY_TLS,
    KEY_USER
};
enum { DEFAULT_PORT = 7070, MAX_FILES = 4, DISCOVER_MS = 5000 };

struct node {
    char *name, *host; /* the host with its brackets, if it is an IPv6 address */
};

/* A model, and the files beside it that belong to it. */
struct model {
    char name[CONFIG_NAME_MAX + 1];
    int nfiles;
    char *file[MAX_FILES]; /* the ONNX file first; owned */
};

struct options {
    const char *cluster, *coordinator, *listen, *output, *user;
    char *nodes; /* cut up by take_nodes() */
    int32_t port;
    bool discover, force, tls;
    int32_t nnodes, nmodels;
    struct node node[CONFIG_MAX_NODES];
    const char *model_file[CONFIG_MAX_MODELS];
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    switch (key) {
    case 'n':
        o->nodes = arg;
        return 0;
    case 'm':
        if (o->nmodels == CONFIG_MAX_MODELS)
            argp_error(state, "--model: more than %d", CONFIG_MAX_MODELS);
        o->model_file[o->nmodels++] = arg;
        return 0;
    case 'o':
        o->output = arg;
        return 0;
    case KEY_CLUSTER:
        o->cluster = arg;
        return 0;
    case KEY_COORDINATOR:
        o->coordinator = arg;
        return 0;
    case KEY_LISTEN:
        o->listen = arg;
        return 0;
    case KEY_USER:
        o->user = arg;
        return 0;
    case KEY_PORT:
        if (!parse_int(arg, 1, 65535, &o->port))
            argp_error(state, "--port: '%s' is not a number from 1 to 65535", arg);
        return 0;
    case KEY_DISCOVER:
        o->discover = true;
        return 0;
    case KEY_FORCE:
        o->force = true;
        return 0;
    case KEY_TLS:
        o->tls = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is too much", arg);
        return EINVAL;
    case ARGP_KEY_END:
        if (!o->nodes == !o->discover)
            argp_error(state, o->nodes ? "--discover goes without --nodes" : "--nodes is missing");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    { "nodes", 'n', "NAME=HOST,...", 0,
      "The nodes and their addresses, such as pi1=10.0.0.11,pi2=10.0.0.12; a NAME alone is also "
      "its host",
      0 },
    { "discover", KEY_DISCOVER, NULL, 0,
      "List the nodes that announce themselves on this network, as --nodes takes them, and write "
      "nothing",
      0 },
    { "model", 'm', "FILE", 0, "An ONNX file; may be given several times", 0 },
    { "cluster", KEY_CLUSTER, "NAME", 0, "The cluster's name (default: home)", 0 },
    { "coordinator", KEY_COORDINATOR, "NAME", 0, "Whom clients talk to (default: the first node)",
      0 },
    { "listen", KEY_LISTEN, "HOST:PORT", 0,
      "Where the coordinator takes requests (default: 127.0.0.1:8080, itself only)", 0 },
    { "port", KEY_PORT, "N", 0, "Where nodes take messages of each other (default: 7070)", 0 },
    { "tls", KEY_TLS, NULL, 0,
      "Encrypt links and API: make keys and certificates in " PKI_DIR
      "/, and say how to bring them",
      0 },
    { "user", KEY_USER, "NAME", 0, "Who to be on the nodes, in the commands that are printed", 0 },
    { "output", 'o', "FILE", 0, "What to write (default: cluster.json)", 0 },
    { "force", KEY_FORCE, NULL, 0, "Replace the file if it is there", 0 },
    { 0 },
};

static const struct argp argp = {
    .options = options,
    .parser = parse,
    .doc = "Writes a cluster.json and says how to bring it, and the models, to the nodes.",
};

/* ---- nodes */

/* Cuts "pi1=10.0.0.11,pi2" into names and hosts. */
static int take_nodes(struct options *o, struct diag *why)
{
    char *rest = o->nodes, *one;

    while ((one = strsep(&rest, ",")) != NULL) {
        char *equals = strchr(one, '=');
        if (o->nnodes == CONFIG_MAX_NODES)
            return diag(why, -EINVAL, "--nodes: more than %d nodes", CONFIG_MAX_NODES);
        if (equals)
            *equals = '\0';
        struct node *n = &o->node[o->nnodes++];
        *n = (struct node){ .name = one, .host = equals ? equals + 1 : one };
        if (n->name[0] == '\0' || n->host[0] == '\0')
            return diag(why, -EINVAL, "--nodes: expected NAME=HOST,... such as pi1=10.0.0.11");
    }
    return 0;
}

/* Without the brackets of an IPv6 address. */
static void bare_host(const struct node *n, char *host, size_t cap)
{
    const size_t len = strlen(n->host);
    const bool brackets = n->host[0] == '[' && n->host[len - 1] == ']';
    snprintf(host, cap, "%.*s", (int)(brackets ? len - 2 : len), n->host + brackets);
}

/* What ssh, or scp (`brackets`), takes: with the user. */
static void put_host(const struct options *o, const struct node *n, bool brackets)
{
    char host[CONFIG_ADDRESS_MAX + 1];

    bare_host(n, host, sizeof host);
    if (o->user)
        printf("%s@", o->user);
    fputs(brackets ? n->host : host, stdout);
}

/* ---- models */

/* File names go into commands: nothing that a shell would take apart. */
static int check_name(const char *path, struct diag *why)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "._+=@%,/-";
    if (path[0] == '-' || path[strspn(path, plain)] != '\0')
        return diag(why, -EINVAL,
                    "%s: please rename it: letters, digits and ._+=@%%,/- go through every shell",
                    path);
    return 0;
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int add_file(struct model *m, const char *path, struct diag *why)
{
    if (access(path, R_OK) < 0)
        return diag(why, -errno, "%s: %s", path, strerror(errno));
    const int rc = check_name(path, why);
    if (rc < 0)
        return rc;
    m->file[m->nfiles] = strdup(path);
    return m->file[m->nfiles++] ? 0 : diag(why, -ENOMEM, "memory is short");
}

/* The file with the labels that a sidecar names; NULL if it names none.  free() it. */
static char *labels_file(const char *sidecar)
{
    struct diag ignored = { "" };
    uint8_t *bytes;
    size_t len;
    char *path = NULL;

    if (file_read(sidecar, CONFIG_MAX_FILE_BYTES, &bytes, &len, &ignored) < 0)
        return NULL;
    cJSON *json = cJSON_ParseWithLength((const char *)bytes, len);
    const char *labels = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "labels"));
    if (labels && asprintf(&path, "%.*s%s", (int)(base_of(sidecar) - sidecar), sidecar, labels) < 0)
        path = NULL;
    cJSON_Delete(json);
    free(bytes);
    return path;
}

/* The sidecar is read as the coordinator will read it. */
static int add_sidecar(struct model *m, const char *path, struct diag *why)
{
    struct sidecar s;

    int rc = sidecar_load(&s, path, why);
    if (rc < 0)
        return rc;
    sidecar_done(&s);
    rc = add_file(m, path, why);
    char *labels = labels_file(path);
    if (rc == 0 && labels)
        rc = add_file(m, labels, why);
    free(labels);
    return rc;
}

/* "Some Model.v2.onnx" -> "some-model.v2" */
static void name_model(char name[CONFIG_NAME_MAX + 1], const char *path)
{
    const char *base = base_of(path), *dot = strrchr(base, '.');
    size_t len = dot && dot > base ? (size_t)(dot - base) : strlen(base);

    len = len < CONFIG_NAME_MAX ? len : CONFIG_NAME_MAX;
    for (size_t i = 0; i < len; i++) {
        const int c = tolower((unsigned char)base[i]);
        name[i] = (char)(isalnum(c) || strchr("._-", c) ? c : '-');
    }
    name[len] = '\0';
    if (name[0] == '.')
        name[0] = '-';
}

/* "dir/resnet.onnx" -> "dir/resnet<ending>", if that is there; else NULL.  free() it. */
static char *file_beside(const char *path, const char *ending)
{
    const char *dot = strrchr(path, '.');
    const size_t stem = dot && dot > base_of(path) ? (size_t)(dot - path) : strlen(path);
    char *beside;

    if (asprintf(&beside, "%.*s%s", (int)stem, path, ending) < 0)
        return NULL;
    if (access(beside, F_OK) == 0)
        return beside;
    free(beside);
    return NULL;
}

static int find_model(struct model *m, const char *path, struct diag *why)
{
    char *sidecar = file_beside(path, ".json"), *halo = file_beside(path, ".halo.json");

    *m = (struct model){ 0 };
    name_model(m->name, path);
    int rc = add_file(m, path, why);
    if (rc == 0 && sidecar)
        rc = add_sidecar(m, sidecar, why);
    if (rc == 0 && halo)
        rc = add_file(m, halo, why);
    free(sidecar);
    free(halo);
    return rc;
}

static void free_models(struct model *m, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        for (int j = 0; j < m[i].nfiles; j++)
            free(m[i].file[j]);
    free(m);
}

/* ---- cluster.json */

static void put_text(FILE *to, const char *text)
{
    cJSON *value = cJSON_CreateString(text);
    char *quoted = value ? cJSON_PrintUnformatted(value) : NULL;

    fputs(quoted ? quoted : "", to);
    cJSON_free(quoted);
    cJSON_Delete(value);
}

static void put_nodes(FILE *to, const struct options *o)
{
    size_t longest = 0;

    for (int32_t i = 0; i < o->nnodes; i++)
        if (strlen(o->node[i].name) > longest)
            longest = strlen(o->node[i].name);
    fputs("  \"nodes\": [\n", to);
    for (int32_t i = 0; i < o->nnodes; i++) {
        const struct node *n = &o->node[i];
        fputs("    { \"name\": ", to);
        put_text(to, n->name);
        fprintf(to, ",%*s \"address\": \"tcp://%s:%d\" }%s\n", (int)(longest - strlen(n->name)), "",
                n->host, o->port, i + 1 < o->nnodes ? "," : "");
    }
    fputs("  ],\n", to);
}

static void put_models(FILE *to, const struct model *m, int32_t n)
{
    fputs("  \"models\": [", to);
    for (int32_t i = 0; i < n; i++) {
        char file[CONFIG_PATH_MAX + 1];
        snprintf(file, sizeof file, MODEL_DIR "/%s", base_of(m[i].file[0]));
        fprintf(to, "%s\n    { \"name\": ", i > 0 ? "," : "");
        put_text(to, m[i].name);
        fputs(", \"file\": ", to);
        put_text(to, file);
        fputs(" }", to);
    }
    fputs(n > 0 ? "\n  ],\n" : "],\n", to);
}

static const char tls_end[] = ",\n  \"tls\": { \"ca\": \"" TLS_DIR "/ca.pem\",\n"
                              "           \"certificate\": \"" TLS_DIR "/node.pem\",\n"
                              "           \"key\": \"" TLS_DIR "/node.key\" }";
static const char insecure_end[] = ",\n  \"insecure\": true";

/* `end`: what it says about encryption.  free() it; NULL when memory is short. */
static char *config_text(const struct options *o, const struct model *m, const char *end)
{
    char *text = NULL;
    size_t len;
    FILE *to = open_memstream(&text, &len);

    if (!to)
        return NULL;
    fputs("{ \"cluster\": ", to);
    put_text(to, o->cluster);
    fputs(",\n  \"coordinator\": ", to);
    put_text(to, o->coordinator ? o->coordinator : o->node[0].name);
    fputs(",\n", to);
    put_nodes(to, o);
    put_models(to, m, o->nmodels);
    fputs("  \"http\": { \"listen\": ", to);
    put_text(to, o->listen);
    fprintf(to, " }%s }\n", end);
    if (fclose(to) == 0)
        return text;
    free(text);
    return NULL;
}

/* As splitd will read it.  Links beyond this machine are plain TCP if nobody wants it otherwise,
 * which has to be said. */
static int make_config(const struct options *o, const struct model *m, struct config *c,
                       char **text, struct diag *why)
{
    const char *const ends[] = { o->tls ? tls_end : "", o->tls ? tls_end : insecure_end };
    int rc = -EINVAL;

    for (int i = 0; rc < 0 && i < 2; i++) {
        free(*text);
        *text = config_text(o, m, ends[i]);
        if (!*text)
            return diag(why, -ENOMEM, "memory is short");
        rc = config_parse(c, *text, strlen(*text), o->output, why);
    }
    return rc;
}

/* ---- certificates */

/* What is there already, of an earlier init, stays. */
static int make_certificates(const struct options *o, const struct config *c, struct diag *why)
{
    char path[sizeof PKI_DIR + CONFIG_NAME_MAX + 16], host[CONFIG_ADDRESS_MAX + 1];
    int rc = access(PKI_DIR "/ca.pem", F_OK) == 0 ? 0 : pki_init(PKI_DIR, c->cluster, why);

    for (int32_t i = 0; rc == 0 && i < c->nnodes; i++) {
        const char *hosts[] = { host };
        bare_host(&o->node[i], host, sizeof host);
        snprintf(path, sizeof path, PKI_DIR "/%s/ca.pem", c->node[i].name);
        if (access(path, F_OK) != 0)
            rc = pki_add(PKI_DIR, c->node[i].name, hosts, 1, why);
    }
    return rc;
}

/* ---- what to do with it */

static void print_model_commands(const struct options *o, const struct node *coordinator,
                                 const struct model *m)
{
    printf("    scp");
    for (int i = 0; i < m->nfiles; i++)
        printf(" %s", m->file[i]);
    putchar(' ');
    put_host(o, coordinator, true);
    printf(":\n    ssh -t ");
    put_host(o, coordinator, false);
    printf(" sudo install -m 644 -t " MODEL_DIR);
    for (int i = 0; i < m->nfiles; i++)
        printf(" %s", base_of(m->file[i]));
    putchar('\n');
}

static void print_node_commands(const struct options *o, const struct node *n)
{
    const char *base = base_of(o->output);

    if (o->tls)
        printf("    scp -r %s " PKI_DIR "/%s ", o->output, n->name);
    else
        printf("    scp %s ", o->output);
    put_host(o, n, true);
    printf(":\n    ssh -t ");
    put_host(o, n, false);
    printf(" '");
    if (o->tls)
        printf("sudo install -m 600 -t " TLS_DIR " %s/* && rm -r %s && ", n->name, n->name);
    printf("sudo install -m 644 %s " CONFIG_DIR "/cluster.json && sudo systemctl restart splitd'\n",
           base);
}

/* Where the coordinator takes requests, as options of splitctl on its machine. */
static void print_server(const struct config *c)
{
    const bool anywhere = strcmp(c->http_host, "0.0.0.0") == 0 || strcmp(c->http_host, "::") == 0;
    const char *host = anywhere ? "127.0.0.1" : c->http_host;

    if (!c->secure && strcmp(host, "127.0.0.1") == 0 && c->http_port == 8080)
        return;
    printf(strchr(host, ':') ? " --server http%s://[%s]:%u" : " --server http%s://%s:%u",
           c->secure ? "s" : "", host, c->http_port);
    if (c->secure)
        printf(" --ca " TLS_DIR "/ca.pem");
}

static void print_commands(const struct options *o, const struct model *m, const struct config *c)
{
    const struct node *coordinator = &o->node[c->coordinator];
    const char *sudo = c->secure ? "sudo " : "", *terminal = c->secure ? "-t " : "";

    printf("%s: cluster %s, %d node%s, coordinator %s, %d model%s.\n", o->output, c->cluster,
           c->nnodes, plural(c->nnodes), coordinator->name, c->nmodels, plural(c->nmodels));
    if (c->insecure)
        printf("Links between nodes are not encrypted: use it where you trust every machine, or "
               "say --tls.\n");
    if (o->nmodels > 0)
        printf("\nBring the models to %s:\n\n", coordinator->name);
    for (int32_t i = 0; i < o->nmodels; i++)
        print_model_commands(o, coordinator, &m[i]);
    printf("\nBring the file%s to every node:\n\n", o->tls ? ", and its key and certificate," : "");
    for (int32_t i = 0; i < o->nnodes; i++)
        print_node_commands(o, &o->node[i]);
    printf("\nThen see whether they found each other:\n\n    ssh %s", terminal);
    put_host(o, coordinator, false);
    printf(" %ssplitctl status --wait 60", sudo);
    print_server(c);
    printf("\n    ssh %s", terminal);
    put_host(o, coordinator, false);
    printf(" %ssplitctl doctor\n", sudo);
    if (o->tls) {
        printf("\nThe keys are not needed here any more; whoever has " PKI_DIR
               "/ca.key can add nodes:\n\n    rm -r");
        for (int32_t i = 0; i < o->nnodes; i++)
            printf(" " PKI_DIR "/%s", o->node[i].name);
        printf("\n");
    }
}

/* The file's name goes into commands too, and nobody's work is lost. */
static int check_output(const struct options *o, struct diag *why)
{
    if (!o->force && access(o->output, F_OK) == 0)
        return diag(why, -EEXIST, "%s is there already: --force replaces it", o->output);
    return check_name(o->output, why);
}

static int init(struct options *o, struct model *m, struct config *c, struct diag *why)
{
    char *text = NULL;

    int rc = take_nodes(o, why);
    for (int32_t i = 0; rc == 0 && i < o->nmodels; i++)
        rc = find_model(&m[i], o->model_file[i], why);
    if (rc == 0)
        rc = make_config(o, m, c, &text, why);
    if (rc == 0)
        rc = check_output(o, why);
    if (rc == 0 && o->tls)
        rc = make_certificates(o, c, why);
    if (rc == 0)
        rc = file_write(o->output, text, strlen(text), why);
    if (rc == 0)
        print_commands(o, m, c);
    free(text);
    return rc;
}

/* ---- who is there */

/* Two machines of one name: mDNS calls the second one NAME-2, but itself it is called NAME. */
static bool is_second(const struct discovery *d, const char *name)
{
    const char *dash = strrchr(name, '-');

    if (!dash || dash[1] == '\0' || dash[1 + strspn(dash + 1, "0123456789")] != '\0')
        return false;
    for (int32_t i = 0; i < d->n; i++)
        if (strlen(d->node[i].name) == (size_t)(dash - name) &&
            strncmp(d->node[i].name, name, (size_t)(dash - name)) == 0)
            return true;
    return false;
}

static int list_nodes(struct diag *why)
{
    struct discovery d;
    const int rc = discover(&d, DISCOVER_MS, why);

    if (rc < 0)
        return rc;
    if (d.ignored > 0)
        fprintf(stderr, "splitctl: %d announcements that no node of ours makes, or too many\n",
                d.ignored);
    if (d.n == 0)
        return diag(why, -ENOENT,
                    "no node announces itself on this network; how they are made to: man splitd");
    for (int32_t i = 0; i < d.n; i++)
        printf("%-15s %s%s\n", d.node[i].name, d.node[i].host,
               is_second(&d, d.node[i].name)
                   ? "    (called like another one: sudo hostnamectl hostname ...)"
                   : "");
    printf("\nAnybody on this network can announce a node.  If these are your machines:\n\n"
           "    splitctl init --nodes ");
    for (int32_t i = 0; i < d.n; i++)
        printf("%s%s=%s", i > 0 ? "," : "", d.node[i].name, d.node[i].host);
    printf(" --model FILE\n");
    return 0;
}

int cmd_init(int argc, char **argv)
{
    struct options o = { .cluster = "home",
                         .listen = "127.0.0.1:8080",
                         .output = "cluster.json",
                         .port = DEFAULT_PORT };
    struct diag why = { "" };

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return RESULT_USAGE;
    if (o.discover)
        return list_nodes(&why) < 0 ? complain("%s", why.text) : RESULT_OK;
    struct model *m = calloc((size_t)o.nmodels + 1, sizeof *m);
    struct config *c = calloc(1, sizeof *c);
    const int rc = m && c ? init(&o, m, c, &why) : diag(&why, -ENOMEM, "memory is short");
    free(c);
    if (m)
        free_models(m, o.nmodels);
    return rc < 0 ? complain("%s", why.text) : RESULT_OK;
}
