/* daemon/config.h - cluster.json, the same file on every node.
 *
 *   { "cluster": "attic",                      name, the same on all nodes
 *     "coordinator": "pi1",                    the node that clients talk to
 *     "nodes": [ { "name": "pi1",
 *                  "address": "tcp://10.0.0.11:7070",   or ipc:///path
 *                  "weight": 1,                relative speed, 1..1000 (default 1)
 *                  "threads": 4,               that compute, 1..64 (default: config_threads())
 *                  "max_memory": "700MB" } ],  for weights and activations (default: no limit)
 *     "models": [ { "name": "resnet18",        [a-z0-9._-], as it stands in URLs
 *                   "file": "/var/lib/splitd/models/resnet18.onnx",
 *                   "sidecar": "..." } ],      default: the .json beside the file
 *     "model_folder": "/var/lib/splitd/models",  models are read from here only (default: anywhere)
 *     "http": { "listen": "127.0.0.1:8080",
 *               "token": "/etc/splitd/tls/token" }, file of a text that clients have to know
 *     "tls": { "ca": "/etc/splitd/tls/ca.pem",  for links and HTTP; all three; PEM
 *              "certificate": "/etc/splitd/tls/node.pem",
 *              "key": "/etc/splitd/tls/node.key" },
 *     "insecure": false,                       true allows addresses beyond loopback without TLS
 *     "heartbeat_ms": 100, "lost_ms": 300,     10..10000; lost at least twice heartbeat
 *     "request_timeout_ms": 30000,             100..600000
 *     "halo": "f32",                           between nodes: f32 (exact), f16, q8 or q4; tq, or
 *                                              video for a still camera: as the model's halo file
 *                                              says (splitctl calibrate); drop: nothing; auto, the
 *                                              default: f32 where a model has no halo file, else
 *                                              the fastest of tq, f32, f16 and what the file
 *                                              vouches for, by measuring (daemon/trial.h)
 *     "late_halo": "wait",                     what nodes do about halos that are late: wait, or
 *                                              conceal: put their own border rows in their place.
 *                                              Answers say how many were ("splitd_concealed")
 *     "late_halo_ms": 50,                      conceal: how long a node waits for each, 1..10000
 *     "policy": "auto",                        values that a node lacks: exchange them, recompute
 *                                              them, or auto: what costs less
 *     "costs": { "macs_per_us": 20000,         by which plans are chosen, each 1..1000000: of one
 *                "weight_bytes_per_us": 4000,  node of average speed, see struct plan_costs; the
 *                "link_bytes_per_us": 100,     defaults are about a Raspberry Pi 4 on gigabit
 *                "message_us": 200 },          Ethernet
 *     "queue": 64 }                            requests that may wait, 1..4096
 *
 * cluster, coordinator and nodes are required; the values above are the defaults of the rest,
 * and no models, no token and no TLS.  A tcp:// address or http.listen beyond loopback is refused
 * unless there is TLS or "insecure" is true.  Files of tls and the token: daemon/secret.h.
 *
 * Unknown keys, missing keys, wrong types and impossible values are errors that name file,
 * place, value and what is allowed. */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libsplit/diag.h"
#include "tiling/plan.h"

enum {
    CONFIG_MAX_NODES = 16,
    CONFIG_MAX_MODELS = 64,
    CONFIG_NAME_MAX = 64, /* bytes without the NUL, as proto/hello.h */
    CONFIG_PATH_MAX = 1023,
    CONFIG_ADDRESS_MAX = 127,
    CONFIG_MAX_FILE_BYTES = 1 << 20,
};

struct config_node {
    char name[CONFIG_NAME_MAX + 1];
    char address[CONFIG_ADDRESS_MAX + 1]; /* NNG address */
    int32_t weight;
    int32_t threads;    /* 0: not said, see config_threads() */
    int64_t max_memory; /* bytes, 0: no limit */
};

struct config_model {
    char name[CONFIG_NAME_MAX + 1];
    char file[CONFIG_PATH_MAX + 1];
    char sidecar[CONFIG_PATH_MAX + 1]; /* "": beside the file, if it is there */
};

/* Paths, "" where there is none. */
struct config_tls {
    char ca[CONFIG_PATH_MAX + 1];
    char certificate[CONFIG_PATH_MAX + 1];
    char key[CONFIG_PATH_MAX + 1];
};

struct config {
    char cluster[CONFIG_NAME_MAX + 1];
    int32_t coordinator; /* index in node[] */
    int32_t nnodes, nmodels;
    struct config_node node[CONFIG_MAX_NODES];
    struct config_model model[CONFIG_MAX_MODELS];
    char http_host[64];
    uint16_t http_port;
    char http_token[CONFIG_PATH_MAX + 1];   /* a file; "": everybody may ask */
    char model_folder[CONFIG_PATH_MAX + 1]; /* "": anywhere */
    bool secure;                            /* tls is set */
    struct config_tls tls;
    bool insecure;
    int32_t heartbeat_ms, lost_ms, request_timeout_ms, queue;
    enum halo halo; /* how exactly values travel between nodes */
    bool conceal;   /* late halos, once late_ms have passed */
    int32_t late_ms;
    enum plan_policy policy;
    struct plan_costs costs; /* 0: the default */
    uint8_t sha[32];         /* SHA-256 of the file's bytes */
};

/* Parses `json` of `len` bytes; `file` is only quoted in messages.  Returns 0, or -EINVAL with
 * `*why`; `*c` is written only on success. */
int config_parse(struct config *c, const char *json, size_t len, const char *file,
                 struct diag *why);
int config_load(struct config *c, const char *file, struct diag *why);

/* The index of the node called `name`; `name` NULL: the one called like this host or, if none is,
 * the only one whose address (in numbers) is this host's.  -ENOENT with a sentence that lists the
 * names. */
int config_self(const struct config *c, const char *name, struct diag *why);

/* Host and port of a tcp:// address that was checked; the brackets of an IPv6 address are taken
 * off.  False for ipc://. */
bool config_host_port(const char *address, char host[CONFIG_ADDRESS_MAX + 1], uint16_t *port);

/* Threads that compute on node `self`, which this process is: what the file says, else the
 * processors that the process may use, divided by the nodes on this machine (those whose address
 * has the same host; loopback and ipc:// count as one), 1..64. */
int32_t config_threads(const struct config *c, int32_t self);

#endif
